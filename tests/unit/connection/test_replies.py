"""What is no answer of a JetStream server is refused in one line, which names the request and what was wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cyborg_infra.live.api.errors import ApiError, raise_for_error
from cyborg_infra.live.connection.replies import BadAnswer, decode_acknowledgement, decode_answer, info_fault
from cyborg_infra.model.error_codes import ErrorCode

STATE = {
    **dict.fromkeys(("messages", "bytes", "first_seq", "last_seq", "consumer_count"), 0),
    **dict.fromkeys(("first_ts", "last_ts"), "0001-01-01T00:00:00Z"),
}
STREAM: dict[str, Any] = {
    "config": {"name": "A", "retention": "limits", "storage": "file", "num_replicas": 1},
    "created": "2026-01-31T00:00:00.123456789Z",
    "state": STATE,
}
PAGE = {"total": 1, "streams": [STREAM]}


def _refused(verb: str, reply: bytes) -> str:
    with pytest.raises(BadAnswer) as caught:
        decode_answer(verb, reply, "reading")
    (problem,) = caught.value.problems
    assert "\n" not in problem.message
    return problem.message.removeprefix("reading: ")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"[]", "STREAM.LIST answered a list where an object was expected"),
        (b"17", "STREAM.LIST answered a number where an object was expected"),
        (b"null", "STREAM.LIST answered null where an object was expected"),
        (b'"text"', "STREAM.LIST answered text where an object was expected"),
        (b"", "STREAM.LIST answered what is no JSON"),
        (b"\xff\x00", "STREAM.LIST answered what is no JSON"),
        (b'{"a":' * 5000, "STREAM.LIST answered what is no JSON"),
        (b"{}", "STREAM.LIST answered nothing at total where something was expected"),
        (b'{"total": -1}', "STREAM.LIST answered -1 at total where a whole number from 0 was expected"),
        (b'{"total": 1e30}', "STREAM.LIST answered 1e+30 at total where a whole number from 0 was expected"),
        (b'{"error": "text"}', "STREAM.LIST answered text at error where an object was expected"),
        (
            b'{"error": {"code": "5"}}',
            "STREAM.LIST answered text at error/code where a whole number was expected",
        ),
    ],
)
def test_the_request_and_what_was_wrong_are_named(reply: bytes, said: str) -> None:
    assert _refused("STREAM.LIST", reply) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": 5}, "a number at config where an object was expected"),
        ({"config": {**STREAM["config"], "name": "a.*"}}, "'a.*' at config/name where a name was expected"),
        (
            {"config": {**STREAM["config"], "max_age": "72h"}},
            "text at config/max_age where a whole number was expected",
        ),
        (
            {"config": {**STREAM["config"], "subjects": [1]}},
            "a number at config/subjects/0 where text was expected",
        ),
        (
            {"config": {**STREAM["config"], "retention": None}},
            "nothing at config/retention where something was expected",
        ),
        (
            {"state": {**STATE, "messages": 0.5}},
            "0.5 at state/messages where a whole number from 0 was expected",
        ),
        ({"state": {**STATE, "first_ts": "noon"}}, "'noon' at state/first_ts where a time was expected"),
        ({"created": "2026-01-31T00:00:00"}, "'2026-01-31T00:00:00' at created where a time was expected"),
        ({"cluster": {"replicas": [{}]}}, "nothing at cluster/replicas/0/name where something was expected"),
    ],
)
def test_the_place_in_an_answer_is_named(change: dict[str, Any], said: str) -> None:
    reply = json.dumps(STREAM | change).encode()
    assert _refused("STREAM.INFO.A", reply) == f"STREAM.INFO answered {said}"


def test_a_field_that_only_a_newer_server_knows_may_be_anything_that_is_not_nested_for_ever() -> None:
    config = {**STREAM["config"], "newer": {"deeply": [1, {"nested": None}]}}
    decode_answer("STREAM.INFO.A", json.dumps(STREAM | {"config": config}).encode(), "reading")
    nested: Any = 1
    for _ in range(200):
        nested = [nested]
    reply = json.dumps(STREAM | {"config": {**config, "newer": nested}}).encode()
    assert "more than 32 levels of nesting at config/newer" in _refused("STREAM.INFO.A", reply)


def test_an_answer_about_another_stream_is_none() -> None:
    assert _refused("STREAM.INFO.B", json.dumps(STREAM).encode()) == "STREAM.INFO answered about A"


def test_null_is_absent() -> None:
    """As Go writes lists and objects that are empty."""
    page = decode_answer(
        "STREAM.LIST", json.dumps({"total": 0, "streams": None, "missing": None}).encode(), "reading"
    )
    assert page == {"total": 0}
    config = {**STREAM["config"], "subjects": None}
    assert (
        decode_answer(
            "STREAM.LIST", json.dumps({**PAGE, "streams": [STREAM | {"config": config}]}).encode(), ""
        )
        == PAGE
    )


def test_the_last_of_many_rows_is_checked_as_the_first() -> None:
    """Of many a compiled schema lets most through."""
    many = [json.loads(json.dumps(STREAM)) for _ in range(300)]
    reply = json.dumps({"total": 301, "streams": [*many, STREAM | {"cluster": None}]}).encode()
    assert decode_answer("STREAM.LIST", reply, "")["streams"] == [*many, STREAM]
    reply = json.dumps({"total": 301, "streams": [*many, STREAM | {"created": "noon"}]}).encode()
    said = "STREAM.LIST answered 'noon' at streams/300/created where a time was expected"
    assert _refused("STREAM.LIST", reply) == said


@pytest.mark.parametrize(
    "error",
    [
        {},
        {"err_code": ErrorCode.JSStreamNotFoundErr},
        {"code": 404, "err_code": ErrorCode.JSStreamNotFoundErr, "description": None},
    ],
)
def test_an_error_needs_no_description(error: dict[str, Any]) -> None:
    answer = decode_answer("STREAM.LIST", json.dumps({"error": error}).encode(), "reading")
    with pytest.raises(ApiError):
        raise_for_error(answer, "reading")


def test_an_acknowledgement_names_its_stream_and_number() -> None:
    assert decode_acknowledgement(b'{"stream": "A", "seq": 4}', "sending") == {"stream": "A", "seq": 4}
    with pytest.raises(
        BadAnswer, match=r"sending: the stream answered text at seq where a whole number from 0"
    ):
        decode_acknowledgement(b'{"stream": "A", "seq": "4"}', "sending")


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ([], "a list where an object was expected"),
        ({}, "nothing at version where something was expected"),
        ({"version": "banana"}, "'banana' at version where a version such as 2.15.1 was expected"),
        ({"version": 2}, "a number at version where text was expected"),
        (
            {"version": "2.15.1", "max_payload": "1MB"},
            "text at max_payload where a whole number from 0 was expected",
        ),
        (
            {"version": "2.15.1", "connect_urls": [5]},
            "a number at connect_urls/0 where text in one line was expected",
        ),
        (
            {"version": "2.15.1", "cluster": "\x1b[2J"},
            "control characters at cluster where text in one line was expected",
        ),
    ],
)
def test_what_a_server_says_of_itself_is_checked(info: object, said: str) -> None:
    assert str(info_fault(info)) == said
