"""Rules between the streams and consumers of one manifest, one function each.

What must hold of each by itself is in the table of `model.constraints`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cyborg_infra.core.desired.constraints import check_every_server
from cyborg_infra.core.desired.message_flow import republish_cycles
from cyborg_infra.core.desired.naming import ephemeral_subjects, stream_name
from cyborg_infra.core.desired.settings import (
    admission_fields,
    explicit_settings,
    holds_over,
    kind_of,
    member_of,
    overridden_fields,
    source_mark,
)
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import ADMISSION, FieldValues, Org
from cyborg_infra.model.problems import ManifestInvalid, Problem, SourcePosition
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState, Resource
from cyborg_infra.model.subjects import SubjectIndex, overlap
from cyborg_infra.model.units import format_duration

MAX_PER_LINE = 3
"""So many problems of one kind at one place are told one by one."""


def check_state(org: Org, state: DesiredState) -> None:
    """Raise ManifestInvalid with every problem of every rule; a line that concerns many roles is reported once."""
    found = first_of_each(
        (*_subject_problems(org, state), *(problem for rule in RULES for problem in rule(org, state)))
    )
    if found:
        raise ManifestInvalid(*found)


def _subject_problems(org: Org, state: DesiredState) -> Iterator[Problem]:
    """Yield what the rules of subjects have against those that somebody set, and what they meet.

    All others the naming scheme keeps apart by itself.
    """
    kinds, alone = overridden_fields(org, *_SUBJECT_SETTINGS)
    if not kinds and not alone:
        return
    by_hand = {
        ref
        for ref, found in state.resources.items()
        if (kind := found.metadata[KIND_KEY]) in kinds or (alone and (kind, found.role) in alone)
    }
    streams = {ref.stream for ref in by_hand if not ref.consumer}
    stored = SubjectIndex(
        (subject, "") for stream in streams for subject in _subjects(state.resources[Ref(stream)])
    )
    near = {
        *by_hand,
        *(Ref(ref.stream) for ref in by_hand),
        *(stream.ref for stream in state.streams() if any(map(stored.overlapping, _subjects(stream)))),
    }
    theirs = {reader.ref for stream in streams for reader in state.consumers(stream)}
    part = DesiredState({ref: state.resources[ref] for ref in near | theirs})
    for rule in RULES_OF_SUBJECTS:
        yield from rule(org, part)


_SUBJECT_SETTINGS = ("subjects", "filter_subject", "filter_subjects", "mirror", "subject_transform")


def first_of_each(problems: Iterable[Problem]) -> list[Problem]:
    """Yield, of many problems of one kind at one place, the first, and how many more there are; all of a few."""
    found: dict[tuple[str, SourcePosition | None], list[Problem]] = {}
    for problem in problems:
        found.setdefault((problem.code, problem.where), []).append(problem)
    return [problem for alike in found.values() for problem in _first_of(alike)]


def _first_of(alike: Sequence[Problem]) -> Sequence[Problem]:
    if len(alike) <= MAX_PER_LINE:
        return alike
    return [alike[0]._replace(message=f"{alike[0].message} (and {len(alike) - 1} more like it)")]


def streams_do_not_overlap(org: Org, state: DesiredState) -> Iterator[Problem]:
    """Check that a message is stored once: no two subjects of the manifest's streams meet (10065, 10052)."""
    index = SubjectIndex()
    for stream in state.streams():
        for subject in stream.get("subjects"):
            for other, owner in index.overlapping(subject):
                whose = "the same stream" if owner == stream.ref.stream else f"stream {owner}"
                yield Problem(
                    "overlap",
                    f"subject {subject} of {stream.ref} overlaps {other} of {whose}",
                    _mark(org, stream),
                    "a message can be stored by one stream only",
                )
            index.add(subject, stream.ref.stream)


