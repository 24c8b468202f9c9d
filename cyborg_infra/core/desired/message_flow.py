"""Follow messages through the streams: under which subjects they are stored, which consumers get them, and where they are republished in a circle.

Subjects are patterns, so a stream of whatever messages is followed at once. Knows no server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from cyborg_infra.core.desired.naming import ADVISORIES, MAX_DELIVERIES, MSG_TERMINATED
from cyborg_infra.core.desired.settings import is_copying
from cyborg_infra.model.consumer_position import filter_patterns
from cyborg_infra.model.fields import Config
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource, State
from cyborg_infra.model.subject_transforms import image
from cyborg_infra.model.subjects import SubjectIndex, covers, intersection, overlap

MAX_LAPS = 16
"""A message that comes into one stream so many times does not stop there: its subject may grow on the way."""


def stored_subjects(stream: Resource, state: State[Resource]) -> list[str]:
    """Return the subjects under which the stream stores what is published or copied to it; `>` where nobody can know."""
    if not stream.get("subject_transform") and not is_copying(stream):
        return list(dict.fromkeys(stream.get("subjects")))  # nearly all streams
    return list(dict.fromkeys(_stored(stream, state, ())))


def unmatched(stream: Resource, state: State[Resource]) -> list[str]:
    """Return the subjects under which the stream stores messages that none of its consumers is handed; none of `>`, unknown."""
    handed = {each for reader in state.consumers(stream.ref.stream) for each in filter_patterns(reader)}
    left = [subject for subject in stored_subjects(stream, state) if subject not in handed]
    if not left:
        return []
    if len(left) == 1:  # as of a stream that all roles share: the first of their filters meets it
        return [] if any(overlap(left[0], each) for each in handed) else left
    index = SubjectIndex((each, "") for each in handed)
    return [subject for subject in left if not index.overlapping(subject)]


def _stored(stream: Resource, state: State[Resource], copies: Sequence[Ref]) -> Iterator[str]:
    """Yield the subjects; `copies` are the streams on the way here: where they copy one another, which is refused, nothing comes in."""
    for subject in stream.get("subjects"):
        yield from _own_form(stream, subject)
    for origin in _origins(stream):
        source = state.resources.get(Ref(origin.get("name", "")))
        known = source is not None and not origin.get("external")
        if known and source is not None and source.ref not in copies:
            copied = list(_stored(source, state, (*copies, stream.ref)))
        else:
            copied = [] if known else [">"]
        for subject in copied:
            yield from _copied_form(stream, origin, subject)


def _origins(stream: Resource) -> list[Any]:
    mirror = stream.get("mirror")
    return [*([mirror] if mirror else []), *stream.get("sources")]


def _copied_form(stream: Resource, origin: Config, subject: str) -> Iterator[str]:
    """Yield what an origin's `subject` is called where it is copied to. The src of a transform is a filter as well."""
    for way in origin.get("subject_transforms") or [{"src": origin.get("filter_subject")}]:
        src, dest = way.get("src") or ">", way.get("dest")
        found = image(src, dest, subject) if dest else intersection(src, subject)
        if found:
            yield from _own_form(stream, found)


def _own_form(stream: Resource, subject: str) -> Iterator[str]:
    """Yield what `subject` is called in the stream: what its transform does not take stays as it is."""
    way = stream.get("subject_transform")
    made = image(way.get("src", ""), way["dest"], subject) if way.get("dest") else None
    if made:
        yield made
    if not made or not covers(way.get("src") or ">", subject):
        yield subject


def notices(consumer: Resource) -> list[str]:
    """Return the subjects on which the server says that a message of this consumer failed for good."""
    stream, name = consumer.ref.stream, consumer.ref.consumer
    happens = {MAX_DELIVERIES: consumer.get("max_deliver") > 0, MSG_TERMINATED: True}
    if consumer.get("ack_policy") == "none":
        return []  # each message is done when it is handed out
    return [f"{ADVISORIES}.{event}.{stream}.{name}" for event, may in happens.items() if may]


