"""Which labels of a living resource are somebody else's: they are left alone, and go along wherever it goes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations

from cyborg_infra.model.metadata_keys import APPLIED_KEY
from cyborg_infra.model.normalise import SERVER_KEY_PREFIX
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, DesiredState, LiveResource, LiveState

OWN = "cyborg-infra"
"""Begins the labels that the tool writes: what the manifest does not say of them is not so."""

MOST = 8
"""So many labels are tried for those that the last apply may have written: 256 digests."""


def with_those_of_others(
    desired: DesiredState, live: LiveState, places: Mapping[Ref, Ref], there: Iterable[Ref]
) -> DesiredState:
    """Return what is desired, with the labels that others have put on the live resources.

    Only what is `there` otherwise than it is desired can have such.
    """
    found = {
        ref: wanted_with
        for ref in there
        if (wanted := desired.resources[ref])
        and (lives := live.resources.get(ref) or live.resources.get(places.get(ref, ref)))
        and (wanted_with := _labelled(wanted, of_others(lives, wanted)))
    }
    return replace(desired, resources={**desired.resources, **found}) if found else desired


def of_others(live: LiveResource, desired: DesiredResource) -> dict[str, str]:
    """Return the live labels that neither the manifest has nor the last apply wrote.

    The digest of what was applied tells which it wrote. Where something else has changed as well it does not fit
    whatever the labels are, and then none is taken for our own.
    """
    said = desired.metadata
    unknown = {
        key: text
        for key, text in live.metadata.items()
        if key not in said and not key.startswith((OWN, SERVER_KEY_PREFIX))
    }
    if not unknown:
        return {}
    for ours in _choices(unknown):
        rest = {key: text for key, text in unknown.items() if key not in ours}
        if ours and without(live, rest).digest() == live.metadata.get(APPLIED_KEY):
            return rest
    return unknown


def without(resource: LiveResource, labels: Collection[str]) -> LiveResource:
    """Return the resource without these labels."""
    if not labels:
        return resource
    kept = {key: text for key, text in resource.metadata.items() if key not in labels}
    return replace(resource, config={**resource.config, "metadata": kept})


def _labelled(desired: DesiredResource, labels: Mapping[str, str]) -> DesiredResource | None:
    if not labels:
        return None
    return replace(desired, config={**desired.config, "metadata": {**labels, **desired.metadata}})


def _choices(unknown: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    keys = sorted(unknown) if len(unknown) <= MOST else []
    for number in range(len(keys) + 1):
        yield from combinations(keys, number)
