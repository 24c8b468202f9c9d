"""What tests/server/plan/test_fields.py tries on a server: for every row of the table, configurations that differ in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from cyborg_infra.model.fields import FIELDS, Config, Field, Kind, Unit
from cyborg_infra.model.units import HOUR, MINUTE, SECOND

ORIGIN, OTHER_ORIGIN = "ORIGIN", "OTHER_ORIGIN"
"""Streams that are there to be mirrored and sourced; both allow direct reads."""


@dataclass(frozen=True, slots=True)
class Case:
    """Configurations of which every one is changed into every other one; None in them means absent."""

    kind: Kind
    field: str
    needs: Config  # what all of them have besides
    configs: tuple[Config, ...]

    @property
    def varied(self) -> set[str]:
        """The fields that may be different after a change."""
        return {name for config in self.configs for name in config}

    def complete(self) -> Iterator[dict[str, Any]]:
        """Yield the whole configurations."""
        for config in self.configs:
            yield {name: value for name, value in {**self.needs, **config}.items() if value is not None}

    def changes(self, level: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield every (before, after) that a server of this API level knows."""
        yield from permutations(
            (config for config in self.complete() if needed(self.kind, config) <= level), 2
        )


def needed(kind: Kind, config: Config) -> int:
    """Return the API level that knows every field and choice of `config`."""
    return max(_since(FIELDS[kind][name], value) for name, value in config.items())


def _since(field: Field, value: object) -> int:
    return max(field.since, (field.choices or {}).get(str(value), 0) if field.unit is Unit.CHOICE else 0)


def _stream(field: str, *values: Any, **needs: Any) -> Case:
    return _together(Kind.STREAM, field, *({field: value} for value in values), **needs)


def _mirror(field: str, *values: Any, **needs: Any) -> Case:
    """Return of a stream that is a mirror: it has no subjects of its own."""
    return Case(Kind.STREAM, field, needs, tuple({field: value} for value in values))


def _consumer(field: str, *values: Any, **needs: Any) -> Case:
    return _together(Kind.CONSUMER, field, *({field: value} for value in values), **needs)


def _together(kind: Kind, field: str, *configs: Config, **needs: Any) -> Case:
    """Return of a field whose values ask for different companions."""
    basis = {"subjects": ["case.>"]} if kind is Kind.STREAM else {"ack_policy": "explicit"}
    return Case(kind, field, basis | needs, configs)


_PUSH = {"deliver_subject": "push.case"}
_PARTS = {
    "external": {"api": "JS.far.API", "deliver": "far.deliver"},
    "opt_start_time": "2026-01-31T00:00:00Z",
    "subject_transforms": [{"src": "origin.a", "dest": "far.a"}, {"src": "origin.b", "dest": "far.b"}],
}
_MARKERS = {"allow_msg_ttl": True, "allow_rollup_hdrs": True}
_ELSEWHERE = {"name": ORIGIN, "external": {"api": "JS.elsewhere.API"}}
_GROUP = {"priority_groups": ["first"], "priority_policy": "overflow"}
_JANUARY, _FEBRUARY = "2026-01-31T00:00:00Z", "2026-02-28T12:30:00.5Z"

# fmt: off
STREAM_CASES = (
    _stream("description", "", "one", "two"),
    _stream("subjects", ["case.a"], ["case.b"], ["case.b", "case.a"], ["case.*"]),
    _stream("retention", "limits", "interest", "workqueue"),
    _stream("max_consumers", -1, 10, 20),
    _stream("max_msgs", -1, 10, 20),
    _stream("max_bytes", -1, 100_000, 200_000),
    _stream("max_age", 0, HOUR, 2 * HOUR),
    _stream("max_msgs_per_subject", -1, 1, 10),
    _stream("max_msg_size", -1, 1000, 2000),
    _stream("storage", "file", "memory"),
    _stream("discard", "old", "new", max_msgs=10),
    _stream("discard_new_per_subject", False, True, discard="new", max_msgs_per_subject=1),
    _stream("no_ack", False, True),
    _stream("duplicate_window", 120 * SECOND, MINUTE, HOUR),
    _stream("placement", None, {"cluster": "eu"}, {"tags": ["ssd"]}, {"cluster": "eu", "tags": ["ssd", "big"]}),
    _mirror("mirror", *({"name": name} for name in (ORIGIN, OTHER_ORIGIN)), {"name": ORIGIN, "filter_subject": "origin.a", "opt_start_seq": 5}, {"name": "FAR", **_PARTS}),
    _together(Kind.STREAM, "mirror", {"mirror": None, "mirror_direct": False, "duplicate_window": MINUTE}, {"mirror": {"name": ORIGIN}, "subjects": None}),
    _stream("sources", None, [{"name": ORIGIN}], [{"name": ORIGIN}, {"name": OTHER_ORIGIN}], [{"name": ORIGIN, "filter_subject": "origin.a", "opt_start_seq": 5}], [{"name": "FAR", **_PARTS}], duplicate_window=MINUTE),
    _stream("compression", "none", "s2"),
    _stream("first_seq", 0, 100, 1000),
    _stream("subject_transform", None, {"src": "case.*", "dest": "kept.{{wildcard(1)}}"}, {"src": "case.>", "dest": "kept.>"}),
    _stream("republish", None, {"src": ">", "dest": "copy.>"}, {"src": "case.a", "dest": "copied", "headers_only": True}),
    _stream("allow_direct", False, True),
    _mirror("mirror_direct", False, True, mirror=_ELSEWHERE),
    _stream("sealed", False, True, discard="new", deny_delete=True, deny_purge=True),
    _stream("deny_delete", False, True),
    _stream("deny_purge", False, True),
    _stream("allow_rollup_hdrs", False, True),
    _stream("consumer_limits", None, {"max_ack_pending": 10}, {"max_ack_pending": 20, "inactive_threshold": HOUR}),
    _stream("allow_msg_ttl", False, True),
    _stream("subject_delete_marker_ttl", 0, SECOND, HOUR, **_MARKERS),
    _stream("allow_msg_counter", False, True),
    _stream("allow_atomic", False, True),
    _stream("allow_msg_schedules", False, True, allow_rollup_hdrs=True),
    _stream("persist_mode", "default", "async"),
    _stream("allow_batched", False, True),
    _stream("metadata", None, {"team": "platform"}, {"team": "other", "more": "text"}),
)

