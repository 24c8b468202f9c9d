"""Lay out a command's help: its own options first, then an example, and what all commands share last."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from cyborg_infra.cli.options import CONNECTION

_OWN = "Options"


class CommandWithConnection(TyperCommand):
    """A command whose options stand under the headings that they name; see `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write all options but those of the connection, which come after the example."""
        for heading, rows in self._sections(ctx).items():
            if heading != CONNECTION:
                _write(formatter, heading, rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example, and then the connection options."""
        super().format_epilog(ctx, formatter)
        _write(formatter, CONNECTION, self._sections(ctx).get(CONNECTION, []))

    def _sections(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Return the rows of each heading; the command's own are the first options."""
        found: dict[str, list[tuple[str, str]]] = {"Arguments": [], _OWN: []}
        for parameter in self.get_params(ctx):
            heading = "Arguments" if parameter.param_type_name == "argument" else _OWN
            if (row := parameter.get_help_record(ctx)) is not None:
                found.setdefault(getattr(parameter, "rich_help_panel", None) or heading, []).append(row)
        return found


def _write(formatter: Any, heading: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(heading):
            formatter.write_dl(rows)
