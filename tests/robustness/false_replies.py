"""What a server may answer that is no answer: drawn from a seed, of each kind some."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

from cyborg_infra.model.error_codes import ErrorCode
from tests.robustness.false_server import Said

DEEP = 3000  # levels of nesting
JUNK: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    7,
    10**9,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    10**30,
    -(10**19),
    0.5,
    1e308,
    "",
    "banana",
    "a.b.*.>",
    "nul\x00 esc\x1b[31m line\nbreak",
    "é" * 300,
    "9" * 5000,
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "2026-13-45T00:00:00Z",
    [],
    [1, "a", None, {}],
    [[]],
    {},
    {"a": {"b": [1]}},
    {"name": 5},
)
ERRORS = (
    0,
    -1,
    503,
    ErrorCode.JSAccountResourcesExceededErr,
    ErrorCode.JSClusterNotAvailErr,
    ErrorCode.JSConsumerNotFoundErr,
    ErrorCode.JSInsufficientResourcesErr,
    ErrorCode.JSNoMessageFoundErr,
    ErrorCode.JSNotEnabledForAccountErr,
    ErrorCode.JSStorageResourcesExceededErr,
    ErrorCode.JSStreamInvalidConfigF,
    ErrorCode.JSStreamNameExistErr,
    ErrorCode.JSStreamNotFoundErr,
    ErrorCode.JSStreamWrongLastSequenceErrF,
    ErrorCode.JSStreamReplicasNotSupportedErr,
    ErrorCode.JSStreamStoreFailedF,
    ErrorCode.JSConsumerAlreadyExists,
)
TEXTS = (
    b"",
    b"null",
    b"[]",
    b"5",
    b"-1",
    b"true",
    b'"text"',
    b"{}",
    b"{",
    b"NaN",
    b"\xff\xfe\x00\x01",
    b"+OK",
    b"<html>",
)


def place_in(value: Any, draw: Random) -> tuple[Any, Any] | None:
    """Return an object or list somewhere inside, and a key of it; None where there is none."""
    places: list[tuple[Any, Any]] = []

    def walk(one: Any) -> None:
        items = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        for key, item in items:
            places.append((one, key))
            walk(item)

    walk(value)
    return draw.choice(places) if places else None


def changed(answer: bytes, draw: Random) -> bytes:
    """Return a valid answer with something in it that is not: another type, another number, nothing, something more."""
    try:
        value = json.loads(answer)
    except ValueError:
        return answer
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        if (place := place_in(value, draw)) is None:
            break
        inside, key = place
        match draw.randrange(6):
            case 0 | 1 | 2:
                inside[key] = copy.deepcopy(draw.choice(JUNK))
            case 3:
                del inside[key]
            case 4:
                inside[key] = _neighbour(inside[key], draw)
            case 5:
                inside[key] = [inside[key]]
    return json.dumps(value).encode()


def _neighbour(value: Any, draw: Random) -> Any:
    """Something of the same kind: what no check of types can find."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw.choice((value + 1, value - 1, -value, value * 1000, value + 10**6))
    if isinstance(value, str):
        return draw.choice((value + "x", value[:-1], value.upper(), value * 2))
    if isinstance(value, list):
        return value * draw.choice((0, 2, 50))
    return value


def wholly(_answer: bytes, draw: Random) -> bytes:
    """Something else altogether."""
    match draw.randrange(6):
        case 0:
            return draw.choice(TEXTS)
        case 1:
            return json.dumps(draw.choice(JUNK)).encode()
        case 2:
            return draw.choice(
                (b"[" * DEEP, b'{"a":' * DEEP, b'{"config":' + b"[" * DEEP + b"]" * DEEP + b"}")
            )
        case 3:
            return json.dumps({"error": draw.choice(JUNK)}).encode()
        case 4:
            code = draw.choice(ERRORS)
            return json.dumps({"error": {"code": 400, "err_code": code, "description": "said so"}}).encode()
        case _:
            error = {
                "code": draw.choice(JUNK),
                "err_code": draw.choice(JUNK),
                "description": draw.choice(JUNK),
            }
            return json.dumps({"error": error}).encode()


def cut(answer: bytes, draw: Random) -> bytes:
    """Return the beginning of it."""
    return answer[: draw.randrange(len(answer) + 1)]


class Lies:
    """The lies of one case, all drawn from its seed: what the client hears instead of some answers.

    Either each answer is a lie by a chance, or from a certain one on all about a kind of request are.
    """

    def __init__(self, seed: object, *, silence: bool = True) -> None:
        self.draw = Random(str(seed))  # noqa: S311 - to be drawn again
        self.chance = self.draw.choice((0.0, 0.0, 0.05, 0.2, 1.0))
        self.first = self.draw.choice((1, 2, 3, 5, 8, 13, 21, 34, 55))
        self.kind = self.draw.choice(
            ("", "", "", "INFO", "LIST", "STREAM", "CONSUMER", "MSG", "CREATE", "$KV")
        )
        self.way = self.draw.choice(
            ("changed", "changed", "changed", "wholly", "cut", "other", "odd", "mixed")
        )
        self.silence = silence
        self.count = 0
        self.told: list[str] = []
        self.earlier: list[bytes] = []

    def __call__(self, subject: str, answer: bytes) -> Said:
        self.count += 1
        self.earlier = [*self.earlier[-8:], answer]
        lies = self.draw.random() < self.chance or (not self.chance and self.count > self.first)
        if not lies or self.kind not in subject:
            return Said([answer])
        way = (
            self.draw.choice(("changed", "wholly", "cut", "other", "odd"))
            if self.way == "mixed"
            else self.way
        )
        said = self._odd(answer) if way == "odd" else Said([_WAYS[way](self, answer)])
        self.told.append(f"{subject}: {way} {said.payloads!r:.300}{' and closed' if said.closed else ''}")
        return said

    def _odd(self, answer: bytes) -> Said:
        match self.draw.randrange(5):
            case 0 if self.silence:
                return Said([])
            case 1:
                return Said([answer, answer])
            case 2:
                return Said([], closed=True)
            case 3:
                return Said([answer[: len(answer) // 2]], closed=True)
            case _:
                return Said([answer], delay=0.02)


_WAYS: dict[str, Callable[[Lies, bytes], bytes]] = {
    "changed": lambda lies, answer: changed(answer, lies.draw),
    "wholly": lambda lies, answer: wholly(answer, lies.draw),
    "cut": lambda lies, answer: cut(answer, lies.draw),
    "other": lambda lies, _answer: lies.draw.choice(lies.earlier),
}


INFO = {
    "server_id": "NABC",
    "server_name": "somebody",
    "version": "2.15.1",
    "proto": 1,
    "host": "127.0.0.1",
    "port": 4222,
    "headers": True,
    "max_payload": 1048576,
    "jetstream": True,
    "client_id": 5,
    "cluster": "c",
    "connect_urls": ["127.0.0.1:4222"],
}


def info_of(draw: Random) -> bytes:
    """Return what a server may say of itself behind the word INFO, in one line."""
    valid = json.dumps(INFO).encode()
    found = changed(valid, draw) if draw.random() < 0.6 else wholly(valid, draw)
    return draw.choice((found, found, found, cut(found, draw))).replace(b"\n", b" ").replace(b"\r", b" ")
