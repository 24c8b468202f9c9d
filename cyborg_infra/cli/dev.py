"""`dev`: a server of one's own with the manifest applied, until Ctrl-C."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra.cli.auth.server_config import write_contexts
from cyborg_infra.cli.options import MANIFEST, Env, Manifest, NoColor
from cyborg_infra.interrupts import end_in_order
from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.plan import ResultStatus
from cyborg_infra.model.problems import EXIT_ERROR
from cyborg_infra.model.standing import Standing
from cyborg_infra.operations import identities, targets

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
_POLL_SECONDS = 0.2  # seconds between two looks at whether the server still runs
Port = Annotated[int, typer.Option("--port", help="Port on 127.0.0.1; 0 is a free one.", min=0, max=65535)]

Auth = Annotated[
    bool,
    typer.Option(
        "--auth", help="Every role has a key of its own, and may do what its role does and no more."
    ),
]
Keys = Annotated[
    Path,
    typer.Option(
        "--keys", help="With --auth: where the keys and contexts are; what is missing is made.", metavar="DIR"
    ),
]


def command(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    store: Store = None,
    port: Port = 0,
    auth: Auth = False,
    keys: Keys = Path("keys"),
    no_color: NoColor = False,
) -> None:
    """Run a nats-server on 127.0.0.1 with the manifest applied. Ctrl-C ends it. Needs cyborg-infra[server]."""
    from cyborg_infra.operations import provision
    from cyborg_infra.render.terminal import console
    from cyborg_infra.render.terminal import plan as text

    wanted = provision.load_request(manifest, env)
    loaded = identities.load_identities(manifest, env) if auth else None
    config = _config(loaded, keys) if loaded else ""
    end_in_order()
    with ExitStack() as stack:
        directory = store or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="cyborg-infra-dev-"))
        )
        server = stack.enter_context(
            provision.embedded_server(directory, port, config, is_temporary=store is None)
        )
        login = targets.Flags(server=server.url, no_context=True)
        operator = None
        if loaded:
            contexts = write_contexts(loaded.org, loaded.found, keys, server.url)
            writer, operator = (
                contexts / f"{loaded.org.auth.name_of(each)}.json"
                for each in (Standing.WRITER, Standing.OPERATOR)
            )
            login = targets.Flags(context=str(writer))
        target = targets.resolve(login, {})
        found = provision.plan(wanted, target)
        request = provision.ApplyRequest(found, allow=(HazardName.ENVIRONMENT_CHANGE,))
        outcomes = provision.apply(request, target) if found else []
        out = console.stdout(no_color=no_color)
        out.print(text.applied(outcomes))
        if any(outcome.status is not ResultStatus.SUCCEEDED for outcome in outcomes):
            raise typer.Exit(EXIT_ERROR)
        with suppress(KeyboardInterrupt):  # as soon as anybody can know that it listens
            named, kept = manifest if manifest != MANIFEST else None, str(store) if store else None
            out.print(
                text.dev(server.url, wanted.desired, manifest=named, kept_in=kept, as_operator=operator)
            )
            sys.stdout.flush()
            while True:
                time.sleep(_POLL_SECONDS)
                server.check()
    sys.stderr.write("Stopped.\n")


def _config(loaded: identities.Identities, keys: Path) -> str:
    """Return the accounts block, with keys that are made where they are missing."""
    from cyborg_infra.render import server_config

    identities.make_keys(loaded.found, keys)
    public = identities.public_keys(loaded.found, keys)
    names = identities.account_names(loaded.org)
    return server_config.accounts(loaded.org, loaded.found, public, names, loaded.crossings)