def requests_are_not_captured(org: Org, state: DesiredState) -> Iterator[Problem]:
    """Find streams that store a request, a status or an ephemeral event: such a stream would answer the request itself."""
    for subject, pattern, name in captured_subjects(org, state.streams()):
        yield Problem(
            "capture",
            f"stream {name} captures {subject} with {pattern}",
            _mark(org, state.resources[Ref(name)]),
            "requests, status and ephemeral events must reach agents, not a stream: a stream answers a captured request itself",
        )


def captured_subjects(org: Org, streams: Iterable[Resource]) -> Iterator[tuple[str, str, str]]:
    """Yield (ephemeral subject of the organisation, pattern, stream) for each of these streams that stores one, whoever owns it."""
    index = SubjectIndex(
        (pattern, stream.ref.stream) for stream in streams for pattern in stream.get("subjects")
    )
    if index:
        for subject in ephemeral_subjects(org, index.overlapping):
            yield from ((subject, pattern, name) for pattern, name in index.overlapping(subject))


def filters_meet_their_stream(org: Org, state: DesiredState) -> Iterator[Problem]:
    """Find consumers whose filter matches nothing that their stream stores; the server would accept them (our own rule)."""
    for stream in state.streams():
        stored = stream.get("subjects")
        if not stored or stream.get("subject_transform") or stream.get("sources"):
            continue  # what it stores under which subject cannot be known here
        index = SubjectIndex((subject, "") for subject in stored) if len(stored) > 1 else None
        for consumer in state.consumers(stream.ref.stream):
            for subject in _subjects(consumer):
                if index.overlapping(subject) if index else overlap(stored[0], subject):
                    continue
                yield Problem(
                    "unmatched-filter",
                    f"filter {subject} of {consumer.ref} meets none of the subjects of {stream.ref} ({', '.join(stored)})",
                    org.marks.get(("streams", stream.metadata[KIND_KEY], "subjects")) or _mark(org, consumer),
                    "it would never receive a message",
                )


def workqueues_are_shared_out(org: Org, state: DesiredState) -> Iterator[Problem]:
    """Check that on a workqueue every message has one consumer (10099, 10100)."""
    for stream in state.streams():
        if stream.get("retention") != "workqueue":
            continue
        index = SubjectIndex()
        for consumer in state.consumers(stream.ref.stream):
            for subject in _subjects(consumer) or [">"]:
                for other, owner in index.overlapping(subject):
                    if owner != consumer.ref.consumer:
                        yield Problem(
                            "workqueue",
                            f"{consumer.ref} ({subject}) and {owner} ({other}) read the same messages of {stream.ref}",
                            _mark(org, stream, "retention", ADMISSION),
                            "a workqueue gives each message to one consumer: use retention limits or interest, or filters that do not overlap",
                        )
                index.add(subject, consumer.ref.consumer)


def admission_is_not_contradicted(org: Org, state: DesiredState) -> Iterator[Problem]:
    """Check that where max_pending holds, nobody sets the fields that it stands for to something else."""
    if not any(ADMISSION in fields for fields in _task_settings(org)):
        return
    for role in org.roles:
        settings = explicit_settings(org, StreamKind.TASKS, role)
        admission = settings.get(ADMISSION, {})
        stream = state.resources[Ref(stream_name(org, StreamKind.TASKS, role))]
        for name, value in admission_fields(admission).items():
            if settings[name] != value:
                yield Problem(
                    "admission",
                    f"admission of {stream.ref} means {name}: {value}, and {name} is {settings[name]} here",
                    _mark(org, stream, name),
                    f"take {name} out, or say admission: {{}} where it shall not hold",
                )


def _task_settings(org: Org) -> Iterator[FieldValues]:
    """Yield every place that sets fields of a role's tasks."""
    for layer in org.layers:
        yield layer.streams.get(StreamKind.TASKS, {})
        yield from (kinds.get(StreamKind.TASKS, {}) for kinds in layer.roles.values())


def consumers_fit(org: Org, state: DesiredState) -> Iterator[Problem]:
    """Find streams with more consumers than their max_consumers (10026)."""
    for stream in state.streams():
        most = stream.get("max_consumers")
        if 0 < most < (readers := len(state.consumers(stream.ref.stream))):
            yield Problem(
                "max-consumers",
                f"{stream.ref} has {readers} consumers and max_consumers is {most}",
                _mark(org, stream, "max_consumers"),
            )


