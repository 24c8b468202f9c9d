"""The context of a plan: what the passes of the planner look at, worked out once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from cyborg_infra.core.planning import (
    dead_letter_order,
    foreign_copies,
    foreign_metadata,
    renames,
    resume,
    server_values,
)
from cyborg_infra.model.fields import Config
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import (
    NAMED_SUBJECTS,
    DesiredResource,
    DesiredState,
    LiveResource,
    LiveState,
    Resource,
)
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import OLDEST
from cyborg_infra.model.valueclass import NamedTuple, valueclass
from cyborg_infra.model.wording import Option, worded


@valueclass(frozen=True, slots=True)
class PlanningContext:
    """What every pass of the planner may look at: what there is, what shall be, and whose it is."""

    owner: str
    live: LiveState
    desired: DesiredState
    """What shall be, with the labels that others have set on living resources, and what is noted there as the server's values."""
    stated: DesiredState
    """What shall be as the manifest states it, without labels of others and values of the server."""
    selected: DesiredState
    """The part of `desired` that the plan is for: all of it, or what belongs to the targets."""
    differing: AbstractSet[Ref]
    """What of `desired` may not live exactly so: most plans change little of much."""
    server_info: ServerInfo
    org: Org | None
    environment: str | None
    prune: bool
    targets: Sequence[str]
    predecessors: Mapping[Ref, Ref]
    """Desired resource -> the live one of another name that it takes the place of."""
    names_in_use: Mapping[Ref, Ref]
    """Live stream whose name another desired one shall have -> the desired one that it becomes."""
    resumable: Mapping[Ref, Ref]
    """Desired resource -> what an interrupted apply has kept for it."""
    in_progress: AbstractSet[Ref]
    """Live resources that go on as something else: predecessors, and what is kept of interrupted applies."""
    orphans: Sequence[LiveResource]

    def current_resource(self, ref: Ref) -> LiveResource | None:
        """Return the live resource of this name, or its predecessor."""
        return self.live.resources.get(ref) or self.live.resources.get(self.predecessors.get(ref, ref))


def make_context(
    live: LiveState,
    desired: DesiredState,
    *,
    owner: str,
    org: Org | None,
    environment: str | None,
    prune: bool,
    targets: Sequence[str],
) -> PlanningContext:
    """Return the context of a plan. Raises UsageInvalid for an unknown role among the targets."""
    server_info = live.server_info or ServerInfo(OLDEST, 0)
    left = [
        found
        for ref, found in live.resources.items()
        if ref not in desired.resources and found.owner == owner and not foreign_copies.is_copy(found)
    ]
    predecessors = renames.predecessors(live, desired, left)
    given = stated = desired
    differing = _differing(live, desired)
    there = [ref for ref in differing if ref in live.resources or ref in predecessors]
    desired = foreign_metadata.with_those_of_others(desired, live, predecessors, there)
    desired = server_values.with_known_values(desired, live, predecessors, there, server_info.limits)
    resumable = resume.find_resumable(left, live, desired, owner)
    in_progress = {*predecessors.values(), *resumable.values()}
    names_in_use = renames.names_in_use(live, desired, owner, there)
    in_progress |= _kept_for_names(left, desired, names_in_use)
    in_progress |= {
        found.ref for found in left if found.ref.is_placeholder and Ref(found.ref.stream) in in_progress
    }
    orphans = [
        found for found in left if found.ref not in in_progress and (not targets or found.role in targets)
    ]
    leaving = {found.ref for found in orphans} if prune else frozenset()
    staying = [found for found in left if found.ref not in in_progress | leaving]
    stated, desired = (dead_letter_order.with_orphans(wanted, live, staying) for wanted in (stated, desired))
    _refuse_unknown_roles(targets, [*desired.resources.values(), *orphans])
    return PlanningContext(
        owner=owner,
        live=live,
        desired=desired,
        stated=stated,
        selected=_of_roles(desired, targets),
        differing=_and_adjusted(differing, desired, given),
        server_info=server_info,
        org=org,
        environment=environment,
        prune=prune,
        targets=targets,
        predecessors=predecessors,
        names_in_use=names_in_use,
        resumable=resumable,
        in_progress=in_progress,
        orphans=orphans,
    )


def _differing(live: LiveState, desired: DesiredState) -> frozenset[Ref]:
    """Return the desired resources that the server does not have exactly so, the owner's label included.

    How a server writes settings is learned from the first resource that has them. All others that are set alike are
    expected so.
    """
    found, examples = set[Ref](), dict[str, _Example]()
    for ref, wanted in desired.resources.items():
        held, settings = live.resources.get(ref), wanted.settings_digest()
        example = examples.get(settings)
        if held is None or not held.matches(wanted, example and example.of(wanted)):
            found.add(ref)
        elif example is None:
            examples[settings] = _Example.from_pair(held, wanted)
    return frozenset(found)


class _Example(NamedTuple):
    """What all that is set alike has in common as a server writes it, and the server's own labels."""

    config: dict[str, Any]
    labels: Mapping[str, str]

    @classmethod
    def from_pair(cls, held: LiveResource, wanted: DesiredResource) -> _Example:
        """Return what lives without what is its own, where it lives as it is wanted."""
        return cls(
            {name: value for name, value in held.config.items() if name not in _OWN_FIELDS},
            {key: text for key, text in held.metadata.items() if key not in wanted.metadata},
        )

    def of(self, wanted: DesiredResource) -> Config:
        """Return how a server writes another one that is set alike."""
        config, expected = wanted.config, self.config.copy()
        for name in _OWN_FIELDS:
            if name in config:
                expected[name] = config[name]
        expected["metadata"] = {**wanted.metadata, **self.labels}
        return expected


_OWN_FIELDS = ("name", "durable_name", *NAMED_SUBJECTS)
"""What of a configuration differs among those that are set alike, besides the labels."""


def _and_adjusted(differing: frozenset[Ref], desired: DesiredState, given: DesiredState) -> frozenset[Ref]:
    """Return the `differing` resources, and those that are desired otherwise than they were `given`."""
    if desired is given:
        return differing
    return differing.union(
        ref for ref, wanted in desired.resources.items() if wanted is not given.resources[ref]
    )


def _kept_for_names(
    left: Sequence[LiveResource], desired: DesiredState, names_in_use: Mapping[Ref, Ref]
) -> set[Ref]:
    """Return the streams that wait for names still in use, and the consumers of the streams that have these names."""
    awaited = {
        (stream.metadata.get(KIND_KEY), stream.role)
        for stream in (desired.resources[ref] for ref in names_in_use)
    }
    streams = {
        found.ref.stream
        for found in left
        if not found.ref.consumer and (found.metadata.get(KIND_KEY), found.role) in awaited
    } | {ref.stream for ref in names_in_use}
    return {found.ref for found in left if found.ref.stream in streams}


def _refuse_unknown_roles(targets: Sequence[str], resources: Iterable[Resource]) -> None:
    unknown = set(targets) - {found.role for found in resources} if targets else ()
    if unknown:
        raise UsageInvalid(
            Problem(
                "target",
                f"no role is called {', '.join(sorted(unknown))}",
                None,
                worded("{} takes roles of the manifest", Option("targets")),
            )
        )


def _of_roles(desired: DesiredState, targets: Sequence[str]) -> DesiredState:
    if not targets:
        return desired
    return DesiredState({ref: found for ref, found in desired.resources.items() if found.role in targets})
