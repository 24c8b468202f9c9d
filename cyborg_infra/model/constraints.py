"""The table of constraints: what a server refuses about a configuration, one row a rule.

Read in the source of nats-server 2.10 to 2.15 and measured: tests/predictions/test_predictions.py draws settings and changes,
and holds what these rows say to what servers do. What lies between several resources (subjects that meet, what an
account has room for, who reads a workqueue) is judged where all of them are known, in `core`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from itertools import combinations
from types import MappingProxyType
from typing import Any

from cyborg_infra.model import subject_transforms
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import FIELDS, Config, Kind, since
from cyborg_infra.model.normalise import normalise
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.server_versions import LEVELS, OLDEST, Capability, Version
from cyborg_infra.model.subjects import MAX_NAME, covers, is_name, is_pattern, overlap
from cyborg_infra.model.units import MILLISECOND, SECOND, format_duration
from cyborg_infra.model.valueclass import NamedTuple


class Concerns(Enum):
    """What a rule is about; the word of the reference."""

    STREAM = "stream"
    NEW_STREAM = "stream, when it is created"
    CONSUMER = "consumer"
    READER = "consumer with its stream"


class VersionRange(NamedTuple):
    """The versions from `first` on, up to but without `before`; prints `2.12.10 to 2.14`, or nothing for all."""

    first: Version = OLDEST
    before: Version | None = None

    def __contains__(self, version: object) -> bool:
        return isinstance(version, Version) and self.first <= version < (self.before or _BEYOND)

    def __str__(self) -> str:
        begins = "" if self.first == OLDEST else f"from {self.first}"
        return f"{begins} before {self.before}".strip() if self.before else begins


_BEYOND = Version(10**6, 0, 0)
ALWAYS = (VersionRange(),)


class Asked(NamedTuple):
    """What a server of this version is asked for: configurations in full, every field normalised or its default."""

    name: str
    config: Config
    version: Version
    stream: Config  # of a consumer; a stream's own
    streams: Mapping[str, Config]  # all that the account has or shall have, by name


IsBroken = Callable[[Asked], bool | str]
"""Whether the rule is broken; a text names what it is broken by."""


class Constraint(NamedTuple):
    """One rule of the server: about what, whether it is broken, which versions hold it, their error, and what to write."""

    code: str
    concerns: Concerns
    # What it compares, first what is to be changed; all at their defaults break nothing.
    fields: tuple[str, ...]
    broken: IsBroken
    error: int
    says: str  # a sentence that follows a name: `max_age must be ...`
    instead: str
    versions: tuple[VersionRange, ...] = ALWAYS


class ServerContext(NamedTuple):
    """What a server looks at besides: a consumer's stream, and the streams of the account by name, in full."""

    stream: Resource | None = None
    streams: Mapping[str, Config] = MappingProxyType({})


class Violation(NamedTuple):
    """A rule that a configuration breaks, and by what; `found` is empty where the rule says it all."""

    rule: Constraint
    found: str

    @property
    def message(self) -> str:
        """The rule in a sentence, with what is wrong here."""
        return f"{self.rule.says} ({self.found})" if self.found else self.rule.says


def full_config(resource: Resource) -> dict[str, Any]:
    """Return every field of the table, normalised, or its default; the labels with those that the tool writes.

    Sources are as they are written: in another order the server may see no circle.
    """
    found = {**_DEFAULTS[resource.ref.kind], **resource.normalised(), "metadata": resource.metadata}
    if found.get("sources"):
        field = FIELDS[Kind.STREAM]["sources"]
        found["sources"] = [
            one for source in resource.config["sources"] for one in normalise(field, [source]) or ()
        ]
    return found


def violations(
    resource: Resource, around: ServerContext, version: Version, *, new: bool = False
) -> list[Violation]:
    """Return which rules of a server of this version the resource breaks; `new` if it is created."""
    stream = around.stream
    of_stream = tuple(stream.normalised()) if stream else ()
    rows = _rows(resource.ref.kind, tuple(resource.normalised()), of_stream, version, new=new)
    if not rows:
        return []
    config = full_config(resource)
    asked = Asked(
        resource.ref.name, config, version, full_config(stream) if stream else config, around.streams
    )
    return [
        Violation(row, found if isinstance(found, str) else "")
        for row in rows
        if (found := row.broken(asked))
    ]


def violations_on_every_server(resource: Resource, around: ServerContext) -> list[Violation]:
    """Return which rules are broken where no supported server takes the configuration; none if one takes it."""
    found: list[Violation] = []
    for version in reversed(
        version_boundaries()
    ):  # the newest first: most configurations break nothing there
        here = violations(resource, around, version)
        if not here and (version == version_boundaries()[-1] or not _unknown(resource, version)):
            return []
        found = found or here
    return found


def _unknown(resource: Resource, version: Version) -> bool:
    """Return whether a server of this version lacks one of the fields or choices that are set."""
    table = FIELDS[resource.ref.kind]
    return any(LEVELS[since(table[name], value)] > version for name, value in resource.normalised().items())


_SAID_LIMITS = ("2.12.12-2.14.0", "2.14.3")
"""Which versions compare consumers with those limits alone that are set."""


def exceeded(limits: Config, reader: Config, version: Version) -> str | None:
    """Return the first of a stream's consumer_limits that a living consumer is above: the stream cannot get them then (10069).

    Before 2.14.3 and 2.12.12 one that is absent counts as 0, as soon as another one changes.
    """
    said_alone = any(version in span for span in _from(*_SAID_LIMITS))
    for name in ("max_ack_pending", "inactive_threshold"):
        most = limits.get(name, 0)
        if reader.get(name, 0) > most and (most or not said_alone):
            return name
    return None


