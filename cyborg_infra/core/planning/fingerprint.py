"""Digests of the live resources that a plan was made from; a saved plan holds them to find out whether it is stale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from cyborg_infra.model.normalise import user_labels
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState, LiveResource, LiveState, digest_of


def fingerprint(live: LiveState, desired: DesiredState, owner: str) -> Mapping[Ref, str]:
    """Return the digests by which a later look finds whether the live resources in question are as this plan saw them."""
    return _Fingerprint(live, desired, owner)


class _Fingerprint(Mapping[Ref, str]):
    """A digest of every live resource that a plan is about: its configuration with its metadata, and when it was created.

    Made when it is asked for: most plans are neither saved nor applied.
    """

    def __init__(self, live: LiveState, desired: DesiredState, owner: str) -> None:
        self._live, self._desired, self._owner = live, desired, owner

    @cached_property
    def _resources(self) -> Mapping[Ref, LiveResource]:
        return {
            ref: found
            for ref, found in self._live.resources.items()
            if ref in self._desired.resources or found.owner == self._owner
        }

    def __getitem__(self, ref: Ref) -> str:
        found = self._resources[ref]
        # Of its own metadata the server tells more in one answer than in another.
        return digest_of([found.normalised(), list(user_labels(found.metadata).items()), found.created])

    def __iter__(self) -> Iterator[Ref]:
        return iter(self._resources)

    def __len__(self) -> int:
        return len(self._resources)
