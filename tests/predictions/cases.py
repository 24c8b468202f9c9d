"""What `predictions` tries: settings of a role's tasks and worker, drawn from the field table at its boundaries."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cyborg_infra.model.constraints import CONSTRAINTS, Concerns
from cyborg_infra.model.fields import FIELDS, Config, Field, Kind, Unit
from cyborg_infra.model.units import HOUR, MAX_INT64, MICROSECOND, MILLISECOND, MINUTE, SECOND

ORG, BASE = "acme", "base"
ORIGIN, NARROW, COPY = "ORIGIN", "NARROW", "COPY"
ORIGINS: Mapping[str, Config] = {
    ORIGIN: {"subjects": ["origin.>"]},
    NARROW: {"subjects": ["narrow.>"], "max_msg_size": 1000},
    COPY: {"subjects": ["copied.>"], "sources": [{"name": ORIGIN}]},
}
"""Streams that are there to be copied: an ordinary one, one of small messages, one that copies the first."""
UNKNOWN = "NOBODYS"

Setting = dict[Kind, dict[str, Any]]
"""What a manifest sets for tasks and worker, in wire form."""
Case = tuple[Setting, ...]
"""Settings that are wanted one after the other."""

SECTIONS = {Kind.STREAM: "tasks", Kind.CONSUMER: "worker"}
_LEFT_OUT = {"metadata"}
_LATER = 0.6  # of all cases have a second setting, and so many of those a third

_DURATIONS: tuple[int, ...] = (
    0,
    1,
    50 * MILLISECOND,
    99 * MILLISECOND,
    100 * MILLISECOND,
    999 * MILLISECOND,
    SECOND,
    MINUTE,
)
_DURATIONS += (2 * MINUTE, 2 * MINUTE + 1, 72 * HOUR, MAX_INT64, MICROSECOND, MILLISECOND)
_SIZES = (-1, 0, 1, 500, 1024, 1024**2, 2**31 - 1, 2**31, 2**40)
_COUNTS = (-1, 0, 1, 2, 3, 5, 100, 512, 1000, 1001, 2**31 - 1, 2**31, 2**53, MAX_INT64)
_DESTINATIONS = (
    "copy",
    "copy.>",
    ">",
    "copy.{{wildcard(1)}}",
    "copy.{{Wildcard( 1 )}}",
    "copy.$1",
    "copy.$2",
    "copy.$x",
    "copy.{{wildcard(2)}}",
    "copy.{{wildcard(0)}}",
    "copy.{{wildcard()}}",
    "copy.{{wildcard(1,1)}}",
    "copy.{{wildcard(x)}}",
    "copy.{{nope(1)}}",
    "copy.{{}}",
    "copy.{{partition(3,1)}}",
    "copy.{{partition(3)}}",
    "copy.{{partition()}}",
    "copy.{{partition(99999999999,1)}}",
    "copy.{{split(1,-)}}",
    "copy.{{split(1)}}",
    "copy.{{split(1, )}}",
    "copy.{{splitFromLeft(1,2)}}",
    "copy.{{SplitFromRight(1,99999999999)}}",
    "copy.{{sliceFromLeft(1,2,3)}}",
    "copy.{{slicefromright(1,2)}}",
    "copy.{{left(1,2)}}",
    "copy.{{right(1)}}",
    "copy.{{random(5)}}",
    "copy.{{random(x)}}",
    "copy.{{random(1,2)}}",
    "copy.a b",
    "copy..a",
    "copy.*",
    "copy.>.a",
    "",
)


def _own(number: int) -> tuple[str, str, str]:
    """Return the role, its stream and its subject."""
    return f"r{number}", f"AGENT_R{number}_TASKS", f"{ORG}.agents.r{number}.tasks"


def role_of(number: int) -> str:
    return _own(number)[0]


def stream_of(number: int) -> str:
    return _own(number)[1]


class Draw:
    """The choices of one case; the same number and seed make the same ones."""

    def __init__(self, seed: int, number: int) -> None:
        self.random = random.Random(f"{seed}/{number}")  # noqa: S311 - not for secrets
        self.role, self.stream, self.subject = _own(number)

    def case(self) -> Case:
        """Return one setting, and perhaps what is wanted after it."""
        settings = [self._setting()]
        while len(settings) < 3 and self.chance(_LATER):
            settings.append(self._setting() if self.chance(0.2) else self._changed(settings[-1]))
        return tuple(settings)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def some(self, least: int, most: int, *values: Any) -> list[Any]:
        return self.random.sample(values, self.random.randint(least, min(most, len(values))))

    def _setting(self) -> Setting:
        """Return one to three fields of each, at random or such as the server compares with one another."""
        names = {kind: self._names(kind) for kind in Kind}
        if self.chance(0.5):
            row = self.random.choice(CONSTRAINTS)
            for field in row.fields:
                theirs = field.removeprefix("stream.")
                of_stream = row.concerns in (Concerns.STREAM, Concerns.NEW_STREAM) or theirs != field
                kind = Kind.STREAM if of_stream else Kind.CONSUMER
                if theirs in FIELDS[kind] and theirs not in names[kind]:
                    names[kind] = [theirs, *names[kind]][:3]
        found = {kind: {name: self._value(FIELDS[kind][name]) for name in names[kind]} for kind in Kind}
        return self._completed(found)

    def _names(self, kind: Kind) -> list[str]:
        known = [name for name in FIELDS[kind] if name not in _LEFT_OUT or self.chance(0.05)]
        return self.random.sample(known, self.random.randint(kind is Kind.STREAM, 3))

    def _completed(self, setting: Setting) -> Setting:
        """Return what is hardly ever drawn together, and is nothing without the other."""
        tasks, worker = setting[Kind.STREAM], setting[Kind.CONSUMER]
        if tasks.get("mirror") and self.chance(0.8):
            tasks["subjects"] = []
        copied = [origin for field in ("mirror", "sources") for origin in _listed(tasks.get(field))]
        if copied and self.chance(0.1):
            self.random.choice(copied)["name"] = NARROW
            tasks["max_msg_size"] = 500
        if self.chance(0.02):
            tasks |= {"subjects": [">"], "no_ack": self.chance(0.7), "num_replicas": self.pick(1, 2)}
        if tasks.get("discard_new_per_subject") and self.chance(0.5):
            tasks |= {"discard": "new", "max_msgs_per_subject": 5}
        if tasks.get("republish") and self.chance(0.3):
            tasks["subject_transform"] = self.pick(
                {"src": self.subject, "dest": "stored"},
                {"src": self.subject, "dest": "stored.{{partition(3)}}"},
            )
        if worker.get("deliver_policy") in ("by_start_sequence", "by_start_time") and self.chance(0.7):
            field = {"by_start_sequence": "opt_start_seq", "by_start_time": "opt_start_time"}
            name = field[worker["deliver_policy"]]
            worker[name] = self._value(FIELDS[Kind.CONSUMER][name])
        if worker.get("priority_policy", "none") != "none" and self.chance(0.6):
            worker["priority_groups"] = ["first"]
        if ({"flow_control", "idle_heartbeat", "rate_limit_bps"} & worker.keys()) and self.chance(0.5):
            worker["deliver_subject"] = "push.here"
        return setting

    def _changed(self, before: Setting) -> Setting:
        """Another setting near it: a field more, another value, or one less."""
        after = {kind: dict(fields) for kind, fields in before.items()}
        for _ in range(self.random.randint(1, 2)):
            kind = self.pick(*Kind)
            if after[kind] and self.chance(0.3):
                del after[kind][self.random.choice(sorted(after[kind]))]
            else:
                name = self.random.choice(sorted({*FIELDS[kind]} - _LEFT_OUT))
                after[kind][name] = self._value(FIELDS[kind][name])
        return self._completed(after)

    def _value(self, field: Field) -> Any:
        return self._of_name(field) if (field.kind, field.name) in _BY_NAME else self._of_unit(field)

    def _of_unit(self, field: Field) -> Any:
        match field.unit:
            case Unit.DURATION:
                return self.pick(*_DURATIONS, 0, MINUTE, HOUR, HOUR, 2 * HOUR)
            case Unit.DURATIONS:
                return [self.pick(*_DURATIONS) for _ in range(self.random.randint(0, 4))]
            case Unit.SIZE:
                return self.pick(*_SIZES)
            case Unit.COUNT:
                least = -1 if field.least is None else field.least
                most = MAX_INT64 if field.most is None else field.most
                if field.name == "num_replicas":
                    return self.pick(least, 1, 1, 1, 1, 2, most)
                return self.pick(
                    *(number for number in sorted({*_COUNTS, least, most}) if least <= number <= most)
                )
            case Unit.FLAG:
                return self.pick(True, True, False)
            case Unit.CHOICE:
                return self.pick(*field.choices or ())
            case Unit.TIME:
                return self.pick("2026-01-31T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.5Z")
            case Unit.METADATA:
                return self.pick({}, {"team": "a"}, {"team": "x" * 131_000}, {"team": "x" * 132_000})
        raise NotImplementedError(f"{field.name}: a row of a unit that needs values of its own")

    def patterns(self) -> tuple[str, ...]:
        """Return subjects of all kinds, or mostly such as do no harm."""
        if self.chance(0.6):
            return (
                self.subject,
                f"{ORG}.agents.{self.role}.more",
                f"free.{self.role}.a",
                f"free.{self.role}.*",
            )
        patterns: tuple[str, ...] = (
            self.subject,
            f"{ORG}.agents.{self.role}.*",
            f"{ORG}.agents.{self.role}.more",
        )
        patterns += (
            f"{ORG}.agents.*.tasks",
            f"{ORG}.*.{self.role}.tasks",
            f"{ORG}.>",
            ">",
            "*",
            "free.a",
            "free.*",
        )
        patterns += (
            "free.x.>",
            "free.*.c",
            "free.b.*",
            "$SYS.foo",
            "$SYS.ACCOUNT.foo",
            "$JS.foo",
            "$JS.API.>",
        )
        patterns += (
            "$JS.EVENT.foo",
            "$NRG.x",
            "$JSC.x",
            "$X.foo",
            "*.foo",
            "*.*",
            "origin.a",
            "a..b",
            "a b",
            "a.>.b",
        )
        return (*patterns, ".", "a.")

    def _of_name(self, field: Field) -> Any:
        return _BY_NAME[field.kind, field.name](self)

    def transform(self) -> dict[str, str]:
        src = self.pick(
            self.subject, f"{ORG}.agents.*.tasks", f"{ORG}.*.*.tasks", f"{ORG}.>", ">", "", "free.*"
        )
        return {"src": src, "dest": self.pick(*_DESTINATIONS)}

    def origin(self) -> dict[str, Any]:
        odd = (NARROW, COPY, self.stream, "a b", "a/b", "a.b", "")
        found: dict[str, Any] = {"name": self.pick(*odd) if self.chance(0.4) else self.pick(ORIGIN, UNKNOWN)}
        if self.chance(0.3):
            found["filter_subject"] = self.pick("origin.a", "origin.>", "free.a", self.subject, ">")
        if self.chance(0.3):
            ways = [self.transform() for _ in range(self.random.randint(1, 2))]
            found["subject_transforms"] = [
                way | {"src": way["src"] or self.pick("", "origin.*")} for way in ways
            ]
        if self.chance(0.1):
            found["opt_start_seq"] = self.pick(0, 1, 2**53)
        if self.chance(0.1):
            found["opt_start_time"] = "2026-01-31T00:00:00Z"
        if found["name"] and self.chance(
            0.2
        ):  # without a name, the manifest's own form has something against it
            api = self.pick("$JS.hub.API", "$JS.API", "$JS.*.API", "JS.far.API", "a b")
            deliver = self.pick("", "far.deliver", "far.*", "origin", "far..x")
            found["external"] = {"api": api} | ({"deliver": deliver} if deliver else {})
        return found

    def sources(self) -> list[dict[str, Any]]:
        found = [self.origin() for _ in range(self.random.randint(0, 2))]
        return [*found, *found[:1]] if self.chance(0.1) else found


_BY_NAME: Mapping[tuple[Kind, str], Callable[[Draw], Any]] = {
    (Kind.STREAM, "description"): lambda draw: draw.pick("", "a", "x" * 4096, "é" * 2049),
    (Kind.CONSUMER, "description"): lambda draw: draw.pick("", "a", "x" * 4096, "é" * 2049),
    (Kind.STREAM, "subjects"): lambda draw: draw.pick(
        [draw.subject],
        [draw.subject, *draw.some(0, 2, *draw.patterns())],
        draw.some(0, 2, *draw.patterns()),
    ),
    (Kind.STREAM, "mirror"): lambda draw: draw.pick({}, *(draw.origin() for _ in range(5))),
    (Kind.STREAM, "sources"): lambda draw: draw.sources(),
    (Kind.STREAM, "subject_transform"): lambda draw: draw.pick({}, *(draw.transform() for _ in range(5))),
    (Kind.STREAM, "republish"): lambda draw: draw.pick(
        {},
        {"src": ">", "dest": ">"},
        *(draw.transform() | {"headers_only": draw.chance(0.5)} for _ in range(5)),
    ),
    (Kind.STREAM, "placement"): lambda draw: draw.pick(
        {}, {"cluster": "eu"}, {"tags": ["ssd"]}, {"cluster": "", "tags": []}
    ),
    (Kind.STREAM, "consumer_limits"): lambda draw: draw.pick(
        {},
        {"max_ack_pending": draw.pick(0, 1, 3, 5, 1000, 2000)},
        {"inactive_threshold": draw.pick(0, SECOND, HOUR)},
        {"max_ack_pending": 1000, "inactive_threshold": HOUR},
    ),
    (Kind.STREAM, "sealed"): lambda draw: draw.chance(0.2),
    (Kind.CONSUMER, "sample_freq"): lambda draw: draw.pick(
        "", "0", "50", "50%", "101", "%", "50%%", "abc", "-1", "+5", "1.5", "99999999999999999999"
    ),
    (Kind.CONSUMER, "deliver_group"): lambda draw: draw.pick("", "workers", "a b"),
    (Kind.CONSUMER, "deliver_subject"): lambda draw: draw.pick(
        "", "push.here", "push.there", "push.*", "a b", "a..b", draw.subject, ">"
    ),
    (Kind.CONSUMER, "filter_subject"): lambda draw: draw.pick("", draw.subject, *draw.patterns()),
    (Kind.CONSUMER, "filter_subjects"): lambda draw: draw.pick(
        [],
        [draw.subject],
        [draw.subject, *draw.some(1, 2, *draw.patterns())],
        draw.some(0, 3, *draw.patterns()),
    ),
    (Kind.CONSUMER, "priority_groups"): lambda draw: draw.pick(
        [], ["first"], ["first", "second"], ["a b"], ["x" * 16], ["x" * 17], ["a.b"], ["A-_/=9"]
    ),
    (Kind.CONSUMER, "inactive_threshold"): lambda draw: draw.pick(0, 30 * SECOND, HOUR, HOUR + 1, MAX_INT64),
}
"""Fields whose boundaries are not those of their unit. A threshold of moments would delete the consumer under way."""


def _listed(value: Any) -> list[Any]:
    return [value] if value and isinstance(value, dict) else value or []


def smaller(case: Case) -> Iterator[Case]:
    """Yield the same case with less in it: a setting less, a field less, an item less."""
    for position in range(len(case)):
        if len(case) > 1:
            yield case[:position] + case[position + 1 :]
    for position, setting in enumerate(case):
        for kind, fields in setting.items():
            for name, value in fields.items():
                rest = {key: kept for key, kept in fields.items() if key != name}
                yield (*case[:position], {**setting, kind: rest}, *case[position + 1 :])
                for less in _less(value):
                    yield (*case[:position], {**setting, kind: {**fields, name: less}}, *case[position + 1 :])


def _less(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from (value[:position] + value[position + 1 :] for position in range(len(value)))
        for position, item in enumerate(value):
            yield from ([*value[:position], less, *value[position + 1 :]] for less in _less(item))
    if isinstance(value, dict):
        yield from (
            {key: kept for key, kept in value.items() if key != name}
            for name in value
            if name not in ("name", "src", "dest")
        )
        for name, item in value.items():
            yield from ({**value, name: less} for less in _less(item))
