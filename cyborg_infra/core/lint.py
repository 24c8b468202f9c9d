"""The warnings about one manifest, without those that it ignores. Judges no setting itself (`costly`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cyborg_infra.core.costly import LINTS
from cyborg_infra.core.namespace import STREAM_OF
from cyborg_infra.core.rules import told_once
from cyborg_infra.core.settings import kind_of, member_of, set_alone, set_at
from cyborg_infra.model.fields import FIELDS, Unit
from cyborg_infra.model.org import ConsumerKind, Org, StreamKind
from cyborg_infra.model.problems import Mark, Problem
from cyborg_infra.model.state import Resource, State
from cyborg_infra.model.units import format_duration, format_size

UNNEEDED = "unneeded-ignore"
"""The code of the warning about an `ignore` that nothing needs. It cannot be ignored: the line can go."""


def lint(org: Org, state: State) -> list[Problem]:
    """The warnings about `org` and its expanded `state` that nobody ignores, by place; one line is told once.

    An `ignore` is asked for its use where it stands: the manifest's own without an environment, an
    environment's in that environment.
    """
    found = list(_found(org, state))
    ignored = {(each.code, each.role) for layer in org.layers for each in layer.ignored}
    told = [warning for role, warning in found if not {(warning.code, None), (warning.code, role)} & ignored]
    return sorted(
        [*told_once(told), *_unneeded(org, {(warning.code, role) for role, warning in found})],
        key=lambda warning: warning.where or Mark("", 0, 0),
    )


def _found(org: Org, state: State) -> Iterator[tuple[str | None, Problem]]:
    """Every warning, ignored or not, with the role whose stream or consumer it is about."""
    rows = {kind: [row for row in LINTS if kind in row.kinds] for kind in (*StreamKind, *ConsumerKind)}
    alone, clean = set_alone(org), set[StreamKind | ConsumerKind]()
    for resource in state.resources.values():
        kind = kind_of(resource)
        if kind in clean and (kind, resource.role) not in alone:
            continue  # set as one that was looked at, for a role as well
        found = [(row, name) for row in rows[kind] for name in row.find(resource.config, org)]
        if not found and resource.role and (kind, resource.role) not in alone:
            clean.add(kind)
        for row, name in found:
            setting = f"{name} {_written(resource, name)} of {resource.ref}"
            where = _place(org, resource, name)
            yield resource.role, Problem(row.code, f"{setting}: {row.reason}", where, row.advice)


def _unneeded(org: Org, found: set[tuple[str, str | None]]) -> Iterator[Problem]:
    codes = {code for code, _role in found}
    for each in (ignored for layer in org.layers[-1:] for ignored in layer.ignored):
        if (each.code, each.role) not in found and (each.role or each.code not in codes):
            whose = f" for {each.role}" if each.role else ""
            message = f"{each.code} is ignored{whose}, and there is nothing to ignore"
            yield Problem(UNNEEDED, message, each.mark, "remove it, so that the next one is told")


def _place(org: Org, resource: Resource, name: str) -> Mark | None:
    """Where the value was set. A default costs because of the environment, or stands where the resource comes from."""
    kind, member = kind_of(resource), member_of(org, resource)
    found = set_at(org, kind, member, name)
    if not found and isinstance(kind, ConsumerKind):
        found = set_at(org, STREAM_OF[kind], member, "consumer_limits")
    return found or org.marks.get(("environments", org.environment or "")) or resource.origin


def _written(resource: Resource, name: str) -> str:
    """The field's value in words."""
    value: Any = resource.config[name]
    match FIELDS[resource.ref.kind][name].unit:
        case Unit.DURATION:
            return format_duration(value)
        case Unit.DURATIONS:
            return ", ".join(format_duration(each) for each in value)
        case Unit.SUBJECTS:
            return f"({len(value):,} of them)"
        case Unit.SIZE:
            return format_size(value)
        case Unit.FLAG:
            return str(value).lower()
    return str(value)
