"""Which change must be done before which. Independent changes stay independent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush

from cyborg_infra.model.fields import Kind
from cyborg_infra.model.plan import Action, Change
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.state import Ref, Resource
from cyborg_infra.model.subjects import SubjectIndex


def ordered(
    changes: Sequence[Change], first: Iterable[tuple[Ref, Ref]] = ()
) -> tuple[list[Change], list[Problem]]:
    """The changes in an order that works, each with what it `needs`; and why there is none, if there is none.

    Streams before their consumers, a subject out of its old stream before it enters the new one, origins
    before what mirrors them; and of each pair in `first`, the second before the first. Deletions that nothing
    waits for come last, after everything else.
    """
    by_ref = {change.ref: change for change in changes}
    readers: dict[str, list[Ref]] = {}
    for ref in by_ref:
        if ref.kind is Kind.CONSUMER:
            readers.setdefault(ref.stream, []).append(ref)
    needs = {ref: set(_needs(change, by_ref, readers.get(ref.stream, ()))) for ref, change in by_ref.items()}
    for ref, earlier in (*_moved_subjects(changes), *first):
        needs[ref].add(earlier)
    try:
        sequence = [
            replace(by_ref[ref], needs=tuple(sorted(needs[ref]))) if needs[ref] else by_ref[ref]
            for ref in _sorted(needs)
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
    awaited = _awaited(by_ref, needs)
    return sorted(
        sequence, key=lambda change: change.action is Action.DELETE and change.ref not in awaited
    ), []


def _sorted(needs: Mapping[Ref, set[Ref]]) -> Iterator[Ref]:
    """Of all orders that work, the one nearest to the alphabet: a stream, its consumers, the next stream."""
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    ready: list[Ref] = []
    while sorter.is_active():
        for ref in sorter.get_ready():
            heappush(ready, ref)
        ref = heappop(ready)
        sorter.done(ref)
        yield ref


def _awaited(by_ref: Mapping[Ref, Change], needs: Mapping[Ref, set[Ref]]) -> set[Ref]:
    """What has to be done, directly or not, before some change that is no deletion."""
    found: set[Ref] = set()
    stack = [ref for ref, change in by_ref.items() if change.action is not Action.DELETE]
    while stack:
        fresh = needs[stack.pop()] - found
        found |= fresh
        stack += fresh
    return found


def _needs(change: Change, by_ref: Mapping[Ref, Change], readers: Sequence[Ref]) -> Iterator[Ref]:
    """What comes before it by its nature; `readers` are the changed consumers of its stream."""
    stream = Ref(change.ref.stream)
    if change.ref.kind is Kind.CONSUMER:
        if stream in by_ref and not _yields_to(change, by_ref[stream]):
            yield stream
        return
    yield from (reader for reader in readers if _yields_to(by_ref[reader], change))
    config = change.after.config if change.after else {}
    for origin in [config.get("mirror") or {}, *(config.get("sources") or ())]:
        if (ref := Ref(origin.get("name", ""))) in by_ref and ref != change.ref:
            yield ref


def _yields_to(consumer: Change, stream: Change) -> bool:
    """Whether a living stream changes in a way that its consumer has to make room for first."""
    if stream.action not in (Action.UPDATE, Action.ADOPT):
        return False
    return _tightens(stream) or _outnumbers(consumer, stream)


def _tightens(stream: Change) -> bool:
    """The server refuses limits that a consumer still exceeds (10069)."""
    return any(field.field == "consumer_limits" and field.after for field in stream.fields)


def _outnumbers(consumer: Change, stream: Change) -> bool:
    """A stream that shrinks takes copies from its consumers: their own change would find them changed by somebody else.

    Not on interest or workqueue, where a consumer with other replicas than its stream is refused (10134).
    """
    if (
        consumer.before is None
        or stream.after is None
        or stream.after.config.get("retention", "limits") != "limits"
    ):
        return False
    held: int = consumer.before.config.get("num_replicas", 0)
    left: int = stream.after.config.get("num_replicas", 1)
    return held > left


def _moved_subjects(changes: Sequence[Change]) -> Iterator[tuple[Ref, Ref]]:
    """(stream that gains a subject, stream that has to give it up first)."""
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
    return (stream.config.get("subjects") or ()) if stream else ()