@cache
def version_boundaries() -> tuple[Version, ...]:
    """Return the versions at which a rule or a field comes or goes, from the oldest on: between them servers are alike."""
    spans = [span for row in CONSTRAINTS for span in row.versions]
    found = {
        *LEVELS.values(),
        *subject_transforms.BEHAVIOUR_CHANGES,
        Capability.REFUSE_SLASHES_IN_ORIGIN.since,
    }
    found |= {span.first for span in spans} | {span.before for span in spans if span.before}
    return tuple(sorted(found))


@cache
def _rows(
    kind: Kind, said: tuple[str, ...], of_stream: tuple[str, ...], version: Version, *, new: bool
) -> tuple[Constraint, ...]:
    """Return the rows that something can break that is set so, on a stream that is set so. Most of a kind set the same fields."""
    about = {Concerns.CONSUMER, Concerns.READER}
    if kind is Kind.STREAM:
        about = {Concerns.STREAM, Concerns.NEW_STREAM} if new else {Concerns.STREAM}
    names = {"name", *said, *(f"stream.{name}" for name in of_stream)}
    return tuple(
        row
        for row in CONSTRAINTS
        if row.concerns in about
        and not names.isdisjoint(row.fields)
        and any(version in span for span in row.versions)
    )


# --- What the rows compare.


def _between(value: int, least: int) -> bool:
    """Return whether a duration is too short: below `least`, and not 0, which means none."""
    return 0 < value < least


def _long(text: str, maximum: int) -> bool:
    return len(text.encode()) > maximum


def _labels_size(asked: Asked) -> bool:
    return sum(_size(key) + _size(text) for key, text in asked.config["metadata"].items()) > _MAX_METADATA


def _size(text: str) -> int:
    return len(text.encode())


def _window(asked: Asked) -> bool | str:
    window, age = asked.config["duplicate_window"], asked.config["max_age"]
    return 0 < age < window and f"{format_duration(window)} and {format_duration(age)}"


def _first(texts: Iterator[str]) -> bool | str:
    return next(texts, False)


def _subjects(asked: Asked) -> Iterator[str]:
    yield from asked.config["subjects"]


def _reserved(*namespaces: str, but: str, whole: bool) -> IsBroken:
    """Return subjects that meet one of the namespaces, or `whole` lie in it, and do not lie in `but`."""
    meets = covers if whole else overlap
    # DEAD_LETTERS stores two subjects of each stream: most are told by how they begin.
    near, spared = (*(space.removesuffix(">") for space in namespaces), "*", ">"), but.removesuffix(">")

    def broken(asked: Asked) -> bool | str:
        return not asked.config["no_ack"] and _first(
            subject
            for subject in _subjects(asked)
            if subject.startswith(near) and not subject.startswith(spared)
            for space in namespaces
            if meets(space, subject)
        )

    return broken


def _no_subjects(asked: Asked) -> bool | str:
    return _first(subject for subject in _subjects(asked) if not is_pattern(subject))


def _own_transform(asked: Asked) -> bool | str:
    found = asked.config["subject_transform"] or {}
    listed = asked.version >= Capability.LIST_TRANSFORM_FUNCTIONS.since
    return (
        subject_transforms.fault(found.get("src", ""), found.get("dest", ""), asked.version, listed=listed)
        or False
    )


def _republished(asked: Asked) -> bool | str:
    found = asked.config["republish"] or {}
    return (
        subject_transforms.fault(found.get("src", ""), found.get("dest", ""), asked.version, listed=False)
        or False
    )


def _republishes_to_itself(asked: Asked) -> bool | str:
    dest = (asked.config["republish"] or {}).get("dest", "")
    return bool(dest) and _first(subject for subject in _subjects(asked) if overlap(dest, subject))


def _origins(asked: Asked, field: str) -> Sequence[Config]:
    """Return the mirror's origin, or the sources."""
    found = asked.config[field] or ()
    return [found] if field == "mirror" and found else found


def _looked_into(asked: Asked, field: str) -> Iterator[Config]:
    """Yield the origins whose filters are held to all rules: before 2.12 not the sources of another account."""
    for origin in _origins(asked, field):
        if (
            field == "mirror"
            or "external" not in origin
            or asked.version >= Capability.CHECK_EVERY_SOURCE.since
        ):
            yield origin


def _ways(origin: Config) -> list[tuple[str, str]]:
    """Return the (src, dest) of an origin's transforms."""
    return [(one.get("src", ""), one.get("dest", "")) for one in origin.get("subject_transforms") or ()]


def _each(field: str, found: Callable[[Asked, Config], bool | str], *, all_of_them: bool = False) -> IsBroken:
    """Return a check of all origins by `found`: it returns words, or True for the origin's name in their place."""

    def broken(asked: Asked) -> bool | str:
        for origin in _origins(asked, field) if all_of_them else _looked_into(asked, field):
            if words := found(asked, origin):
                return words if isinstance(words, str) else str(origin.get("name", ""))
        return False

    return broken


def _is_no_asset(field: str) -> Callable[[Asked, Config], bool | str]:
    """Return a check of an origin's name; a mirror's elsewhere is not looked at."""

    def found(asked: Asked, origin: Config) -> bool | str:
        name: str = origin.get("name", "")
        slashes = "" if asked.version < Capability.REFUSE_SLASHES_IN_ORIGIN.since else "\\/"
        fits = bool(name) and not any(letter in f" \t\r\n\f.*>{slashes}" for letter in name)
        return not fits and not (field == "mirror" and "external" in origin) and repr(name)

    return found


