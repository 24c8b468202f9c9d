"""Tell whether a missing resource had been applied before, so that its absence is drift: from the applied record, or from the labels of what is left."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from cyborg_infra.core.desired.naming import advisories_of_stream
from cyborg_infra.model.buckets import bucket_stream
from cyborg_infra.model.channels import BUILT_IN, ConsumerKind, StreamKind, consumer_kinds, stream_kinds
from cyborg_infra.model.last_applied import AppliedRecord, Members
from cyborg_infra.model.metadata_keys import APPLIED_KEY, BUCKETS_KEY, KIND_KEY, RENAMED_FROM_KEY
from cyborg_infra.model.resources import DesiredResource, DesiredState, LiveResource, Resource


def members_of(desired: DesiredState) -> Members:
    """Return kind -> the members that exist once all that is desired has been applied."""
    found: dict[str, set[str]] = {}
    for resource in desired.resources.values():
        found.setdefault(resource.metadata[KIND_KEY], set()).add(_member(resource))
    return {kind: frozenset(names) for kind, names in found.items()}


def _member(resource: Resource) -> str:
    if resource.metadata.get(KIND_KEY) == StreamKind.KEY_VALUE:
        return resource.ref.stream
    return resource.role or ""


_ALWAYS = {*stream_kinds(BUILT_IN), *consumer_kinds(BUILT_IN)}


class AppliedHistory:
    """What was applied before: from the applied record, and from the labels of live resources where there is none.

    By the roles, the dead-letter routes and the streams of buckets that living resources with our marks show. Looked
    for when they are asked for: most plans find everything where it was.
    """

    def __init__(self, owned: Iterable[LiveResource], memory: AppliedRecord | None = None) -> None:
        """Take what is `owned` and still in the manifest: under names that were given up, nothing was deleted."""
        self._owned, self._memory = owned, memory

    @cached_property
    def _marked(self) -> list[LiveResource]:
        return [found for found in self._owned if found.metadata.get(APPLIED_KEY)]

    @cached_property
    def _roles(self) -> frozenset[str | None]:
        return frozenset(found.role for found in self._marked)

    @cached_property
    def _routes(self) -> frozenset[str]:
        return frozenset(subject for found in self._marked for subject in found.get("subjects"))

    @cached_property
    def _buckets(self) -> frozenset[str]:
        names = [name for found in self._marked for name in found.metadata.get(BUCKETS_KEY, "").split()]
        return frozenset(map(bucket_stream, names))

    def was_applied(self, desired: DesiredResource) -> bool:
        """Return whether a missing resource was there before: then somebody deleted it."""
        remembered = self._remembers(desired)
        return self._was_shared_stream_applied(desired) if remembered is None else remembered

    def _remembers(self, desired: DesiredResource) -> bool | None:
        """Return whether the account remembers the resource, also under its role's former name; None if that is not known."""
        if self._memory is None:
            return None
        kind, former = desired.metadata[KIND_KEY], desired.metadata.get(RENAMED_FROM_KEY)
        found = self._memory.had_member(kind, _member(desired))
        return self._memory.had_member(kind, former) if former and found is False else found

    def _was_shared_stream_applied(self, desired: DesiredResource) -> bool:
        """Return whether a shared stream was applied: of ORG_EVENTS, which comes and goes with the manifest, its dead-letter transform decides; of an event reader nothing tells.

        It counts as new. Buckets come and go as well; DEAD_LETTERS says which there were.
        """
        if not self._marked:
            return False
        match desired.metadata.get(KIND_KEY):
            case StreamKind.EVENTS:
                return bool(self._routes.intersection(advisories_of_stream(desired.ref.stream)))
            case StreamKind.KEY_VALUE:
                return desired.ref.stream in self._buckets
            case ConsumerKind.EVENT_READER:
                return False
            case str(kind) if kind not in _ALWAYS:  # of a channel that the manifest made up
                return not desired.ref.consumer and bool(
                    self._routes.intersection(advisories_of_stream(desired.ref.stream))
                )
        return desired.role in self._roles
