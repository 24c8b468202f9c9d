"""What tells whether the server is still as a plan saw it. Compares nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from cyborg_infra.model.canonical import written
from cyborg_infra.model.state import Ref, Resource, State, digest_of


def fingerprint(live: State, desired: State, owned: State) -> Mapping[Ref, str]:
    """What tells whether the server is still as this plan saw it."""
    return _Fingerprint(live, desired, owned)


class _Fingerprint(Mapping[Ref, str]):
    """A digest of every live resource that a plan is about: its configuration with its metadata, and when it was created.

    Made when it is asked for: most plans are neither saved nor applied.
    """

    def __init__(self, live: State, desired: State, owned: State) -> None:
        self._states = live, desired, owned

    @cached_property
    def _resources(self) -> Mapping[Ref, Resource]:
        live, desired, owned = (state.resources for state in self._states)
        return {ref: found for ref, found in live.items() if ref in desired or ref in owned}

    def __getitem__(self, ref: Ref) -> str:
        found = self._resources[ref]
        # Of its own metadata the server tells more in one answer than in another.
        return digest_of([found.canonical(), list(written(found.metadata).items()), found.created])

    def __iter__(self) -> Iterator[Ref]:
        return iter(self._resources)

    def __len__(self) -> int:
        return len(self._resources)
