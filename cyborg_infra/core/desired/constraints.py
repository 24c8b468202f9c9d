"""Check resources against the table of constraints, and report violations with their place in the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cyborg_infra.core.desired.settings import (
    is_copying,
    kind_of,
    member_of,
    overridden_fields,
    setting_mark,
    source_mark,
)
from cyborg_infra.model.constraints import (
    ServerContext,
    Violation,
    full_config,
    violations,
    violations_on_every_server,
)
from cyborg_infra.model.fields import Config, Kind
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import ADMISSION, Org
from cyborg_infra.model.problems import Problem, SourcePosition
from cyborg_infra.model.resources import (
    NAMED_SUBJECTS,
    DesiredResource,
    DesiredState,
    Resource,
    State,
)
from cyborg_infra.model.server_versions import Version

_ADMITS = {"retention", "discard", "max_msgs"}
"""What a manifest may have said as `admission`."""


class CheckedSettings:
    """Remembers what a server has nothing against: what is alike but for the scheme's subjects need not be looked at again.

    Without a manifest nobody knows which subjects those are: then all is looked at.
    """

    def __init__(self, org: Org | None) -> None:
        self._kinds, self._alone = overridden_fields(org, *_OF_SUBJECTS) if org else (set(), set())
        self._all, self._none = org is not None and not self._kinds and not self._alone, org is None
        self._clean: set[_Alike] = set()

    def is_clean(self, resource: DesiredResource, stream: Resource | None, *, new: bool) -> bool:
        """Return whether nothing was found wrong with a resource like this one before."""
        return _key(resource, stream, new=new) in self._clean and (
            self._all or (self._is_by_scheme(resource) and (stream is None or self._is_by_scheme(stream)))
        )

    def remember(self, resource: DesiredResource, stream: Resource | None, *, new: bool) -> None:
        """Remember that nothing is wrong with the resource."""
        self._clean.add(_key(resource, stream, new=new))

    def _is_by_scheme(self, resource: Resource) -> bool:
        kind = resource.metadata.get(KIND_KEY)
        return not self._none and kind not in self._kinds and (kind, resource.role) not in self._alone


_Alike = tuple[bool, str, frozenset[str], str]


def _key(resource: DesiredResource, stream: Resource | None, *, new: bool) -> _Alike:
    of_stream = stream.settings_digest() if stream else ""
    return new, resource.settings_digest(), resource.left_open, of_stream


_OF_SUBJECTS = (*NAMED_SUBJECTS, "mirror", "sources", "subject_transform", "republish", "deliver_subject")
"""What is held to these by some rule."""


def check_every_server(org: Org, desired: DesiredState) -> Iterator[Problem]:
    """Yield what no supported server takes, whatever there is already."""
    others, alike = streams_in_full(desired), CheckedSettings(org)
    for stream in desired.streams():
        for resource in (stream, *desired.consumers(stream.ref.stream)):
            holder = None if resource is stream else stream
            if alike.is_clean(resource, holder, new=False):
                continue
            found = violations_on_every_server(resource, ServerContext(holder, others))
            if not found:
                alike.remember(resource, holder, new=False)
            for breach in found:
                yield _problem(breach, resource, holder, org)


def check_this_server(
    resource: DesiredResource,
    around: ServerContext,
    version: Version,
    org: Org | None,
    *,
    new: bool,
) -> Iterator[Problem]:
    """Yield what a server of this version refuses of a resource that is created if `new`, and changed otherwise."""
    for breach in violations(resource, around, version, new=new):
        yield _problem(breach, resource, around.stream, org)


def streams_in_full(*states: State[Resource]) -> Mapping[str, Config]:
    """Return the configurations of all streams by name; of a name in two states, that of the later one. Empty if no stream copies another."""
    streams = {stream.ref.stream: stream for state in states for stream in state.streams()}
    if not any(map(is_copying, streams.values())):
        return {}
    return {name: full_config(stream) for name, stream in streams.items()}


def _problem(
    breach: Violation, resource: DesiredResource, stream: Resource | None, org: Org | None
) -> Problem:
    rule = breach.rule
    where = _where(rule.fields, resource, stream, org) if org else resource.origin
    return Problem(rule.code, f"{resource.ref}: {breach.message}", where, rule.instead)


def _where(
    fields: tuple[str, ...], resource: Resource, stream: Resource | None, org: Org
) -> SourcePosition | None:
    """Return where the manifest sets one of the fields of the resource or its stream; else, where the resource comes from."""
    own = [field for field in fields if not field.startswith("stream.")]
    theirs = [field.removeprefix("stream.") for field in fields if field not in own]
    for one, names in ((resource, own), (stream, theirs)):
        if one is not None and names:
            admitted = one.ref.kind is Kind.STREAM and not _ADMITS.isdisjoint(names)
            said = (*names, *([ADMISSION] if admitted else ()))
            if found := setting_mark(org, kind_of(one), member_of(org, one), *said):
                return found
    return source_mark(org, kind_of(resource), member_of(org, resource))
