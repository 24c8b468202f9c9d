"""`export`: what a manifest says, in the files of another tool. Needs no server but with --live."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra.cli.connection_options import connected, target_of
from cyborg_infra.cli.options import MANIFEST, Env, Manifest
from cyborg_infra.model.problems import EXIT_DIFFERENCES, ExportRefused, Problem, UsageInvalid
from cyborg_infra.operations import exports, targets

EXAMPLES = "Example: cyborg-infra export nats org.yaml --out exported"

FormatName = Annotated[
    str | None,
    typer.Argument(
        help="Which one [default: list all, with their settings].",
        metavar="FORMAT",
        show_default=False,
        autocompletion=lambda: list(exports.FORMATS),
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="The directory to write to [default: stdout].", metavar="DIR", show_default=False
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A setting of the format; may be repeated.", metavar="NAME=VALUE", show_default=False
    ),
]
Check = Annotated[
    bool, typer.Option("--check", help="Write nothing; exit 2 if what is in DIR is out of date.")
]
Live = Annotated[
    bool, typer.Option("--live", help="Take the settings of streams and consumers from the server.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit 3, with nothing written, if the format cannot say all of it.")
]


@connected
def command(
    format_: FormatName = None,
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    out: Out = None,
    settings: Settings = None,
    check: Check = False,
    live: Live = False,
    strict: Strict = False,
    flags: targets.Flags,
) -> None:
    """Write what a manifest says in the files of another tool. Needs no server, except with --live.

    What the format cannot say is a comment in what is written, and a note on stderr. A file that an export did not write,
    or that was changed since, stays as it is. Without a format it lists them.
    """
    if format_ is None:
        sys.stdout.write("".join(_list_formats()))
        return
    if check and out is None:
        raise UsageInvalid(Problem("usage", "--check needs --out", None, "name the directory to look at"))
    target = None
    if live:
        target = target_of(flags)
    made = exports.export(exports.ExportRequest(format_, manifest, env, settings or (), target))
    if made.gaps and strict:
        raise ExportRefused(*(Problem("cannot-say", gap) for gap in made.gaps))
    for gap in made.gaps:
        sys.stderr.write(f"Note: {gap}\n")
    if out is None:
        _print(format_, made)
    elif check:
        _check(format_, out, made)
    else:
        from cyborg_infra.cli.export_files import write_export
        from cyborg_infra.render.values import plural

        changed = write_export(out, format_, made.files)
        wrote = (
            f"Wrote {plural(len(changed), 'file')} in {out}."
            if changed
            else f"Nothing to write: {out} is up to date."
        )
        sys.stderr.write(f"{wrote}\n")


def _print(name: str, made: exports.Export) -> None:
    if len(made.files) > 1:
        hint = "name a directory with --out"
        raise UsageInvalid(Problem("usage", f"{name} is {len(made.files)} files", None, hint))
    sys.stdout.write("".join(made.files.values()))


def _check(name: str, out: Path, made: exports.Export) -> None:
    from cyborg_infra.cli.export_files import outdated

    found = outdated(out, name, made.files)
    sys.stdout.write("".join(f"{out / path}\n" for path in found))
    if found:
        raise typer.Exit(EXIT_DIFFERENCES)


def _list_formats() -> Iterator[str]:
    for name, row in exports.FORMATS.items():
        yield f"{name}: {row.about}\n"
        for word, setting in row.settings.items():
            choices = f"; {' or '.join(setting.choices)}" if setting.choices else ""
            yield f"  {word}={setting.default}  {setting.doc}{choices}\n"
