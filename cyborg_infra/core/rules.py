"""What must hold between the streams and consumers of one manifest; one function a rule. Knows no server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from cyborg_infra.core.namespace import ephemeral, stream_name
from cyborg_infra.core.settings import admitted, explicit, kind_of, member_of, place, set_with
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.org import ADMISSION, Fields, Org, StreamKind
from cyborg_infra.model.problems import ManifestInvalid, Mark, Problem
from cyborg_infra.model.state import KIND, Ref, Resource, State
from cyborg_infra.model.subjects import MAX_NAME, SubjectIndex, covers, is_name, is_pattern
from cyborg_infra.model.units import format_duration

TOLD_EACH = 3
"""So many problems of one kind at one place are told one by one."""


def check(org: Org, state: State) -> None:
    """Nothing, or ManifestInvalid with every problem of every rule; one line that concerns many roles is told once."""
    found = told_once(
        (*_of_subjects(org, state), *(problem for rule in RULES for problem in rule(org, state)))
    )
    if found:
        raise ManifestInvalid(*found)


def _of_subjects(org: Org, state: State) -> Iterator[Problem]:
    """What the rules of subjects have against those that somebody set, and what they meet.

    All others the naming scheme keeps apart by itself.
    """
    kinds, alone = set_with(org, *_SUBJECT_SETTINGS)
    if not kinds and not alone:
        return
    by_hand = {
        ref
        for ref, found in state.resources.items()
        if (kind := found.metadata[KIND]) in kinds or (alone and (kind, found.role) in alone)
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
    part = State(
        {ref: found for ref, found in state.resources.items() if ref in near or ref.stream in streams}
    )
    for rule in RULES_OF_SUBJECTS:
        yield from rule(org, part)


_SUBJECT_SETTINGS = ("subjects", "filter_subject", "filter_subjects", "mirror", "subject_transform")


def told_once(problems: Iterable[Problem]) -> list[Problem]:
    """Of many problems of one kind at one place the first, and how many more there are; all of a few."""
    found: dict[tuple[str, Mark | None], list[Problem]] = {}
    for problem in problems:
        found.setdefault((problem.code, problem.where), []).append(problem)
    return [problem for alike in found.values() for problem in _first_of(alike)]


def _first_of(alike: Sequence[Problem]) -> Sequence[Problem]:
    if len(alike) <= TOLD_EACH:
        return alike
    return [alike[0]._replace(message=f"{alike[0].message} (and {len(alike) - 1} more like it)")]


def names_fit(_org: Org, state: State) -> Iterator[Problem]:
    """Names are at most 255 bytes and hold nothing that the server refuses (10102, 10127, 10128)."""
    for ref, resource in state.resources.items():
        if not is_name(ref.name):
            yield Problem(
                "name",
                f"{ref.kind} name {ref.name!r} is not one that the server takes",
                resource.origin,
                f"at most {MAX_NAME} bytes, without white space, '.', '*', '>', '/' or '\\'",
            )


def subjects_are_valid(org: Org, state: State) -> Iterator[Problem]:
    """Every subject of a stream and filter of a consumer is one."""
    for resource in state.resources.values():
        for subject in _subjects(resource):
            if not is_pattern(subject):
                yield Problem(
                    "subject",
                    f"{subject!r} is not a subject",
                    _mark(org, resource),
                    "tokens split by single dots, no white space, '>' only at the end",
                )


def streams_do_not_overlap(org: Org, state: State) -> Iterator[Problem]:
    """A message is stored once: no two subjects of the manifest's streams meet (10065, 10052)."""
    index = SubjectIndex()
    for stream in state.streams():
        for subject in stream.config.get("subjects", ()):
            for other, owner in index.overlapping(subject):
                whose = "the same stream" if owner == stream.ref.stream else f"stream {owner}"
                yield Problem(
                    "overlap",
                    f"subject {subject} of {stream.ref} overlaps {other} of {whose}",
                    _mark(org, stream),
                    "a message can be stored by one stream only",
                )
            index.add(subject, stream.ref.stream)


def requests_are_not_captured(org: Org, state: State) -> Iterator[Problem]:
    """No stream stores a request, a status or an ephemeral event: it would answer the request itself."""
    index = SubjectIndex(
        (subject, stream.ref.stream)
        for stream in state.streams()
        for subject in stream.config.get("subjects", ())
    )
    for subject in ephemeral(org):
        for pattern, owner in index.overlapping(subject):
            stream = state.resources[Ref(owner)]
            yield Problem(
                "capture",
                f"stream {owner} captures {subject} with {pattern}",
                _mark(org, stream),
                "requests, status and ephemeral events must reach agents, not a stream: a stream answers a captured request itself",
            )


