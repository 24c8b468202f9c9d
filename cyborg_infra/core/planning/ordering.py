"""Which change must be done before which. Independent changes stay independent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush

from cyborg_infra.model.changes import Action, Change
from cyborg_infra.model.constraints import exceeded
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, Resource
from cyborg_infra.model.server_versions import LEVELS, NEWEST_LEVEL, Version
from cyborg_infra.model.subjects import SubjectIndex


def order_changes(
    changes: Sequence[Change], first: Iterable[tuple[Ref, Ref]] = (), version: Version = LEVELS[NEWEST_LEVEL]
) -> tuple[list[Change], list[Problem]]:
    """Return the changes in an order that works, each with what it depends on, and the problems of an order that does not exist.

    Streams before their consumers, a subject out of its old stream before it enters the new one, origins
    before what copies them; and of each pair in `first`, the second before the first. Streams that copy from one another
    by filters begin with any of them: what has no origin yet waits for it (2.10 to 2.15). Deletions that nothing waits
    for come last, after everything else. `version` is the server's.
    """
    by_ref = {change.ref: change for change in changes}
    readers: dict[str, list[Ref]] = {}
    for ref in by_ref:
        if ref.consumer:
            readers.setdefault(ref.stream, []).append(ref)
    needs = {
        ref: set(_dependencies(change, by_ref, readers.get(ref.stream, ()), version))
        for ref, change in by_ref.items()
    }
    for ref, earlier in (*_subject_handovers(changes), *first):
        needs[ref].add(earlier)
    sourced = [pair for change in changes if not change.ref.consumer for pair in _sourced(change, by_ref)]
    try:
        sequence = [
            replace(by_ref[ref], depends_on=tuple(sorted(needs[ref]))) if needs[ref] else by_ref[ref]
            for ref in _with_origins(needs, sourced)
        ]
    except CycleError as cycle:
        names = " -> ".join(str(ref) for ref in cycle.args[1])
        problem = Problem(
            "order",
            f"subjects would have to move in a circle: {names}",
            None,
            "move them in two applies, through a subject that no stream stores",
        )
        return list(changes), [problem]
    if not any(change.action is Action.DELETE for change in changes):
        return sequence, []
    awaited = _required_refs(by_ref, needs)
    return sorted(
        sequence, key=lambda change: change.action is Action.DELETE and change.ref not in awaited
    ), []


def _with_origins(needs: dict[Ref, set[Ref]], sourced: Sequence[tuple[Ref, Ref]]) -> list[Ref]:
    """Return an order in which origins come before their copies as far as that is no circle; adds that to `needs`.

    Raises CycleError where there is a circle without sources.
    """
    softly = [(ref, origin) for ref, origin in sourced if origin not in needs[ref]]
    for ref, origin in softly:
        needs[ref].add(origin)
    try:
        return list(_topological_order(needs))
    except CycleError:
        circular = [(ref, origin) for ref, origin in softly if ref in _reached([origin], needs)]
        for ref, origin in circular:
            needs[ref].discard(origin)
        return list(_topological_order(needs))


def _reached(start: Iterable[Ref], needs: Mapping[Ref, set[Ref]]) -> set[Ref]:
    """Return all that has to be done, directly or not, before these."""
    found: set[Ref] = set()
    stack = list(start)
    while stack:
        fresh = needs[stack.pop()] - found
        found |= fresh
        stack += fresh
    return found


def _topological_order(needs: Mapping[Ref, set[Ref]]) -> Iterator[Ref]:
    """Yield the changes in the alphabetical order as far as `needs` allows: a stream, its consumers, the next stream."""
    if all(earlier < ref for ref, needed in needs.items() for earlier in needed):
        yield from sorted(needs)  # most plans: a stream is before its consumers in the alphabet as well
        return
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    ready: list[Ref] = []
    while sorter.is_active():
        for ref in sorter.get_ready():
            heappush(ready, ref)
        ref = heappop(ready)
        sorter.done(ref)
        yield ref


def _required_refs(by_ref: Mapping[Ref, Change], needs: Mapping[Ref, set[Ref]]) -> set[Ref]:
    """Return all that has to be done, directly or not, before some change that is no deletion."""
    return _reached([ref for ref, change in by_ref.items() if change.action is not Action.DELETE], needs)


def _dependencies(
    change: Change, by_ref: Mapping[Ref, Change], readers: Sequence[Ref], version: Version
) -> Iterator[Ref]:
    """Yield what the change depends on by its nature; `readers` are the changed consumers of its stream."""
    stream = Ref(change.ref.stream)
    if change.ref.consumer:
        if stream in by_ref and not _must_precede(change, by_ref[stream], version):
            yield stream
        return
    yield from (reader for reader in readers if _must_precede(by_ref[reader], change, version))
    mirror = change.after.get("mirror") if change.after else {}
    if mirror and (origin := Ref(mirror.get("name", ""))) in by_ref and origin != change.ref:
        yield origin


def _sourced(change: Change, by_ref: Mapping[Ref, Change]) -> Iterator[tuple[Ref, Ref]]:
    """Yield pairs: a stream, and each stream among the changes that it has as a source."""
    sources = change.after.get("sources") if change.after else ()
    for origin in (Ref(source.get("name", "")) for source in sources):
        if origin in by_ref and origin != change.ref:
            yield change.ref, origin


def _must_precede(consumer: Change, stream: Change, version: Version) -> bool:
    """Return whether a living stream changes in a way that its living consumer has to make room for first.

    Not one that is on its way: its consumers stand nowhere before it has arrived.
    """
    if consumer.before is None or stream.action not in (Action.UPDATE, Action.ADOPT):
        return False
    if stream.preserves_messages:
        return False
    return _exceeds_limits(consumer.before, stream, version) or _is_scaled_with_stream(consumer, stream)


def _exceeds_limits(consumer: LiveResource, stream: Change, version: Version) -> bool:
    """Return whether the stream's new limits are ones that the live consumer exceeds: the server refuses them (10069)."""
    limited = any(field.field == "consumer_limits" for field in stream.fields)
    limits = stream.after.get("consumer_limits") if stream.after else {}
    return limited and exceeded(limits, consumer.config, version) is not None


def _is_scaled_with_stream(consumer: Change, stream: Change) -> bool:
    """Return whether the stream's new replica count is below the consumer's: the server would scale the consumer down with the stream, and the consumer's own change would look stale, so it goes first.

    Not on interest or workqueue, where a consumer with other replicas than its stream is refused (10134).
    """
    if consumer.before is None or stream.after is None or stream.after.get("retention") != "limits":
        return False
    held: int = consumer.before.get("num_replicas")
    left: int = stream.after.get("num_replicas")
    return held > left


def _subject_handovers(changes: Sequence[Change]) -> Iterator[tuple[Ref, Ref]]:
    """Yield pairs: a stream that gains a subject, and the stream that has to give it up first."""
    held = SubjectIndex()
    names = {}
    for change in changes:
        if change.before and change.ref.kind is Kind.STREAM:
            names[change.ref.stream] = change.ref
            for subject in _subjects(change.before):
                held.add(subject, change.ref.stream)
    for change in changes if names else ():
        if change.after and change.ref.kind is Kind.STREAM:
            gained = set(_subjects(change.after)) - set(_subjects(change.before))
            for subject in gained:
                yield from (
                    (change.ref, names[name])
                    for _, name in held.overlapping(subject)
                    if name != change.ref.stream
                )


def _subjects(stream: Resource | None) -> Sequence[str]:
    return stream.get("subjects") if stream else ()