def told_of_themselves(state: State[Resource]) -> list[Resource]:
    """Return the consumers that are handed notices of what they failed with themselves, directly or by way of others.

    Who fails with such a notice as well is handed the next one, without end.
    """
    every = f"{ADVISORIES}.>"
    storing = [
        stream
        for stream in state.streams()
        if any(overlap(every, subject) for subject in stream.get("subjects"))
    ]
    if not storing:
        return []
    ways, indexes = _FlowGraph(state), dict[Ref, SubjectIndex]()

    def handed(stream: Ref, subject: str) -> Iterator[Ref]:
        if stream not in indexes:
            readers = state.consumers(stream.stream)
            indexes[stream] = SubjectIndex(
                (each, reader.ref.consumer) for reader in readers for each in filter_patterns(reader)
            )
        for _, name in indexes[stream].overlapping(subject):
            yield Ref(stream.stream, name)

    def hearing(ref: Ref) -> Iterator[Ref]:
        for notice in notices(state.resources[ref]):
            for stream in storing:
                if any(covers(subject, notice) for subject in stream.get("subjects")):
                    for place in ways.places(stream, notice):
                        yield from handed(*place)

    told = {stream.ref for stream in storing} | {
        place
        for stream in (storing if ways.moves else ())
        for subject in stream.get("subjects")
        if overlap(every, subject)
        for place, _ in ways.places(stream, subject)
    }
    listening = [
        reader
        for stream in state.streams()
        if stream.ref in told
        for reader in state.consumers(stream.ref.stream)
    ]
    return [reader for reader in listening if reader.ref in _reached(reader.ref, hearing)]


def _reached(start: Ref, onward: Callable[[Ref], Iterable[Ref]]) -> set[Ref]:
    """Return all that can be got to from `start`; itself only if one comes back."""
    found, waiting = set[Ref](), [start]
    while waiting:
        new = set(onward(waiting.pop())) - found
        found |= new
        waiting += new
    return found


def republish_cycles(state: State[Resource]) -> list[tuple[Ref, ...]]:
    """Return the streams, in their order, round which a message is republished without end; each circle once."""
    ways = _FlowGraph(state)
    if not ways.republishing:
        return []
    found: dict[frozenset[Ref], tuple[Ref, ...]] = {}
    for start in ways.republishing:
        for subject in stored_subjects(start, state):
            circle = ways.find_cycle(start.ref, subject)
            if circle:
                found.setdefault(frozenset(circle), circle)
    return list(found.values())


class _FlowGraph:
    """The ways from stream to stream: what is stored in one, and in which others then."""

    def __init__(self, state: State[Resource]) -> None:
        self.republishing = [stream for stream in state.streams() if stream.get("republish").get("dest")]
        self._state = state
        self.moves = bool(self.republishing) or any(map(is_copying, state.streams()))
        self._index = SubjectIndex(
            (subject, stream.ref.stream)
            for stream in (state.streams() if self.republishing else ())
            for subject in stream.get("subjects")
        )
        self._copies: dict[str, list[tuple[Resource, Config]]] = {}
        for stream in state.streams() if self.moves else ():
            for origin in _origins(stream):
                if not origin.get("external"):
                    self._copies.setdefault(origin.get("name", ""), []).append((stream, origin))
        self._ends: set[tuple[Ref, str]] = set()

    def find_cycle(self, start: Ref, subject: str) -> tuple[Ref, ...]:
        """Return the streams of a circle that what `start` stores under `subject` gets into; empty if it comes to an end."""
        path: list[tuple[Ref, str]] = []
        waiting = [(start, subject, 0)]
        while waiting:
            ref, form, depth = waiting.pop()
            self._ends.update(path[depth:])
            del path[depth:]
            here = (ref, form)
            been = [at for at, (other, _) in enumerate(path) if other == ref]
            if here in path or len(been) >= MAX_LAPS:
                return tuple(other for other, _ in path[been[-1] :])
            if here in self._ends:
                continue
            path.append(here)
            waiting += [(*further, depth + 1) for further in self._next_streams(*here)]
        self._ends.update(path)
        return ()

    def places(self, stream: Resource, subject: str) -> set[tuple[Ref, str]]:
        """Return everywhere that what is published on `subject` into this stream gets to, and what it is called there."""
        found, waiting = set[tuple[Ref, str]](), [(stream.ref, form) for form in _own_form(stream, subject)]
        while waiting:
            here = waiting.pop()
            if here not in found and sum(ref == here[0] for ref, _ in found) < MAX_LAPS:
                found.add(here)
                waiting += self._next_streams(*here)
        return found

    def _next_streams(self, ref: Ref, subject: str) -> Iterator[tuple[Ref, str]]:
        """Yield the streams, and the subjects there, that a stored message comes to."""
        stream = self._state.resources[ref]
        way = stream.get("republish")
        sent = image(way.get("src", ""), way["dest"], subject) if way.get("dest") else None
        for wide, name in self._index.overlapping(sent) if sent else ():
            other = self._state.resources[Ref(name)]
            for form in _own_form(other, intersection(wide, sent or "") or ""):
                yield other.ref, form
        for other, origin in self._copies.get(ref.stream, ()):
            for form in _copied_form(other, origin, subject):
                yield other.ref, form
