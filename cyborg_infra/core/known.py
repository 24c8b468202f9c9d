"""What must have been applied before, as far as the living resources tell: there is no state file. Compares nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from cyborg_infra.core.namespace import advisories_of
from cyborg_infra.model.buckets import bucket_stream
from cyborg_infra.model.org import ConsumerKind, StreamKind
from cyborg_infra.model.state import APPLIED, BUCKETS, KIND, Resource, State


@dataclass(frozen=True, slots=True)
class Known:
    """The roles, the dead-letter routes and the streams of buckets that living resources with our marks show."""

    roles: frozenset[str | None]
    routes: frozenset[str]
    buckets: frozenset[str]

    @classmethod
    def of(cls, owned: State) -> Self:
        """What `owned` tells, which is still in the manifest: under names that were given up, nothing was deleted."""
        marked = [found for found in owned.resources.values() if found.metadata.get(APPLIED)]
        routes = [subject for found in marked for subject in found.config.get("subjects") or ()]
        names = [name for found in marked for name in found.metadata.get(BUCKETS, "").split()]
        return cls(
            frozenset(found.role for found in marked), frozenset(routes), frozenset(map(bucket_stream, names))
        )

    def applied(self, desired: Resource) -> bool:
        """Whether a missing resource was there before: then somebody deleted it.

        ORG_EVENTS comes and goes with the manifest, so its dead-letter route decides; of an event reader
        nothing tells, and it counts as new. Buckets come and go as well; DEAD_LETTERS says which there were.
        """
        match desired.metadata.get(KIND):
            case StreamKind.EVENTS:
                return bool(self.routes.intersection(advisories_of(desired.ref.stream)))
            case StreamKind.KEY_VALUE:
                return desired.ref.stream in self.buckets
            case ConsumerKind.EVENT_READER:
                return False
        return desired.role in self.roles