def filters_are_inside(org: Org, state: State) -> Iterator[Problem]:
    """A consumer's filter is a part of what its stream stores; the server would accept one that never matches."""
    for stream in state.streams():
        stored = stream.config.get("subjects", ())
        if not stored or stream.config.get("subject_transform"):
            continue  # a mirror or sourced stream, or one that stores under other subjects: it cannot be known here
        index = SubjectIndex((subject, "") for subject in stored) if len(stored) > 1 else None
        for consumer in state.consumers(stream.ref.stream):
            for subject in _subjects(consumer):
                if index.covers(subject) if index else covers(stored[0], subject):
                    continue
                yield Problem(
                    "filter",
                    f"filter {subject} of {consumer.ref} is outside the subjects of {stream.ref} ({', '.join(stored)})",
                    _mark(org, consumer),
                    "it would never receive a message",
                )


def one_way_to_filter(org: Org, state: State) -> Iterator[Problem]:
    """filter_subject or filter_subjects (10136), and filters that do not overlap (10138)."""
    for consumer in state.consumers():
        if consumer.config.get("filter_subject") and consumer.config.get("filter_subjects"):
            yield Problem(
                "filter",
                f"{consumer.ref} has filter_subject and filter_subjects",
                _mark(org, consumer),
                "set one of them",
            )
        index = SubjectIndex()
        for subject in consumer.config.get("filter_subjects") or ():
            for other, _owner in index.overlapping(subject):
                yield Problem(
                    "filter", f"filters {subject} and {other} of {consumer.ref} overlap", _mark(org, consumer)
                )
            index.add(subject, "")


def windows_fit(org: Org, state: State) -> Iterator[Problem]:
    """duplicate_window is at most max_age (10052)."""
    for stream in state.streams():
        window, age = stream.config.get("duplicate_window", 0), stream.config.get("max_age", 0)
        if 0 < age < window:
            yield Problem(
                "duplicate-window",
                f"duplicate_window {format_duration(window)} of {stream.ref} is longer than max_age {format_duration(age)}",
                _mark(org, stream, "duplicate_window"),
                "a message that is gone cannot be recognised again: lower duplicate_window or raise max_age",
            )


def discard_per_subject_is_complete(org: Org, state: State) -> Iterator[Problem]:
    """discard_new_per_subject needs discard new and max_msgs_per_subject (10052)."""
    for stream in state.streams():
        config = stream.config
        if config.get("discard_new_per_subject") and (
            config["discard"] != "new" or config["max_msgs_per_subject"] <= 0
        ):
            yield Problem(
                "discard",
                f"discard_new_per_subject of {stream.ref} needs discard: new and a max_msgs_per_subject",
                _mark(org, stream, "discard_new_per_subject"),
            )


def backoff_fits(org: Org, state: State) -> Iterator[Problem]:
    """No more backoff steps than deliveries (10116), and no ack_wait that the server would overwrite."""
    for consumer in state.consumers():
        steps, most = consumer.config.get("backoff") or (), consumer.config.get("max_deliver", -1)
        if 0 < most < len(steps):
            yield Problem(
                "backoff",
                f"backoff of {consumer.ref} has {len(steps)} steps and max_deliver is {most}",
                _mark(org, consumer, "backoff", "max_deliver"),
                "at most one step per delivery",
            )


def start_is_complete(org: Org, state: State) -> Iterator[Problem]:
    """by_start_sequence and by_start_time say where, and nothing else does (10094)."""
    needed = {"by_start_sequence": "opt_start_seq", "by_start_time": "opt_start_time"}
    for consumer in state.consumers():
        policy = consumer.config["deliver_policy"]
        for name, field in needed.items():
            if bool(consumer.config.get(field)) != (policy == name):
                yield Problem(
                    "deliver-policy",
                    f"{consumer.ref} needs {field} together with deliver_policy: {name}, and only then",
                    _mark(org, consumer, field, "deliver_policy"),
                )


def workqueue_is_possible(org: Org, state: State) -> Iterator[Problem]:
    """On a workqueue every message has one consumer: explicit acks, deliver all, filters apart (10084, 10098 to 10101)."""
    for stream in state.streams():
        if stream.config["retention"] != "workqueue":
            continue
        index = SubjectIndex()
        for consumer in state.consumers(stream.ref.stream):
            config = consumer.config
            if config["ack_policy"] != "explicit" or config["deliver_policy"] != "all":
                yield Problem(
                    "workqueue",
                    f"{consumer.ref} needs ack_policy: explicit and deliver_policy: all, because {stream.ref} is a workqueue",
                    _mark(org, consumer, "ack_policy", "deliver_policy"),
                )
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