def _way_faults(field: str) -> Callable[[Asked, Config], bool | str]:
    def found(asked: Asked, origin: Config) -> bool | str:
        here = field == "sources" and "external" not in origin
        listed = here or asked.version >= (
            Capability.CHECK_EVERY_SOURCE.since
            if field == "sources"
            else Capability.LIST_TRANSFORM_FUNCTIONS.since
        )
        faults = (
            subject_transforms.fault(src, dest, asked.version, listed=listed) for src, dest in _ways(origin)
        )
        return next(filter(None, faults), False)

    return found


def _ways_meet(field: str) -> Callable[[Asked, Config], bool | str]:
    """Return a check of an origin's transforms: of a mirror none may overlap another; of a source none may lie in another."""

    def meet(one: str, other: str) -> bool:
        lie = covers(one, other) or covers(other, one)
        return one == other or (overlap(one, other) if field == "mirror" else lie)

    def found(_asked: Asked, origin: Config) -> bool | str:
        pairs = combinations([src for src, _dest in _ways(origin)], 2)
        return _first(f"{one} and {other}" for one, other in pairs if meet(one, other))

    return found


def _is_larger(asked: Asked, origin: Config) -> bool | str:
    """Return whether the stream may become larger than its origin; compared only where both say how large."""
    held = None if "external" in origin else asked.streams.get(origin.get("name", ""))
    larger = held["max_msg_size"] if held else 0
    return 0 < asked.config["max_msg_size"] < larger and f"{origin['name']} takes {larger:,} bytes"


def _same_sources(asked: Asked) -> bool | str:
    seen = set[tuple[object, ...]]()
    for origin in asked.config["sources"] or ():
        ways = tuple((src or ">", dest or ">") for src, dest in _ways(origin))
        external = (origin["external"].get("api", ""),) if "external" in origin else ()
        key = (origin.get("name"), external, ways or ((origin.get("filter_subject") or ">", ">"),))
        if key in seen:
            return str(origin.get("name", ""))
        seen.add(key)
    return False


def _cycle(asked: Asked) -> bool | str:
    """Return whether the sources form a circle, with its words. A stream that was visited already counts only if what it stores passes the filter.

    The server takes two ways to one stream for a circle as well, if the longer one is looked at later.
    """
    ways: list[tuple[str, Config]] = [(asked.name, asked.config)]
    visited = set[str]()
    while ways:
        name, config = ways.pop(0)
        visited.add(name)
        for origin in config["sources"] or ():
            if "external" in origin:
                continue
            found, wanted = origin.get("name", ""), origin.get("filter_subject")
            if found in visited:
                if not wanted or any(overlap(subject, wanted) for subject in config["subjects"]):
                    return f"{name} copies {found}"
            elif found in asked.streams:
                ways.append((found, asked.streams[found]))
        mirror = config["mirror"]
        if mirror and "external" not in mirror:
            found = mirror.get("name", "")
            if found in visited:
                return f"{name} copies {found}"
            if found in asked.streams:
                ways.append((found, asked.streams[found]))
    return False


def _elsewhere(part: str, wrong: Callable[[str], bool]) -> Callable[[Asked, Config], bool | str]:
    """Return a check of an origin's `external` prefix `part`: the prefix itself if it is wrong."""

    def found(_asked: Asked, origin: Config) -> bool | str:
        prefix: str = (origin.get("external") or {}).get(part, "")
        return bool(prefix) and wrong(prefix) and prefix

    return found


def _is_no_literal(subject: str) -> bool:
    return not is_pattern(subject) or bool({"*", ">"} & set(subject.split(".")))


def _delivered_into_origin(asked: Asked, origin: Config) -> bool | str:
    """Return whether messages are delivered under the prefix into what an origin of this account stores."""
    prefix: str = (origin.get("external") or {}).get("deliver", "")
    stored = (
        subject
        for field in ("mirror", "sources")
        for near in _origins(asked, field)
        if "external" not in near
        for subject in asked.streams.get(near.get("name", ""), _NOTHING)["subjects"]
    )
    return bool(prefix) and any(overlap(subject, f"{prefix}.{subject}") for subject in stored) and prefix


def _filters(config: Config) -> tuple[str, ...]:
    one = config["filter_subject"]
    return (*([one] if one else ()), *config["filter_subjects"])


def _filter_in_filter(asked: Asked) -> bool | str:
    return _first(
        f"{one} and {other}"
        for one, other in combinations(_filters(asked.config), 2)
        if covers(one, other) or covers(other, one)
    )


def _filters_meet(asked: Asked) -> bool | str:
    return _first(
        f"{one} and {other}" for one, other in combinations(_filters(asked.config), 2) if overlap(one, other)
    )


def _pull(asked: Asked) -> bool:
    return not asked.config["deliver_subject"]


_STARTS = {"by_start_sequence": "opt_start_seq", "by_start_time": "opt_start_time"}


def _start(asked: Asked) -> bool | str:
    policy = asked.config["deliver_policy"]
    return policy in _STARTS and _first(
        f"{field} and deliver_policy: {policy}"
        for name, field in _STARTS.items()
        if bool(asked.config[field]) != (policy == name)
    )


def _sampled(text: str) -> bool:
    share = text.removesuffix("%")
    return bool(re.fullmatch(_NUMBER, share)) and 0 <= int(share) < 2**63


def _unacknowledged(asked: Asked) -> bool:
    """Return what a consumer has for max_ack_pending: a stream's limit is a default as well."""
    limited = (asked.stream["consumer_limits"] or {}).get("max_ack_pending", 0) > 0
    silent = asked.config["max_ack_pending"] in (-1, _MAX_ACK_PENDING)
    return not _pull(asked) and asked.config["ack_policy"] == "none" and (limited or not silent)


