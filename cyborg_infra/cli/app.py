"""The list of commands, and the one boundary where errors become text and an exit code."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import pairwise
from keyword import iskeyword
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from cyborg_infra import __version__
from cyborg_infra.cli import complete
from cyborg_infra.cli.command import CommandWithConnection
from cyborg_infra.model.problems import EXIT_ERROR, EXIT_OK, CyborgError, Problem, UsageInvalid

# What a wrong command line raises. Some versions of typer carry a click of their own: this is theirs, or click's.
UsageError: Any = typer.BadParameter.__mro__[1]

# A full disk, quota or file system. What is wrong with a file of the user's is told where it is used.
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_IN_MARKDOWN = ("plan", "drift")
_SEE_WHAT_IS_LEFT = "`cyborg-infra plan` shows what is left to do"
_SEED = re.compile(r"S[ACNOUX][A-Z2-7]{56}|s[acnoux][a-z2-7]{56}")
"""What opens an account: the seed of an nkey; in small letters too, as names of hosts are told."""
_OPTION = "--[a-z-]+"
_TAKES_A_SECRET = ("--seed", "--password", "--token", "--jwt")

_INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt

COMMANDS = (
    *("init", "import", "validate", "show", "plan", "apply", "drift", "status", "destroy", "unlock"),
    *("dlq", "auth", "verify", "message", "send", "export", "schema", "dev", "monitor"),
)
"""What can be typed; each is a module with a `command` and its EXAMPLES, or with several in its own COMMANDS.

A module is imported when its command is run, and what it needs with it: start-up is the whole cost of a small plan.
"""


def command_module(name: str) -> ModuleType:
    """Return the module of a command, or of a group of them. Imports it."""
    return import_module(f"cyborg_infra.cli.{name}{'_' * iskeyword(name)}")


def typer_app(wanted: Iterable[str]) -> typer.Typer:
    """Return the command line, as far as it has the commands that are `wanted`."""
    app = typer.Typer(
        name="cyborg-infra",
        help="Declarative provisioner for the NATS JetStream backbone of an organisation of AI agents.",
        epilog="Exit codes: 0 done or in sync, 1 error, 2 differences (drift, plan --detailed-exitcode) or alarms (status --check), 3 refused.",
        rich_markup_mode=None,  # importing rich for --help alone costs 50 ms at every start
        pretty_exceptions_enable=False,  # they would print local variables, and with them secrets
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(main)
    complete.at_the_first_tab()
    for name in wanted:
        module = command_module(name)
        if hasattr(module, "COMMANDS"):
            group = typer.Typer(help=module.HELP, rich_markup_mode=None)
            for word, (command, example) in module.COMMANDS.items():
                group.command(name=word, cls=CommandWithConnection, epilog=example)(command)
            app.add_typer(group, name=name)
        else:
            app.command(name=name, cls=CommandWithConnection, epilog=module.EXAMPLES)(module.command)
    return app


def names() -> list[str]:
    """Return the words that can be typed after `cyborg-infra`, with the words of a group after its own name."""
    return [
        full
        for name in COMMANDS
        for full in (name, *(f"{name} {word}" for word in getattr(command_module(name), "COMMANDS", ())))
    ]


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"cyborg-infra {__version__}")
        raise typer.Exit


def main(
    *,
    _show_version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    """Handle the options before the command."""


def run_command_line(arguments: Sequence[str]) -> int:
    """Run one command, print all that it says, and return its exit code. Nothing but a bug of ours prints a traceback."""
    # Closed by whoever started us: nobody wants to read it.
    sys.stdout, sys.stderr = (
        stream or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as we run
        for stream in (sys.stdout, sys.stderr)
    )
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; there is nobody to tell
        return EXIT_ERROR
    except Exception as error:  # noqa: BLE001 - a bug keeps its traceback and asks for a report
        if isinstance(error, OSError) and error.errno in _NOT_WRITTEN:
            return _report(
                CyborgError(
                    Problem(
                        "output",
                        f"the output could not be written: {error.strerror}",
                        None,
                        _SEE_WHAT_IS_LEFT,
                    )
                ),
                (),  # in JSON it could not be written either
            )
        sys.stderr.write(_without_seeds(traceback.format_exc()))
        sys.stderr.write("This is a bug in cyborg-infra. Please report it with the lines above.\n")
        return EXIT_ERROR
    return code


def _run(arguments: Sequence[str]) -> int:
    command = next((word for word in arguments if not word.startswith("-")), None)
    others = () if "--version" in arguments else COMMANDS
    try:
        _refuse_seeds(arguments)
        app = typer_app([command] if command in COMMANDS else others)
        code = app(args=list(arguments) or ["--help"], standalone_mode=False, prog_name="cyborg-infra")
        if code == _INTERRUPTED:
            raise KeyboardInterrupt  # noqa: TRY301 - as it was before typer caught it
    except CyborgError as error:
        return _report(error, arguments)
    except UsageError as error:
        context = getattr(error, "ctx", None)
        message = " ".join(error.format_message().split()).rstrip(".")
        hint = f"try: {context.command_path} --help" if context else None
        if context and message == "Missing command":
            hint = f"{context.command_path} has {', '.join(context.command.list_commands(context))}; {hint}"
        return _report(UsageInvalid(Problem("usage", message, None, hint)), arguments)
    except (typer.Abort, KeyboardInterrupt):
        return _report(CyborgError(Problem("interrupted", "interrupted", None, _SEE_WHAT_IS_LEFT)), arguments)
    return code if isinstance(code, int) else EXIT_OK


def _refuse_seeds(arguments: Sequence[str]) -> None:
    """Raise UsageInvalid for a seed where none belongs: it would be the name of a file, in errors and on the disk."""
    for before, word in pairwise(("", *arguments)):
        option, equals, _ = word.partition("=")
        option = option if equals and re.fullmatch(_OPTION, option) else before
        if _SEED.search(word) and option not in _TAKES_A_SECRET:
            what = f"{option} was given" if re.fullmatch(_OPTION, option) else "the command line has"
            hint = (
                "write it to a file for its owner alone; and make a new key, as others may have seen this one"
            )
            raise UsageInvalid(Problem("seed", f"{what} a seed itself, where none belongs", None, hint))


def _without_seeds(text: str) -> str:
    return _SEED.sub("(a seed)", text)


def _told(problem: Problem) -> Problem:
    """Return a problem as it may be printed: what came from a variable or a file may have been a seed."""
    if not _SEED.search(str(problem)):
        return problem
    where = problem.where and problem.where._replace(file=_without_seeds(problem.where.file))
    hint = problem.hint and _without_seeds(problem.hint)
    return problem._replace(message=_without_seeds(problem.message), where=where, hint=hint)


def _report(error: CyborgError, arguments: Sequence[str]) -> int:
    error.problems = tuple(map(_told, error.problems))
    from cyborg_infra.render.terminal import console, problems

    if _wants(arguments, "json"):
        from cyborg_infra.render import json_format

        sys.stdout.write(json.dumps(json_format.problems(error), indent=2) + "\n")
    if _wants(arguments, "markdown") and set(_IN_MARKDOWN) & set(arguments):
        from cyborg_infra.render import markdown

        sys.stdout.write(markdown.problems(error))
    console.stderr(no_color="--no-color" in arguments).print(problems.problems(error))
    return error.exit_code


def _wants(arguments: Sequence[str], output: str) -> bool:
    return f"--format={output}" in arguments or ("--format", output) in pairwise(arguments)
