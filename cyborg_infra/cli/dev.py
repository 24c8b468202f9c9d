"""`dev`: a server of one's own with the manifest applied, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra import pipeline
from cyborg_infra.cli.options import MANIFEST, Env, Manifest, NoColor
from cyborg_infra.model.plan import Done
from cyborg_infra.model.problems import EXIT_ERROR

EXAMPLES = "Example: cyborg-infra dev org.yaml --port 4222 --store ./nats-data"

Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Keep the data in this directory; without it, it is gone at the end.",
        metavar="DIR",
        show_default=False,
    ),
]
_LOOK = 0.2  # seconds between two looks at whether the server still runs
Port = Annotated[int, typer.Option("--port", help="Port on 127.0.0.1; 0 is a free one.", min=0, max=65535)]


def command(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    store: Store = None,
    port: Port = 0,
    no_color: NoColor = False,
) -> None:
    """Run a nats-server on 127.0.0.1 with the manifest applied, until Ctrl-C. Needs cyborg-infra[server]."""
    from cyborg_infra.render import console, text

    wanted = pipeline.wish(manifest, env)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # a container's end sends it: the same as Ctrl-C
    with ExitStack() as stack:
        directory = store or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="cyborg-infra-dev-"))
        )
        server = stack.enter_context(pipeline.embedded(directory, port))
        target = pipeline.resolve(pipeline.Flags(server=server.url, no_context=True), {})
        found = pipeline.plan(wanted, target)
        outcomes = pipeline.apply(found, wanted, target) if found else []
        out = console.stdout(no_color=no_color)
        out.print(text.applied(outcomes))
        if any(outcome.done is not Done.DONE for outcome in outcomes):
            raise typer.Exit(EXIT_ERROR)
        out.print(text.dev(server.url, wanted.desired, kept_in=str(store) if store else None))
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(_LOOK)
                server.check()
    sys.stderr.write("Stopped.\n")