def _groups(asked: Asked) -> bool | str:
    policy = asked.config["priority_policy"]
    names = asked.config["priority_groups"] or ()
    return policy != "none" and _first(repr(name) for name in names if not re.fullmatch(_GROUP, name))


_DEFAULTS: Mapping[Kind, Mapping[str, Any]] = {
    kind: {name: field.default for name, field in FIELDS[kind].items()} for kind in Kind
}
_MAX_WAITING = _DEFAULTS[Kind.CONSUMER]["max_waiting"]
_MAX_ACK_PENDING = _DEFAULTS[Kind.CONSUMER]["max_ack_pending"]
_NUMBER = r"[+-]?[0-9]+"
_GROUP = r"[a-zA-Z0-9/_=-]{1,16}"
_MAX_DESCRIPTION = 4096
_MAX_METADATA = 128 * 1024
_MAX_INT32 = 2**31 - 1
_NOTHING: Config = {"subjects": ()}
_S, _NEW, _C, _R = Concerns.STREAM, Concerns.NEW_STREAM, Concerns.CONSUMER, Concerns.READER


def _from(*first: str) -> tuple[VersionRange, ...]:
    """Return version ranges: `2.12.0` is from there on, `2.12.10-2.14.0` from there on and before that."""
    spans = []
    for text in first:
        begin, _, end = text.partition("-")
        spans.append(VersionRange(Version.parse(begin), Version.parse(end) if end else None))
    return tuple(spans)


