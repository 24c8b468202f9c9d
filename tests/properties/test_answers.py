"""What a compiled schema lets through of a listing, our own checks let through as well, and leave as it is."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft4Validator

from cyborg_infra.live.connection.replies import LISTED_CONSUMER, STREAM
from cyborg_infra.model.json_shapes import Check, sufficient_schema
from tests.support.draws import draws

ZERO = "0001-01-01T00:00:00Z"
AT = "2026-12-01T15:05:36.758304361Z"
CLUSTER = {
    "name": "east",
    "raft_group": "S-R3F-1",
    "leader": "n1",
    "replicas": [{"name": "n2", "current": True, "offline": False, "active": 1_000, "lag": 3, "peer": "x"}],
    "desired": {"leader": "n2"},
}
LABELS = {"_nats.req.level": "0", "cyborg-infra.org": "bench", "text": "zwei\nZeilen"}
ROWS: dict[str, tuple[Check, dict[str, Any]]] = {
    "stream": (
        STREAM,
        {
            "config": {
                "name": "AGENT_CTO_TASKS",
                "subjects": ["bench.agents.cto.tasks"],
                "retention": "limits",
                "max_msgs": -1,
                "max_age": 259_200_000_000_000,
                "storage": "file",
                "num_replicas": 1,
                "sealed": False,
                "consumer_limits": {},
                "placement": {"cluster": "east", "tags": ["ssd"]},
                "republish": {"src": ">", "dest": "copy.>", "headers_only": False},
                "metadata": LABELS,
                "newer": {"flat": 1},
            },
            "created": AT,
            "state": {
                **dict.fromkeys(("messages", "bytes", "first_seq", "last_seq", "consumer_count"), 3),
                **dict.fromkeys(("first_ts", "last_ts"), ZERO),
                "deleted": [1, 2],
                "subjects": {"a": 1},
            },
            "ts": AT,
            "cluster": CLUSTER,
            "mirror": {"name": "B", "lag": 0, "active": -1},
        },
    ),
    "consumer": (
        LISTED_CONSUMER,
        {
            "stream_name": "AGENT_INBOXES",
            "name": "cto-inbox-reader",
            "created": AT,
            "config": {
                "durable_name": "cto-inbox-reader",
                "name": "cto-inbox-reader",
                "deliver_policy": "all",
                "ack_policy": "explicit",
                "ack_wait": 600_000_000_000,
                "max_deliver": 3,
                "backoff": [1_000, 2_000],
                "filter_subject": "bench.agents.cto.inbox",
                "pause_until": AT,
                "priority_groups": ["a"],
                "metadata": LABELS,
            },
            "delivered": {"consumer_seq": 0, "stream_seq": 0, "last_active": AT},
            "ack_floor": {"consumer_seq": 0, "stream_seq": 0, "last_active": AT},
            **dict.fromkeys(("num_ack_pending", "num_redelivered", "num_waiting", "num_pending"), 0),
            "ts": AT,
            "cluster": CLUSTER,
            "paused": False,
            "push_bound": True,
        },
    ),
}
VALID = {kind: Draft4Validator(sufficient_schema(check)).is_valid for kind, (check, _) in ROWS.items()}

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ODD_NUMBERS = [0, 1, -1, 2**63, 2**64 - 1, -(2**63), 0.0, 1.0, -0.0, 0.5, 1e300]
ODD_TEXTS = [
    "",
    "a",
    "a.b",
    "a b",
    "*",
    ">",
    "\x00",
    "\x7f",
    "\x1b[2J",
    "a\n",
    "A" * 256,
    "\u2028",
    "é",
    "\u202e",
]
ODD_TIMES = [
    AT[:-1],
    AT.lower(),
    f"{AT}\n",
    f" {AT}",
    AT.replace("T", " "),
    AT.replace("Z", "+01:00"),
    AT.replace("Z", "-25:00"),
    AT.replace(".7", ".\u0667"),
    *(
        f"2026-12-01T{clock}Z"
        for clock in ("24:00:00", "23:60:00", "23:59:60", "23:59:59.", "2:00:00", "12:00")
    ),
]
ODD: list[Any] = [
    *(None, True, False, [], {}, [None], {"a": None}, {"a": [1]}, {"a": {"b": {}}}, [[]]),
    *ODD_NUMBERS,
    *ODD_TEXTS,
    *ODD_TIMES,
]
VALUES = st.recursive(
    st.one_of(
        st.sampled_from(ODD),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXTS,
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)

Path = tuple[str | int, ...]


def _paths(value: Any, begin: Path = ()) -> list[Path]:
    """Return where anything is in it, and where something could be besides."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = [*value.items(), ("besides", None)]
    elif isinstance(value, list):
        items = [*enumerate(value)]
    return [path for key, item in items for path in ((*begin, key), *_paths(item, (*begin, key)))]


PLACES = [(kind, path) for kind, (_, row) in ROWS.items() for path in _paths(row)]


def _check_changed(kind: str, path: Path, value: Any) -> bool:
    """Check that the row with this value there fits, if it is valid; return whether it is."""
    check, row = ROWS[kind][0], copy.deepcopy(ROWS[kind][1])
    *way, last = path
    place: Any = row
    for key in way:
        place = place[key]
    place[last] = value
    if not VALID[kind](row):
        return False
    before = repr(row)
    assert (path, check(row)) == (path, None)
    assert repr(row) == before
    return True


def test_what_is_valid_fits_and_stays_as_it_is_whatever_stands_in_one_place() -> None:
    valid = [_check_changed(kind, path, copy.deepcopy(value)) for kind, path in PLACES for value in ODD]
    assert True in valid
    assert False in valid


@draws(400)
@given(st.sampled_from(PLACES), VALUES)
def test_what_is_valid_fits_whatever_is_drawn(place: tuple[str, Path], value: Any) -> None:
    _check_changed(*place, value)


def test_days_that_no_month_has_are_not_valid() -> None:
    days = [
        f"{year:04}-{month:02}-{day:02}"
        for year in (0, 1, 999, 2024, 2026)
        for month in range(14)
        for day in range(33)
    ]
    valid = [day for day in days if _check_changed("stream", ("created",), f"{day}T23:59:59Z")]
    assert len(valid) == 3 * 365  # of three years; a 29th of February is rare enough to be looked at twice


def test_what_a_server_writes_is_valid() -> None:
    """Or all of it would be looked at twice."""
    assert [kind for kind, (_, row) in ROWS.items() if not VALID[kind](row)] == []


def test_what_is_nested_deeply_is_no_error() -> None:
    """As deeply as JSON is decoded at all: where it is read it goes to our check, elsewhere nobody looks."""
    nested: Any = 1
    for _ in range(1000):
        nested = [nested]
    assert not _check_changed("stream", ("config", "besides"), nested)
    row = {**ROWS["stream"][1], "besides": nested}
    assert VALID["stream"](row)
    assert STREAM(row) is None