CONSUMER_CASES = (
    _consumer("description", "", "one", "two"),
    _consumer("deliver_policy", "all", "last", "new"),
    _consumer("deliver_policy", "all", "last_per_subject", filter_subject="home.a"),
    _together(Kind.CONSUMER, "deliver_policy", {"deliver_policy": "all"}, {"deliver_policy": "by_start_sequence", "opt_start_seq": 5}, {"deliver_policy": "by_start_time", "opt_start_time": _JANUARY}),
    _consumer("opt_start_seq", 5, 6, deliver_policy="by_start_sequence"),
    _consumer("opt_start_time", _JANUARY, _FEBRUARY, deliver_policy="by_start_time"),
    _consumer("ack_policy", "none", "all", "explicit"),
    _consumer("ack_wait", 30 * SECOND, SECOND, HOUR),
    _consumer("max_deliver", -1, 1, 3),
    _together(Kind.CONSUMER, "backoff", {"backoff": [30 * MINUTE, HOUR], "ack_wait": 30 * MINUTE}, {"backoff": [HOUR], "ack_wait": HOUR}, {"backoff": None}, max_deliver=3),
    _consumer("filter_subject", "", "home.a", "home.b"),
    _consumer("filter_subjects", None, ["home.a", "home.b"], ["home.c", "home.a"]),
    _together(Kind.CONSUMER, "filter_subjects", {"filter_subject": "home.a"}, {"filter_subjects": ["home.b"]}, {"filter_subjects": ["home.a", "home.b"]}),
    _consumer("replay_policy", "instant", "original"),
    _consumer("sample_freq", "", "100", "50%"),
    _consumer("rate_limit_bps", 0, 1000, 2000, **_PUSH),
    _consumer("max_ack_pending", 1000, 5, -1),
    _consumer("max_waiting", 512, 1, 1000),
    _consumer("headers_only", False, True),
    _consumer("max_batch", 0, 10, 20),
    _consumer("max_expires", 0, SECOND, HOUR),
    _consumer("max_bytes", 0, 1000, 2000),
    _consumer("inactive_threshold", 0, HOUR, 2 * HOUR),
    _consumer("mem_storage", False, True),
    _consumer("deliver_subject", "push.a", "push.b"),
    _together(Kind.CONSUMER, "deliver_subject", {"deliver_subject": ""}, {"deliver_subject": "push.a", "max_waiting": None}),
    _consumer("deliver_group", "", "one", "two", **_PUSH),
    _consumer("flow_control", False, True, idle_heartbeat=SECOND, **_PUSH),
    _consumer("idle_heartbeat", 0, SECOND, MINUTE, **_PUSH),
    _consumer("priority_groups", ["first"], ["first", "second"], ["second"], priority_policy="overflow"),
    _consumer("priority_policy", "overflow", "prioritized", priority_groups=["first"]),
    _together(Kind.CONSUMER, "priority_policy", {"priority_policy": "none"}, _GROUP, {**_GROUP, "priority_policy": "pinned_client", "priority_timeout": MINUTE}),
    _consumer("priority_timeout", MINUTE, HOUR, priority_groups=["first"], priority_policy="pinned_client"),
    _consumer("metadata", None, {"team": "platform"}, {"team": "other", "more": "text"}),
)

# fmt: on

CASES = (*STREAM_CASES, *CONSUMER_CASES)

CLUSTERED = "num_replicas"
"""The field that a single server cannot try, of both kinds."""

