"""What must have been applied before, as far as the living resources tell: there is no state file. Compares nothing."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from cyborg_infra.core.namespace import advisories_of
from cyborg_infra.model.buckets import bucket_stream
from cyborg_infra.model.org import ConsumerKind, StreamKind
from cyborg_infra.model.state import APPLIED, BUCKETS, KIND, Resource


class Known:
    """The roles, the dead-letter routes and the streams of buckets that living resources with our marks show.

    Looked for when they are asked for: most plans find everything where it was.
    """

    def __init__(self, owned: Iterable[Resource]) -> None:
        """`owned` is still in the manifest: under names that were given up, nothing was deleted."""
        self._owned = owned

    @cached_property
    def _marked(self) -> list[Resource]:
        return [found for found in self._owned if found.metadata.get(APPLIED)]

    @cached_property
    def _roles(self) -> frozenset[str | None]:
        return frozenset(found.role for found in self._marked)

    @cached_property
    def _routes(self) -> frozenset[str]:
        return frozenset(subject for found in self._marked for subject in found.config.get("subjects") or ())

    @cached_property
    def _buckets(self) -> frozenset[str]:
        names = [name for found in self._marked for name in found.metadata.get(BUCKETS, "").split()]
        return frozenset(map(bucket_stream, names))

    def applied(self, desired: Resource) -> bool:
        """Whether a missing resource was there before: then somebody deleted it.

        ORG_EVENTS comes and goes with the manifest, so its dead-letter route decides; of an event reader
        nothing tells, and it counts as new. Buckets come and go as well; DEAD_LETTERS says which there were.
        """
        match desired.metadata.get(KIND):
            case StreamKind.EVENTS:
                return bool(self._routes.intersection(advisories_of(desired.ref.stream)))
            case StreamKind.KEY_VALUE:
                return desired.ref.stream in self._buckets
            case ConsumerKind.EVENT_READER:
                return False
        return desired.role in self._roles