# fmt: off
CONSTRAINTS: tuple[Constraint, ...] = (
    Constraint("name", _S, ("name",), lambda asked: not is_name(asked.name) and repr(asked.name), ErrorCode.JSStreamNameContainsPathSeparatorsErr, "the name of a stream must be one that the server takes", f"at most {MAX_NAME} bytes, without white space, '.', '*', '>', '/' or '\\'"),
    Constraint("name", _C, ("name",), lambda asked: not is_name(asked.name) and repr(asked.name), ErrorCode.JSConsumerNameContainsPathSeparatorsErr, "the name of a consumer must be one that the server takes", f"at most {MAX_NAME} bytes, without white space, '.', '*', '>', '/' or '\\'"),
    Constraint("description", _S, ("description",), lambda asked: _long(asked.config["description"], _MAX_DESCRIPTION), ErrorCode.JSStreamInvalidConfigF, "description must have at most 4096 bytes", "shorten it"),
    Constraint("metadata", _S, ("metadata",), _labels_size, ErrorCode.JSStreamInvalidConfigF, "metadata must have at most 128 KiB in all, its keys and the tool's own labels included", "shorten it"),
    Constraint("max-age", _S, ("max_age",), lambda asked: _between(asked.config["max_age"], 100 * MILLISECOND), ErrorCode.JSStreamInvalidConfigF, "max_age must be at least 100ms", "write 100ms or more, or 0 to keep messages for ever"),
    Constraint("duplicate-window", _S, ("duplicate_window", "max_age"), _window, ErrorCode.JSStreamInvalidConfigF, "duplicate_window must not be longer than max_age", "a message that is gone cannot be recognised again: lower duplicate_window or raise max_age"),
    Constraint("duplicate-window", _S, ("duplicate_window",), lambda asked: _between(asked.config["duplicate_window"], 100 * MILLISECOND) and asked.config["duplicate_window"] != asked.config["max_age"], ErrorCode.JSStreamInvalidConfigF, "duplicate_window must be at least 100ms", "write 100ms or more"),
    Constraint("max-msg-size", _S, ("max_msg_size",), lambda asked: asked.config["max_msg_size"] > _MAX_INT32, ErrorCode.JSInvalidJSONErr, "max_msg_size must be below 2GB", "lower it, or write -1 for the server's own limit"),
    Constraint("rollup", _S, ("deny_purge", "allow_rollup_hdrs"), lambda asked: asked.config["deny_purge"] and asked.config["allow_rollup_hdrs"], ErrorCode.JSStreamInvalidConfigF, "deny_purge and allow_rollup_hdrs exclude each other", "take one of them out; subject_delete_marker_ttl and allow_msg_schedules switch allow_rollup_hdrs on"),
    Constraint("discard", _S, ("discard_new_per_subject", "discard", "max_msgs_per_subject"), lambda asked: asked.config["discard_new_per_subject"] and (asked.config["discard"] != "new" or asked.config["max_msgs_per_subject"] <= 0), ErrorCode.JSStreamInvalidConfigF, "discard_new_per_subject needs discard: new and a max_msgs_per_subject", "set both, or take discard_new_per_subject out"),
    Constraint("counter", _S, ("allow_msg_counter", "discard"), lambda asked: asked.config["allow_msg_counter"] and asked.config["discard"] == "new", ErrorCode.JSStreamInvalidConfigF, "allow_msg_counter and discard: new exclude each other", "take one of them out"),
    Constraint("counter", _S, ("allow_msg_counter", "allow_msg_ttl"), lambda asked: asked.config["allow_msg_counter"] and asked.config["allow_msg_ttl"], ErrorCode.JSStreamInvalidConfigF, "allow_msg_counter and allow_msg_ttl exclude each other", "take one of them out; subject_delete_marker_ttl switches allow_msg_ttl on"),
    Constraint("counter", _S, ("allow_msg_counter", "retention"), lambda asked: asked.config["allow_msg_counter"] and asked.config["retention"] != "limits", ErrorCode.JSStreamInvalidConfigF, "allow_msg_counter needs retention: limits", "set retention: limits, or take allow_msg_counter out"),
    Constraint("counter", _S, ("allow_msg_counter", "allow_msg_schedules"), lambda asked: asked.config["allow_msg_counter"] and asked.config["allow_msg_schedules"], ErrorCode.JSStreamInvalidConfigF, "allow_msg_counter and allow_msg_schedules exclude each other", "take one of them out", _from("2.12.10-2.14.0", "2.14.2")),
    Constraint("delete-marker", _S, ("subject_delete_marker_ttl",), lambda asked: _between(asked.config["subject_delete_marker_ttl"], SECOND), ErrorCode.JSStreamInvalidConfigF, "subject_delete_marker_ttl must be at least 1s", "write 1s or more, or 0 for none"),
    Constraint("delete-marker", _S, ("subject_delete_marker_ttl", "mirror"), lambda asked: bool(asked.config["subject_delete_marker_ttl"] and asked.config["mirror"]), ErrorCode.JSStreamInvalidConfigF, "a mirror must not have subject_delete_marker_ttl", "set it on the origin"),
    Constraint("schedules", _S, ("allow_msg_schedules", "discard"), lambda asked: asked.config["allow_msg_schedules"] and asked.config["discard"] == "new", ErrorCode.JSStreamInvalidConfigF, "allow_msg_schedules and discard: new exclude each other", "take one of them out", _from("2.12.10-2.14.0", "2.14.2")),
    Constraint("schedules", _S, ("allow_msg_schedules", "sources"), lambda asked: bool(asked.config["allow_msg_schedules"] and asked.config["sources"]), ErrorCode.JSSourceWithMsgSchedulesErr, "a stream with sources must not have allow_msg_schedules", "schedule on the origin"),
    Constraint("persist-mode", _S, ("persist_mode", "storage"), lambda asked: asked.config["persist_mode"] == "async" and asked.config["storage"] != "file", ErrorCode.JSStreamInvalidConfigF, "persist_mode: async needs storage: file", "what is in memory is on no disk: take persist_mode out"),
    Constraint("persist-mode", _S, ("persist_mode", "num_replicas"), lambda asked: asked.config["persist_mode"] == "async" and asked.config["num_replicas"] > 1, ErrorCode.JSStreamInvalidConfigF, "persist_mode: async needs a stream with one replica", "take persist_mode out, or set num_replicas to 1"),
    Constraint("persist-mode", _S, ("persist_mode", "allow_atomic"), lambda asked: asked.config["persist_mode"] == "async" and asked.config["allow_atomic"], ErrorCode.JSStreamInvalidConfigF, "persist_mode: async and allow_atomic exclude each other", "take one of them out"),
    Constraint("sealed", _NEW, ("sealed",), lambda asked: asked.config["sealed"], ErrorCode.JSStreamInvalidConfigF, "a stream cannot be created sealed", "apply without sealed first"),
    Constraint("mirror", _NEW, ("mirror_direct", "mirror"), lambda asked: asked.config["mirror_direct"] and not asked.config["mirror"], ErrorCode.JSStreamInvalidConfigF, "mirror_direct needs a mirror", "take mirror_direct out; allow_direct is for other streams"),
    Constraint("mirror", _S, ("mirror", "first_seq"), lambda asked: bool(asked.config["mirror"] and asked.config["first_seq"] > 0), ErrorCode.JSMirrorWithFirstSeqErr, "a mirror must not have first_seq: its messages have the numbers of the origin's", "take first_seq out, or use sources"),
    Constraint("mirror", _S, ("mirror", "subjects"), lambda asked: bool(asked.config["mirror"] and asked.config["subjects"]), ErrorCode.JSMirrorWithSubjectsErr, "a mirror must not have subjects", "set subjects: [], or use sources"),
    Constraint("mirror", _S, ("mirror", "sources"), lambda asked: bool(asked.config["mirror"] and asked.config["sources"]), ErrorCode.JSMirrorWithSourcesErr, "a mirror must not have sources", "take one of them out"),
    Constraint("mirror", _S, ("mirror", "allow_msg_counter"), lambda asked: bool(asked.config["mirror"] and asked.config["allow_msg_counter"]), ErrorCode.JSMirrorWithCountersErr, "a mirror must not have allow_msg_counter", "set it on the origin"),
    Constraint("mirror", _S, ("mirror", "allow_atomic"), lambda asked: bool(asked.config["mirror"] and asked.config["allow_atomic"]), ErrorCode.JSMirrorWithAtomicPublishErr, "a mirror must not have allow_atomic", "set it on the origin"),
    Constraint("mirror", _S, ("mirror", "allow_batched"), lambda asked: bool(asked.config["mirror"] and asked.config["allow_batched"]), ErrorCode.JSMirrorWithBatchPublishErr, "a mirror must not have allow_batched", "set it on the origin"),
    Constraint("mirror", _S, ("mirror", "allow_msg_schedules"), lambda asked: bool(asked.config["mirror"] and asked.config["allow_msg_schedules"]), ErrorCode.JSMirrorWithMsgSchedulesErr, "a mirror must not have allow_msg_schedules", "set it on the origin"),
    *(row for field, codes in (("mirror", (ErrorCode.JSMirrorInvalidStreamName, ErrorCode.JSMirrorMultipleFiltersNotAllowed, ErrorCode.JSMirrorInvalidTransformDestination, ErrorCode.JSMirrorInvalidSubjectFilter, ErrorCode.JSMirrorOverlappingSubjectFilters, ErrorCode.JSMirrorMaxMessageSizeTooBigErr)), ("sources", (ErrorCode.JSSourceInvalidStreamName, ErrorCode.JSSourceMultipleFiltersNotAllowed, ErrorCode.JSSourceInvalidTransformDestination, ErrorCode.JSSourceInvalidSubjectFilter, ErrorCode.JSSourceOverlappingSubjectFilters, ErrorCode.JSSourceMaxMessageSizeTooBigErr))) for row in (
        Constraint("origin", _S, (field,), _each(field, _is_no_asset(field), all_of_them=True), codes[0], f"{field} must name a stream as the server takes it", "write the stream's name, without white space, '.', '*', '>', '/' or '\\'"),
        Constraint("origin", _S, (field,), _each(field, lambda _, origin: bool(origin.get("filter_subject") and origin.get("subject_transforms"))), codes[1], f"filter_subject and subject_transforms of {field} exclude each other", "the src of a transform is a filter: take filter_subject out"),
        Constraint("transform", _S, (field,), _each(field, _way_faults(field), all_of_them=True), codes[2], f"subject_transforms of {field} must be ones that the server can make", "write src as a subject and dest with {{wildcard(1)}} for what its first * stands for"),
        Constraint("transform", _S, (field,), _each(field, lambda _, origin: any(not src for src, _dest in _ways(origin))), codes[3], f"subject_transforms of {field} need a src", "write > for all", _from("2.10.0-2.11.0")),
        Constraint("transform", _S, (field,), _each(field, _ways_meet(field)), codes[4], f"subject_transforms of {field} must be of different subjects", "write transforms whose src do not meet"),
        Constraint("origin", _S, ("max_msg_size", field), _each(field, _is_larger, all_of_them=True), codes[5], f"a stream must take messages as large as those of its {field}", "raise max_msg_size, or lower it on the origin"),
        Constraint("external", _S, (field,), _each(field, _elsewhere("deliver", _is_no_literal), all_of_them=True), ErrorCode.JSStreamInvalidExternalDeliverySubjErrF, f"external.deliver of {field} must be a subject without wildcards", "write a prefix such as far.deliver"),
        Constraint("external", _S, (field,), _each(field, _elsewhere("api", _is_no_literal), all_of_them=True), ErrorCode.JSStreamInvalidConfigF, f"external.api of {field} must be a subject without wildcards", "write a prefix such as $JS.hub.API"),
        Constraint("external", _S, (field,), _each(field, _elsewhere("api", lambda prefix: prefix == "$JS.API"), all_of_them=True), ErrorCode.JSStreamExternalApiOverlapErrF, f"external.api of {field} must not be this account's own, $JS.API", "take external out for a stream of this account"),
    )),
    Constraint("external", _S, ("sources",), _each("sources", _delivered_into_origin, all_of_them=True), ErrorCode.JSStreamExternalDelPrefixOverlapsErrF, "external.deliver of sources must not meet what another source stores", "write another prefix"),
    Constraint("origin", _S, ("sources",), _same_sources, ErrorCode.JSSourceDuplicateDetected, "sources must not name the same stream twice with the same filter", "take one out, or give each its own filter_subject"),
    Constraint("cycle", _S, ("sources",), _cycle, ErrorCode.JSStreamInvalidConfigF, "a stream must not copy its own messages, directly or by way of others", "take it out of the sources"),
    Constraint("cycle", _S, ("mirror",), _cycle, ErrorCode.JSStreamInvalidConfigF, "a stream must not mirror itself, directly or by way of others", "name another stream"),
    Constraint("subject", _S, ("subjects",), _no_subjects, ErrorCode.JSStreamInvalidConfigF, "subjects must be subjects", "tokens split by single dots, no white space, '>' only at the end"),
    Constraint("reserved-subject", _S, ("subjects", "no_ack"), lambda asked: ">" in asked.config["subjects"] and not asked.config["no_ack"], ErrorCode.JSStreamInvalidConfigF, "a stream of all subjects, >, needs no_ack: true", "name the subjects"),
    Constraint("reserved-subject", _S, ("subjects", "num_replicas"), lambda asked: ">" in asked.config["subjects"] and asked.config["num_replicas"] != 1, ErrorCode.JSStreamInvalidConfigF, "a stream of all subjects, >, needs one replica", "name the subjects"),
    Constraint("reserved-subject", _S, ("subjects", "no_ack"), _reserved("$JS.>", "$JSC.>", but="$JS.EVENT.>", whole=True), ErrorCode.JSStreamInvalidConfigF, "subjects of JetStream itself, $JS and $JSC, need no_ack: true", "store notices with $JS.EVENT, or take the subject out", _from("2.10.0-2.10.28", "2.11.0-2.11.2")),
    Constraint("reserved-subject", _S, ("subjects", "no_ack"), _reserved("$JS.>", "$JSC.>", "$NRG.>", but="$JS.EVENT.>", whole=False), ErrorCode.JSStreamInvalidConfigF, "subjects that meet those of JetStream itself, $JS, $JSC and $NRG, need no_ack: true", "store notices with $JS.EVENT, or take the subject out", _from("2.10.28-2.11.0", "2.11.2")),
    Constraint("reserved-subject", _S, ("subjects", "no_ack"), _reserved("$SYS.>", but="$SYS.ACCOUNT.>", whole=True), ErrorCode.JSStreamInvalidConfigF, "subjects of the server itself, $SYS, need no_ack: true", "take the subject out; of $SYS.ACCOUNT it may be", _from("2.10.0-2.10.28", "2.11.0-2.11.2")),
    Constraint("reserved-subject", _S, ("subjects", "no_ack"), _reserved("$SYS.>", but="$SYS.ACCOUNT.>", whole=False), ErrorCode.JSStreamInvalidConfigF, "subjects that meet those of the server itself, $SYS, need no_ack: true", "take the subject out; of $SYS.ACCOUNT it may be", _from("2.10.28-2.11.0", "2.11.2")),
    Constraint("transform", _S, ("subject_transform",), _own_transform, ErrorCode.JSStreamTransformInvalidDestination, "subject_transform must be one that the server can make", "write src as a subject and dest with {{wildcard(1)}} for what its first * stands for"),
    Constraint("republish", _S, ("republish",), _republished, ErrorCode.JSStreamInvalidConfigF, "republish must be a transform that the server can make", "write src as a subject and dest with {{wildcard(1)}} for what its first * stands for"),
    Constraint("republish", _S, ("republish", "subjects"), _republishes_to_itself, ErrorCode.JSStreamInvalidConfigF, "republish must not lead to a subject that the stream stores", "write a dest of its own, such as copy.>"),
    Constraint("description", _C, ("description",), lambda asked: _long(asked.config["description"], _MAX_DESCRIPTION), ErrorCode.JSConsumerDescriptionTooLongErrF, "description must have at most 4096 bytes", "shorten it"),
    Constraint("metadata", _C, ("metadata",), _labels_size, ErrorCode.JSConsumerMetadataLengthErrF, "metadata must have at most 128 KiB in all, its keys and the tool's own labels included", "shorten it"),
    Constraint("num-replicas", _R, ("num_replicas",), lambda asked: asked.config["num_replicas"] > asked.stream["num_replicas"], ErrorCode.JSConsumerReplicasExceedsStream, "a consumer must not have more replicas than its stream", "take num_replicas out: 0 is as many as the stream has"),
    Constraint("num-replicas", _R, ("num_replicas",), lambda asked: asked.stream["retention"] != "limits" and asked.config["num_replicas"] not in (0, asked.stream["num_replicas"]), ErrorCode.JSConsumerReplicasShouldMatchStream, "a consumer of an interest or workqueue stream must have as many replicas as the stream", "take num_replicas out: 0 is as many as the stream has"),
    Constraint("backoff", _C, ("backoff", "max_deliver"), lambda asked: 0 < asked.config["max_deliver"] < len(asked.config["backoff"] or ()) and f"{len(asked.config['backoff'])} and {asked.config['max_deliver']}", ErrorCode.JSConsumerMaxDeliverBackoffErr, "backoff must not have more steps than max_deliver", "at most one step per delivery"),
    Constraint("push", _C, ("deliver_subject",), lambda asked: not _pull(asked) and _is_no_literal(asked.config["deliver_subject"]), ErrorCode.JSConsumerDeliverToWildcardsErr, "deliver_subject must be a subject without wildcards", "write one subject, or take it out for a pull consumer"),
    Constraint("push", _R, ("deliver_subject",), lambda asked: _first(subject for subject in asked.stream["subjects"] if not _pull(asked) and covers(subject, asked.config["deliver_subject"])), ErrorCode.JSConsumerDeliverCycleErr, "deliver_subject must not be one that the stream stores", "write a subject that no stream stores"),
    Constraint("push", _C, ("deliver_subject", "max_waiting"), lambda asked: not _pull(asked) and asked.config["max_waiting"] != _MAX_WAITING, ErrorCode.JSConsumerPushMaxWaitingErr, "a consumer with deliver_subject must not have max_waiting", "take max_waiting out: nobody pulls"),
    Constraint("push", _R, ("deliver_subject", "max_ack_pending", "ack_policy"), _unacknowledged, ErrorCode.JSConsumerMaxPendingAckPolicyRequiredErr, "a consumer with deliver_subject and max_ack_pending needs an ack_policy", "set ack_policy: explicit, or take max_ack_pending out"),
    Constraint("push", _C, ("idle_heartbeat", "deliver_subject"), lambda asked: not _pull(asked) and _between(asked.config["idle_heartbeat"], 100 * MILLISECOND), ErrorCode.JSConsumerSmallHeartbeatErr, "idle_heartbeat must be at least 100ms", "write 100ms or more, or 0 for none"),
    Constraint("push", _C, ("flow_control", "idle_heartbeat"), lambda asked: asked.config["flow_control"] and not _pull(asked) and not asked.config["idle_heartbeat"], ErrorCode.JSConsumerWithFlowControlNeedsHeartbeats, "flow_control needs idle_heartbeat", "set idle_heartbeat as well, such as 5s"),
    Constraint("pull", _C, ("rate_limit_bps", "deliver_subject"), lambda asked: _pull(asked) and asked.config["rate_limit_bps"] > 0, ErrorCode.JSConsumerPullWithRateLimitErr, "rate_limit_bps needs a deliver_subject: pulls are not limited", "take rate_limit_bps out"),
    Constraint("pull", _C, ("idle_heartbeat", "deliver_subject"), lambda asked: _pull(asked) and asked.config["idle_heartbeat"] > 0, ErrorCode.JSConsumerHBRequiresPushErr, "idle_heartbeat needs a deliver_subject: each pull asks for its own", "take idle_heartbeat out"),
    Constraint("pull", _C, ("flow_control", "deliver_subject"), lambda asked: _pull(asked) and asked.config["flow_control"], ErrorCode.JSConsumerFCRequiresPushErr, "flow_control needs a deliver_subject: pulls control the flow themselves", "take flow_control out"),
    Constraint("pull", _C, ("max_expires",), lambda asked: _pull(asked) and _between(asked.config["max_expires"], MILLISECOND), ErrorCode.JSConsumerMaxRequestExpiresTooSmall, "max_expires must be at least 1ms", "write 1ms or more, or 0 for no limit"),
    Constraint("consumer-limits", _R, ("stream.consumer_limits", "max_ack_pending"), lambda asked: 0 < (asked.stream["consumer_limits"] or {}).get("max_ack_pending", 0) < asked.config["max_ack_pending"], ErrorCode.JSConsumerMaxPendingAckExcessErrF, "max_ack_pending must not be above the stream's consumer_limits", "lower it, or raise the limit"),
    Constraint("consumer-limits", _R, ("stream.consumer_limits", "inactive_threshold"), lambda asked: 0 < (asked.stream["consumer_limits"] or {}).get("inactive_threshold", 0) < asked.config["inactive_threshold"], ErrorCode.JSConsumerInactiveThresholdExcess, "inactive_threshold must not be above the stream's consumer_limits", "lower it, or raise the limit"),
    Constraint("filter", _C, ("filter_subjects", "filter_subject"), lambda asked: bool(asked.config["filter_subject"] and asked.config["filter_subjects"]), ErrorCode.JSConsumerDuplicateFilterSubjects, "filter_subject and filter_subjects exclude each other", "set one of them"),
    Constraint("subject", _C, ("filter_subject",), lambda asked: _first(one for one in _filters(asked.config) if not is_pattern(one)), ErrorCode.JSStreamInvalidConfigF, "filter_subject must be a subject", "tokens split by single dots, no white space, '>' only at the end"),
    Constraint("subject", _C, ("filter_subjects",), lambda asked: _first(one for one in _filters(asked.config) if not is_pattern(one)), ErrorCode.JSStreamInvalidConfigF, "filter_subjects must be subjects", "tokens split by single dots, no white space, '>' only at the end"),
    Constraint("filter", _C, ("filter_subjects",), _filter_in_filter, ErrorCode.JSConsumerOverlappingSubjectFilters, "none of filter_subjects may lie in another", "take the narrower one out"),
    Constraint("filter", _C, ("filter_subjects",), _filters_meet, ErrorCode.JSConsumerOverlappingSubjectFilters, "filter_subjects must not meet", "write filters that have no subject in common", _from("2.10.14-2.12.5")),
    Constraint("deliver-policy", _C, ("deliver_policy",), _start, ErrorCode.JSConsumerInvalidPolicyErrF, "by_start_sequence needs opt_start_seq, and by_start_time needs opt_start_time", "set the one that the policy asks for, and not the other"),
    Constraint("deliver-policy", _C, ("opt_start_seq", "deliver_policy"), lambda asked: asked.config["opt_start_seq"] > 0 and asked.config["deliver_policy"] not in _STARTS, ErrorCode.JSConsumerInvalidPolicyErrF, "opt_start_seq needs deliver_policy: by_start_sequence", "set both, or neither"),
    Constraint("deliver-policy", _C, ("opt_start_time", "deliver_policy"), lambda asked: bool(asked.config["opt_start_time"]) and asked.config["deliver_policy"] not in _STARTS, ErrorCode.JSConsumerInvalidPolicyErrF, "opt_start_time needs deliver_policy: by_start_time", "set both, or neither"),
    Constraint("deliver-policy", _C, ("deliver_policy", "filter_subject"), lambda asked: asked.config["deliver_policy"] == "last_per_subject" and not _filters(asked.config), ErrorCode.JSConsumerInvalidPolicyErrF, "deliver_policy: last_per_subject needs a filter", "set filter_subject; > is all subjects"),
    Constraint("sampling", _C, ("sample_freq",), lambda asked: not _sampled(asked.config["sample_freq"]) and repr(asked.config["sample_freq"]), ErrorCode.JSConsumerInvalidSamplingErrF, "sample_freq must be a whole number of per cent", "write for example 50, or take it out"),
    Constraint("priority", _C, ("priority_policy", "priority_groups"), lambda asked: asked.config["priority_policy"] != "none" and not asked.config["priority_groups"], ErrorCode.JSConsumerPriorityPolicyWithoutGroup, "priority_policy needs priority_groups", "name the groups: priority_groups: [first]"),
    Constraint("priority", _C, ("priority_groups",), _groups, ErrorCode.JSConsumerInvalidGroupNameErr, "priority_groups must have names of at most 16 letters, digits, '-', '_', '/' or '='", "write for example first"),
    Constraint("priority", _C, ("priority_policy", "deliver_subject"), lambda asked: asked.config["priority_policy"] != "none" and not _pull(asked), ErrorCode.JSConsumerPushWithPriorityGroupErr, "a consumer with deliver_subject must not have a priority_policy", "take one of them out", _from("2.11.7")),
    Constraint("priority", _C, ("priority_groups", "priority_policy"), lambda asked: bool(asked.config["priority_policy"] == "none" and asked.config["priority_groups"]), ErrorCode.JSConsumerPriorityGroupWithPolicyNone, "priority_groups need a priority_policy", "set priority_policy, such as overflow, or take them out", _from("2.12.0")),
    Constraint("priority", _C, ("priority_timeout", "priority_policy"), lambda asked: asked.config["priority_policy"] == "none" and asked.config["priority_timeout"] > 0, ErrorCode.JSConsumerPinnedTTLWithoutPriorityPolicyNone, "priority_timeout needs a priority_policy", "set priority_policy: pinned_client, or take it out", _from("2.12.0")),
    Constraint("workqueue", _R, ("stream.retention", "ack_policy"), lambda asked: asked.stream["retention"] == "workqueue" and asked.config["ack_policy"] != "explicit" and f"it is {asked.config['ack_policy']}", ErrorCode.JSConsumerWQRequiresExplicitAckErr, "a consumer of a workqueue needs ack_policy: explicit", "set it, or use retention limits or interest"),
    Constraint("workqueue", _R, ("stream.retention", "deliver_policy"), lambda asked: asked.stream["retention"] == "workqueue" and asked.config["deliver_policy"] != "all" and f"it is {asked.config['deliver_policy']}", ErrorCode.JSConsumerWQConsumerNotDeliverAllErr, "a consumer of a workqueue needs deliver_policy: all", "set it, or use retention limits or interest"),
)
# fmt: on