_MIRRORED = {"mirror": {"name": ORIGIN}}
_SOURCED = {"subjects": ["case.>"], "sources": [{"name": ORIGIN}]}
_STARTED = {"ack_policy": "none", "deliver_policy": "by_start_time"}
_CASE = {"subjects": ["case.>"]}

# fmt: off
ALIKE: tuple[tuple[Kind, Config, Config], ...] = (
    (Kind.STREAM, {"subjects": ["case.b", "case.a"]}, {"subjects": ["case.a", "case.b"]}),
    (Kind.STREAM, {**_CASE, "max_msgs": 0, "max_bytes": 0, "max_msgs_per_subject": 0, "max_msg_size": 0, "max_consumers": 0}, _CASE),
    (Kind.STREAM, {**_CASE, "max_msgs": -5, "duplicate_window": 0, "description": "", "sources": [], "metadata": {}}, _CASE),
    (Kind.STREAM, {**_CASE, "metadata": {"team": "platform", "_nats.ver": "1.0.0", "_nats.own": "x"}}, {**_CASE, "metadata": {"team": "platform"}}),
    (Kind.STREAM, {**_CASE, "placement": {}, "consumer_limits": {"max_ack_pending": 0}}, _CASE),
    (Kind.STREAM, {**_CASE, "placement": {"cluster": "eu", "tags": []}}, {**_CASE, "placement": {"cluster": "eu"}}),
    (Kind.STREAM, {**_CASE, "republish": {"src": ">", "dest": "copy.>", "headers_only": False}}, {**_CASE, "republish": {"src": ">", "dest": "copy.>"}}),
    (Kind.STREAM, {**_SOURCED, "sources": [{"name": ORIGIN, "opt_start_seq": 0, "subject_transforms": []}, {"name": "FAR", "external": {"api": "JS.far.API", "deliver": ""}}], "duplicate_window": HOUR},
                  {**_SOURCED, "sources": [{"name": "FAR", "external": {"api": "JS.far.API"}}, {"name": ORIGIN}], "duplicate_window": HOUR}),
    (Kind.STREAM, {"mirror": {"name": ORIGIN, "opt_start_time": "2026-01-31T01:00:00.500+01:00"}}, {"mirror": {"name": ORIGIN, "opt_start_time": "2026-01-31T00:00:00.5Z"}}),
    (Kind.STREAM, {**_MIRRORED, "mirror_direct": False}, {**_MIRRORED, "mirror_direct": True}),
    (Kind.STREAM, {**_MIRRORED, "duplicate_window": 0}, _MIRRORED),
    (Kind.CONSUMER, {"filter_subjects": ["home.b", "home.a"]}, {"filter_subjects": ["home.a", "home.b"]}),
    (Kind.CONSUMER, {"filter_subjects": ["home.a"]}, {"filter_subject": "home.a"}),
    (Kind.CONSUMER, {"max_deliver": 0, "max_waiting": 0, "ack_wait": 0, "backoff": [], "max_ack_pending": 0}, {}),
    (Kind.CONSUMER, {"max_deliver": -7}, {}),
    *((Kind.CONSUMER, {**_STARTED, "opt_start_time": text}, {**_STARTED, "opt_start_time": _JANUARY})
      for text in ("2026-01-31T00:00:00.000Z", "2026-01-31T00:00:00+00:00", "2026-01-31T01:00:00+01:00", "2026-01-30T18:30:00-05:30")),
    (Kind.CONSUMER, {**_STARTED, "opt_start_time": "2026-01-31T00:00:00.123456789+00:00"}, {**_STARTED, "opt_start_time": "2026-01-31T00:00:00.123456789Z"}),
)
"""Two ways to say the same: as it may be sent, and as the table compares it."""

FILLED: tuple[tuple[Kind, Config, Config], ...] = (
    (Kind.STREAM, {**_CASE, "max_age": SECOND}, {"duplicate_window": SECOND}),
    (Kind.STREAM, {**_CASE, "subject_delete_marker_ttl": SECOND}, _MARKERS),  # 2.11.0 and 2.11.1 refuse it instead
    (Kind.STREAM, {**_CASE, "allow_msg_schedules": True}, {"allow_rollup_hdrs": True}),
    (Kind.STREAM, {**_MIRRORED, "mirror_direct": False}, {"mirror_direct": True}),
    (Kind.STREAM, {**_CASE, "sealed": True, "max_age": HOUR, "allow_rollup_hdrs": True}, {"max_age": 0, "discard": "new", "deny_delete": True, "deny_purge": True, "allow_rollup_hdrs": False}),
    (Kind.STREAM, {**_CASE, "republish": {"dest": "copy.>"}}, {"republish": {"src": ">", "dest": "copy.>"}}),
    (Kind.CONSUMER, {"backoff": [MINUTE, HOUR], "max_deliver": 3}, {"ack_wait": MINUTE}),
    (Kind.CONSUMER, {**_GROUP, "priority_policy": "pinned_client"}, {"priority_timeout": 2 * MINUTE}),
)
"""What the server adds to what was sent, and expand therefore writes out."""
# fmt: on