def republishing_comes_to_an_end(org: Org, state: DesiredState) -> Iterator[Problem]:
    """Check that no message comes back into a stream that republished it. This rule is ours: servers look at one stream alone."""
    for circle in republish_cycles(state):
        first, *others = (state.resources[ref] for ref in circle)
        by_way = f", by way of {', '.join(str(other.ref) for other in others)}" if others else ""
        first = next(each for each in (first, *others) if each.get("republish"))
        yield Problem(
            "republish-circle",
            f"what {circle[0]} republishes comes back into it{by_way}: one message is stored again and again",
            _mark(org, first, "republish"),
            "republish to a subject that none of these streams stores",
        )


def ack_wait_is_the_first_backoff(org: Org, state: DesiredState) -> Iterator[Problem]:
    """Check that with `backoff` the server takes its first step for ack_wait (2.10 to 2.15): another one beside it has no effect.

    A backoff that is set more narrowly is in place of the ack_wait that it finds.
    """
    kinds, alone = overridden_fields(org, "ack_wait")
    for consumer in state.consumers() if kinds or alone else ():
        if not (steps := consumer.get("backoff")):
            continue
        kind = kind_of(consumer)
        if kind not in kinds and (kind, consumer.role) not in alone:
            continue
        member = member_of(org, consumer)
        wanted: int = explicit_settings(org, kind, member).get("ack_wait", 0)
        if wanted != steps[0] and holds_over(org, kind, member, "ack_wait", "backoff"):
            first = format_duration(steps[0])
            yield Problem(
                "ack-wait",
                f"ack_wait {format_duration(wanted)} of {consumer.ref} would have no effect: with backoff it is the first step, {first}",
                _mark(org, consumer, "ack_wait"),
                "take ack_wait out, or make it the first step of backoff",
            )


Rule = Callable[[Org, DesiredState], Iterator[Problem]]

RULES_OF_SUBJECTS: tuple[Rule, ...] = (
    streams_do_not_overlap,
    requests_are_not_captured,
    filters_meet_their_stream,
)
"""What the naming scheme keeps by itself, as a property in the tests says: asked only of what somebody set."""

RULES: tuple[Rule, ...] = (
    check_every_server,
    workqueues_are_shared_out,
    admission_is_not_contradicted,
    consumers_fit,
    republishing_comes_to_an_end,
    ack_wait_is_the_first_backoff,
)

OWN_RULES: Mapping[str, str] = {
    "capture": "a stream that stores requests answers them itself, before any agent has spoken",
    "unmatched-filter": "a consumer that no message ever reaches is a slip, and its agent waits for ever",
    "republish-circle": "one message fills all streams of the circle within seconds, and keeps the server busy for ever",
    "no-room-to-replace": "a consumer that is replaced keeps its position in a second one, and the stream may have no more",
    "replicas": "a single server before 2.15 takes more by an update, and has one",
    "ack-wait": "the server drops an ack_wait beside backoff without a word, and takes the first step",
    "admission": "max_pending and what it stands for would say different things",
}
"""What is refused although servers take it: code -> why. All other problems of these rules are the server's own."""


def _subjects(resource: Resource) -> list[str]:
    """Return what a stream stores or a consumer filters for."""
    if resource.ref.kind is Kind.STREAM:
        return list(resource.get("subjects"))
    return list(resource.filters)


_SUBJECT_FIELDS = {Kind.STREAM: ("subjects",), Kind.CONSUMER: ("filter_subject", "filter_subjects")}


def _mark(org: Org, resource: Resource, *fields: str) -> SourcePosition | None:
    """Return where the resource's field was set; its subjects if no field is named."""
    return source_mark(
        org, kind_of(resource), member_of(org, resource), *(fields or _SUBJECT_FIELDS[resource.ref.kind])
    )