def admission_is_not_contradicted(org: Org, state: State) -> Iterator[Problem]:
    """Where max_pending holds, nobody sets the fields that it stands for to something else."""
    if not any(ADMISSION in fields for fields in _of_tasks(org)):
        return
    for role in org.roles:
        settings = explicit(org, StreamKind.TASKS, role)
        admission = settings.get(ADMISSION, {})
        stream = state.resources[Ref(stream_name(org, StreamKind.TASKS, role))]
        for name, value in admitted(admission).items():
            if settings[name] != value:
                yield Problem(
                    "admission",
                    f"admission of {stream.ref} means {name}: {value}, and {name} is {settings[name]} here",
                    _mark(org, stream, name),
                    f"take {name} out, or say admission: {{}} where it shall not hold",
                )


def _of_tasks(org: Org) -> Iterator[Fields]:
    """Every place that sets fields of a role's tasks."""
    for layer in org.layers:
        yield layer.streams.get(StreamKind.TASKS, {})
        yield from (kinds.get(StreamKind.TASKS, {}) for kinds in layer.roles.values())


def limits_are_kept(org: Org, state: State) -> Iterator[Problem]:
    """No consumer above its stream's consumer_limits, replicas or max_consumers (10121, 10126, 10134, 10026)."""
    for stream in state.streams():
        limits, replicas = stream.config.get("consumer_limits") or {}, stream.config["num_replicas"]
        readers = state.consumers(stream.ref.stream)
        if 0 < stream.config["max_consumers"] < len(readers):
            yield Problem(
                "max-consumers",
                f"{stream.ref} has {len(readers)} consumers and max_consumers is {stream.config['max_consumers']}",
                _mark(org, stream, "max_consumers"),
            )
        for consumer in readers:
            for name, limit in limits.items():
                if limit and not 0 < consumer.config.get(name, 0) <= limit:
                    yield Problem(
                        "consumer-limits",
                        f"{name} of {consumer.ref} is above the consumer_limits of {stream.ref}",
                        _mark(org, consumer, name),
                    )
            if consumer.config["num_replicas"] > replicas:
                yield Problem(
                    "num-replicas",
                    f"{consumer.ref} has more replicas than its stream ({consumer.config['num_replicas']} and {replicas})",
                    _mark(org, consumer, "num_replicas"),
                )


def mirrors_stand_alone(org: Org, state: State) -> Iterator[Problem]:
    """A mirror has no subjects and no sources (10034, 10031)."""
    for stream in state.streams():
        if stream.config.get("mirror") and (stream.config.get("subjects") or stream.config.get("sources")):
            yield Problem(
                "mirror",
                f"{stream.ref} is a mirror and cannot have subjects or sources",
                _mark(org, stream, "mirror"),
            )


Rule = Callable[[Org, State], Iterator[Problem]]

RULES_OF_SUBJECTS: tuple[Rule, ...] = (
    subjects_are_valid,
    streams_do_not_overlap,
    requests_are_not_captured,
    filters_are_inside,
    one_way_to_filter,
)
"""What the naming scheme keeps by itself, as a property in the tests says: asked only of what somebody set."""

RULES: tuple[Rule, ...] = (
    names_fit,
    windows_fit,
    discard_per_subject_is_complete,
    backoff_fits,
    start_is_complete,
    workqueue_is_possible,
    admission_is_not_contradicted,
    limits_are_kept,
    mirrors_stand_alone,
)


def _subjects(resource: Resource) -> list[str]:
    """What a stream stores or a consumer filters for."""
    if resource.ref.kind is Kind.STREAM:
        return list(resource.config.get("subjects", ()))
    one = resource.config.get("filter_subject")
    return [one] if one else list(resource.config.get("filter_subjects") or ())


_SUBJECT_FIELDS = {Kind.STREAM: ("subjects",), Kind.CONSUMER: ("filter_subject", "filter_subjects")}


def _mark(org: Org, resource: Resource, *fields: str) -> Mark | None:
    """Where the resource's field was set; its subjects if no field is named."""
    return place(
        org, kind_of(resource), member_of(org, resource), *(fields or _SUBJECT_FIELDS[resource.ref.kind])
    )
