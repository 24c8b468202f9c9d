"""Export: write what an organisation is in the files of other tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.desired.naming import list_subjects
from cyborg_infra.core.desired.settings import admitted
from cyborg_infra.export.exported import Export, ExportInput, Format, Setting
from cyborg_infra.export.formats import FORMATS
from cyborg_infra.live.connection.target import Target
from cyborg_infra.manifest import schema
from cyborg_infra.manifest.load import load
from cyborg_infra.manifest.messages import schema_of
from cyborg_infra.manifest.suggest import nearest
from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.resources import DesiredState, LiveState, Resource, State
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import Option, worded
from cyborg_infra.operations.expected_server import check_expected_server

__all__ = ["FORMATS", "Export", "ExportRequest", "export", "find_format"]


class ExportRequest(NamedTuple):
    """Which format of which manifest. With a target, the settings of streams and consumers are those of that server."""

    format: str
    manifest: str
    env: str | None = None
    settings: Sequence[str] = ()
    target: Target | None = None


def find_format(name: str) -> Format:
    """Return the format of this name. Raises UsageInvalid where there is none."""
    if name not in FORMATS:
        hint = f"there are {', '.join(FORMATS)}"
        raise UsageInvalid(Problem("usage", f"there is no format {name!r}", None, hint))
    return FORMATS[name]


def export(request: ExportRequest) -> Export:
    """Return the files of the format, and what it could not say. Needs no server without a target, and writes nothing.

    Raises ManifestInvalid; UsageInvalid for a format or a setting that there is not, and for the settings of a server
    in a format that has none.
    """
    found = find_format(request.format)
    settings = _settings(request.format, found.settings, request.settings)
    if request.target is not None and not found.configures:
        said = worded(
            "{} has no settings of streams and consumers: leave out {}", request.format, Option("live")
        )
        raise UsageInvalid(Problem("usage", said))
    org = load(request.manifest, request.env, offline=not found.configures)
    desired = expand(org)
    missing: list[str] = []
    state: State[Resource] = desired
    if request.target is not None:
        state = _read(org, desired, request.target)
        missing = [f"{ref} is not on the server" for ref in desired.resources if ref not in state.resources]
    schemas = {kind.value: schema.read_schema(schema_of(kind)) for kind in MessageKind}
    alerts = org.alerts._replace(admitted=admitted(desired.streams()))
    made = found.write(ExportInput(org, list_subjects(org, desired), state, alerts, schemas, settings))
    return made._replace(gaps=[*missing, *made.gaps])


def _read(org: Org, desired: DesiredState, target: Target) -> LiveState:
    """Return those of the organisation's streams and consumers that are on the server, as they are there."""
    from cyborg_infra.live.api.jetstream import connect_account
    from cyborg_infra.operations.event_loop import run_coroutine

    async def read() -> LiveState:
        async with connect_account(target) as server:
            check_expected_server(org, await server.server_info())
            return await server.snapshot(org.name, desired)

    live = run_coroutine(read())
    return LiveState(
        {ref: found for ref, found in live.resources.items() if ref in desired.resources}, live.server_info
    )


def _settings(format_: str, known: Mapping[str, Setting], given: Sequence[str]) -> Mapping[str, str]:
    """Return all settings of a format: those given as NAME=VALUE, else their defaults."""
    found = {name: setting.default for name, setting in known.items()}
    for each in given:
        name, equals, value = each.partition("=")
        if name not in known or not equals:
            near = nearest(name, known)
            hint = f"did you mean {near}?" if near else f"it knows {', '.join(known) or 'none'}"
            said = worded("{} {}: {} has no such setting", Option("set"), each, format_)
            raise UsageInvalid(
                Problem("usage", said, None, hint if equals or name not in known else "NAME=VALUE")
            )
        choices = known[name].choices
        if choices and value not in choices:
            said = worded("{} {}: {} can be {}", Option("set"), each, name, " or ".join(choices))
            raise UsageInvalid(Problem("usage", said))
        found[name] = value
    return found
