"""The list of commands, and the one boundary where errors become text and an exit code."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import typer

from cyborg_infra.cli import (
    apply,
    destroy,
    dev,
    dlq,
    drift,
    import_,
    init,
    message,
    plan,
    send,
    show,
    status,
    unlock,
    validate,
    verify,
)
from cyborg_infra.model.problems import EXIT_ERROR, EXIT_OK, CyborgError, Problem, UsageInvalid

# What a wrong command line raises. Some versions of typer carry a click of their own: this is theirs, or click's.
UsageError: Any = typer.BadParameter.__mro__[1]

_INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt

COMMANDS: Mapping[str, ModuleType] = {
    "init": init,
    "import": import_,
    "validate": validate,
    "show": show,
    "plan": plan,
    "apply": apply,
    "drift": drift,
    "status": status,
    "destroy": destroy,
    "unlock": unlock,
    "dlq": dlq,
    "verify": verify,
    "message": message,
    "send": send,
    "dev": dev,
}
"""Each module has a `command` with EXAMPLES, or several in its COMMANDS."""

app = typer.Typer(
    name="cyborg-infra",
    help="Declarative provisioner for the NATS JetStream backbone of an organisation of AI agents.",
    epilog="Exit codes: 0 done or in sync, 1 error, 2 differences (drift, plan --detailed-exitcode) or alarms (status --check), 3 refused.",
    rich_markup_mode=None,  # importing rich for --help alone costs 50 ms at every start
    pretty_exceptions_enable=False,  # they would print local variables, and with them secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, module in COMMANDS.items():
    if hasattr(module, "COMMANDS"):
        group = typer.Typer(help=module.HELP, rich_markup_mode=None)
        for word, (command, example) in module.COMMANDS.items():
            group.command(name=word, epilog=example)(command)
        app.add_typer(group, name=name)
    else:
        app.command(name=name, epilog=module.EXAMPLES)(module.command)


def names() -> list[str]:
    """What can be typed after `cyborg-infra`, with the words of a group after its own name."""
    return [
        full
        for name, module in COMMANDS.items()
        for full in (name, *(f"{name} {word}" for word in getattr(module, "COMMANDS", ())))
    ]


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        from importlib.metadata import version

        typer.echo(f"cyborg-infra {version('cyborg-infra')}")
        raise typer.Exit


@app.callback()
def main(
    *,
    _show_version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    """What comes before the command."""


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code. Nothing but a bug of ours prints a traceback."""
    try:
        code = app(args=list(arguments) or ["--help"], standalone_mode=False, prog_name="cyborg-infra")
        if code == _INTERRUPTED:
            raise KeyboardInterrupt  # noqa: TRY301 - as it was before typer caught it
    except CyborgError as error:
        return _report(error, arguments)
    except UsageError as error:
        context = getattr(error, "ctx", None)
        hint = f"try: {context.command_path} --help" if context else None
        return _report(
            UsageInvalid(Problem("usage", error.format_message().rstrip("."), None, hint)), arguments
        )
    except (typer.Abort, KeyboardInterrupt):
        return _report(
            CyborgError(
                Problem("interrupted", "interrupted", None, "`cyborg-infra plan` shows what is left to do")
            ),
            arguments,
        )
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; there is nobody to tell
        return EXIT_ERROR
    except Exception:  # noqa: BLE001 - a bug keeps its traceback and asks for a report
        traceback.print_exc()
        sys.stderr.write("This is a bug in cyborg-infra. Please report it with the lines above.\n")
        return EXIT_ERROR
    return code if isinstance(code, int) else EXIT_OK


def _report(error: CyborgError, arguments: Sequence[str]) -> int:
    from cyborg_infra.render import console, data, text

    if _wants_json(arguments):
        sys.stdout.write(json.dumps(data.problems(error), indent=2) + "\n")
    console.stderr(no_color="--no-color" in arguments).print(text.problems(error))
    return error.exit_code


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--format=json" in arguments or ("--format", "json") in pairwise(arguments)
