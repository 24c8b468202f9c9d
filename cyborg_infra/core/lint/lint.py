"""Run the lint rules (`core.lint.rules`) over a manifest, and leave out the warnings that it ignores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cyborg_infra.core.desired.rules import first_of_each
from cyborg_infra.core.desired.settings import kind_of, member_of, setting_mark
from cyborg_infra.core.lint.rules import LINTS, LINTS_OF_ALL, NOTES, Lint, LintOfAll
from cyborg_infra.model.buckets import WORD_OF
from cyborg_infra.model.channels import ConsumerKind, StreamKind
from cyborg_infra.model.fields import FIELDS, Unit
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import Problem, SourcePosition
from cyborg_infra.model.resources import DesiredResource, DesiredState, Resource
from cyborg_infra.model.units import format_duration, format_size
from cyborg_infra.model.valueclass import NamedTuple

UNNEEDED_IGNORE_CODE = "unneeded-ignore"
"""The code of the warning about an `ignore` that nothing needs. It cannot be ignored: the line can go."""


def lint(org: Org, state: DesiredState) -> list[Problem]:
    """Return the warnings about `org` and its expanded `state` that nobody ignores, by place; one line is told once.

    An `ignore` is asked for its use where it stands: the manifest's own without an environment, an
    environment's in that environment.
    """
    found = list(_find_warnings(org, state))
    shown = [warning for role, warning in found if not is_ignored(org, warning.code, role)]
    used = {(each.code, role) for role, each in (*found, *_find_in(NOTES, org, state))}
    return sorted(
        [*first_of_each(shown), *_unneeded_ignores(org, used)],
        key=lambda warning: warning.where or SourcePosition("", 0, 0),
    )


def notes(org: Org, state: DesiredState) -> list[Problem]:
    """Return the notes about `org`: what somebody should decide, without what the manifest ignores."""
    return [note for role, note in _find_in(NOTES, org, state) if not is_ignored(org, note.code, role)]


def is_ignored(org: Org, code: str, role: str | None) -> bool:
    """Return whether the manifest ignores this warning, for all or for this role."""
    return any(
        each.code == code and each.role in (None, role) for layer in org.layers for each in layer.ignored
    )


def _find_warnings(org: Org, state: DesiredState) -> Iterator[tuple[str | None, Problem]]:
    """Yield every warning, ignored or not, with the role whose stream or consumer it is about."""
    known: dict[str, list[_Costly]] = {}
    marks = _SettingMarks(org)
    for resource in state.resources.values():
        alike = resource.settings_digest()
        found = known.get(alike)
        if found is None:
            found = list(_costly_settings(org, resource))
            if resource.role:  # what is set alike for another role costs the same
                known[alike] = found
        for row, name, setting in found:
            where = marks.of(resource, name) or resource.origin
            message = f"{setting} of {resource.ref}: {row.reason}"
            yield resource.role, Problem(row.code, message, where, row.advice)
    yield from _find_in(LINTS_OF_ALL, org, state)


class _Costly(NamedTuple):
    """A field that costs something, and what the manifest calls it, with its value in words."""

    row: Lint
    name: str
    setting: str


def _costly_settings(org: Org, resource: DesiredResource) -> Iterator[_Costly]:
    kind = kind_of(resource)
    for row in LINTS:
        if row.applies(kind, org.channel_of(kind)):
            for name in row.find(resource, org):
                yield _Costly(row, name, f"{_manifest_name(resource, name)} {_format_value(resource, name)}")


def _find_in(
    rows: Iterable[LintOfAll], org: Org, state: DesiredState
) -> Iterator[tuple[str | None, Problem]]:
    for row in rows:
        for each in row.find(state, org):
            yield each.role, Problem(row.code, f"{each.said}: {row.reason}", each.where, row.advice)


def _unneeded_ignores(org: Org, found: set[tuple[str, str | None]]) -> Iterator[Problem]:
    codes = {code for code, _role in found}
    for each in (ignored for layer in org.layers[-1:] for ignored in layer.ignored):
        if (each.code, each.role) not in found and (each.role or each.code not in codes):
            whose = f" for {each.role}" if each.role else ""
            message = f"{each.code} is ignored{whose}, and there is nothing to ignore"
            yield Problem(UNNEEDED_IGNORE_CODE, message, each.mark, "remove it, so that the next one is told")


class _SettingMarks:
    """Where values were set; of the roles that set none for themselves alone, once for all."""

    def __init__(self, org: Org) -> None:
        self._org = org
        self._alone = {role for layer in org.layers for role in layer.roles}
        self._common: dict[tuple[str, str], SourcePosition | None] = {}

    def of(self, resource: DesiredResource, name: str) -> SourcePosition | None:
        """Return where this value was set. A default costs because of the environment; None where it stands where the resource comes from."""
        role = resource.role
        if not role or role in self._alone:
            return self._find(resource, name)
        key = resource.metadata[KIND_KEY], name
        if key not in self._common:
            self._common[key] = self._find(resource, name)
        return self._common[key]

    def _find(self, resource: DesiredResource, name: str) -> SourcePosition | None:
        org, kind, member = self._org, kind_of(resource), member_of(self._org, resource)
        found = setting_mark(org, kind, member, name)
        channel = org.channel_of(kind) if isinstance(kind, ConsumerKind) else None
        if not found and channel and channel.stream:
            found = setting_mark(org, channel.stream.kind, member, "consumer_limits")
        return found or org.marks.get(("environments", org.environment or ""))


def _manifest_name(resource: Resource, name: str) -> str:
    """Return what the manifest calls the field."""
    return WORD_OF.get(name, name) if kind_of(resource) == StreamKind.KEY_VALUE else name


def _format_value(resource: Resource, name: str) -> str:
    """Return the field's value in words."""
    value: Any = resource.get(name)
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
