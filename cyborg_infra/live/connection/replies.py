"""Decode every answer of a server, and check its shape before anybody reads it.

What answers on the API's subjects need not be JetStream, or not one that we know. A row of the table says what is read
from an answer, so that whoever reads it can rely on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from cyborg_infra.model.fields import Kind
from cyborg_infra.model.json_shapes import (
    Check,
    Mismatch,
    anything,
    base64,
    config_of,
    count,
    flag,
    list_of,
    map_of,
    name,
    object_of,
    printable,
    string,
    sufficient_schema,
    time,
    whole,
    yes,
)
from cyborg_infra.model.permissions import Permissions
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.server_versions import Version
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import Option, worded

HINT = worded(
    "something else may answer on this subject: check {} and {}", Option("js_api_prefix"), Option("js_domain")
)


class BadAnswer(ServerFault):
    """What answered is not what a JetStream server says. Whether it has done what was asked is not known."""

    def __init__(self, doing: str, who: str, what: object) -> None:
        super().__init__(Problem("no-api", f"{doing}: {who} answered {what}", None, HINT))


_ERROR = object_of({}, {"code": whole, "err_code": whole, "description": string})
_FAILED = object_of({"error": _ERROR})

_CLUSTER = object_of(
    {},
    {
        "name": printable,
        "leader": printable,
        "replicas": list_of(
            object_of({"name": printable}, {"current": flag, "offline": flag, "lag": whole, "active": whole})
        ),
        "desired": anything,
    },
)
_STREAM_STATE = object_of(
    {
        **dict.fromkeys(("messages", "bytes", "first_seq", "last_seq"), count),
        **dict.fromkeys(("first_ts", "last_ts"), time),
    },
    {
        "num_subjects": count,
        "num_deleted": count,
        "consumer_count": count,
        "deleted": list_of(count),
        "subjects": map_of(count),
    },
)
STREAM = object_of(
    {
        "config": config_of(Kind.STREAM, ("name", "retention", "storage", "num_replicas")),
        "state": _STREAM_STATE,
        "created": time,
    },
    {"ts": time, "cluster": _CLUSTER, "total": count, "mirror": anything, "sources": anything},
)
_SEQUENCES = object_of({"stream_seq": count}, {"consumer_seq": count, "last_active": time})
_CONSUMER_FIELDS: Mapping[str, Check] = {
    "stream_name": name,
    "name": name,
    "created": time,
    "config": config_of(Kind.CONSUMER, ("deliver_policy", "ack_policy")),
    "delivered": _SEQUENCES,
    "ack_floor": _SEQUENCES,
    **dict.fromkeys(("num_pending", "num_ack_pending", "num_redelivered", "num_waiting"), count),
}
_CONSUMER_MORE: Mapping[str, Check] = {"ts": time, "cluster": _CLUSTER, "paused": flag, "push_bound": flag}
CONSUMER = object_of(_CONSUMER_FIELDS, _CONSUMER_MORE)
LISTED_CONSUMER = object_of(
    {
        **_CONSUMER_FIELDS,
        # One whose servers are down has no name of its own, only that in its configuration (2.10.26 and 2.15.1).
        **dict.fromkeys(("stream_name", "name"), printable),
    },
    _CONSUMER_MORE,
)
_LIMITS = object_of(
    {},
    {
        **dict.fromkeys(("max_streams", "max_consumers", "max_storage", "max_memory"), whole),
        **dict.fromkeys(("max_ack_pending", "storage_max_stream_bytes", "memory_max_stream_bytes"), whole),
        "max_bytes_required": flag,
    },
)
_ACCOUNT = object_of(
    {"streams": count, "consumers": count, "limits": _LIMITS},
    {
        "api": object_of({}, {"level": count}),
        "domain": printable,
        "reserved_storage": whole,
        "reserved_memory": whole,
    },
)
_MESSAGE = object_of({"subject": string, "seq": count, "time": time}, {"data": base64, "hdrs": base64})
_DONE = object_of({"success": yes})
ACKNOWLEDGEMENT = object_of({"stream": name, "seq": count}, {"duplicate": flag})
_SUBJECTS = object_of({}, dict.fromkeys(("allow", "deny"), list_of(printable)))
_USER = object_of(
    {
        "data": object_of(
            {},
            {
                **dict.fromkeys(("account", "account_name"), printable),
                "permissions": object_of({}, {"publish": _SUBJECTS}),
            },
        )
    },
    {"server": object_of({}, {**dict.fromkeys(("name", "cluster", "domain"), printable), "jetstream": flag})},
)


def _version(value: Any) -> Mismatch | None:
    if (misfit := string(value)) is not None:
        return misfit
    try:
        Version.parse(value)
    except ValueError:
        return Mismatch(repr(value[:40]), "a version such as 2.15.1")
    return None


_INFO = object_of(
    {"version": _version},
    {
        **dict.fromkeys(("server_name", "server_id", "cluster", "domain", "nonce"), printable),
        **dict.fromkeys(
            ("headers", "jetstream", "tls_required", "tls_available", "auth_required", "ldm"), flag
        ),
        **dict.fromkeys(("max_payload", "client_id", "proto"), count),
        "connect_urls": list_of(printable),
    },
)


_MANY_ROWS = 128
"""So many rows take our checks longer than the compiling of a schema."""


def compiled_for_many(check: Check) -> Check:
    """Return the same check. After MANY_ROWS values a compiled schema looks at each first, in a fifth of the time: what it does not let through is checked as before."""
    asked = 0
    is_valid: Callable[[Any], bool] | None = None

    def checked(value: Any) -> Mismatch | None:
        nonlocal asked, is_valid
        if is_valid is not None and is_valid(value):
            return None
        if asked == _MANY_ROWS:
            from jsonschema_rs import Draft4Validator

            is_valid = Draft4Validator(sufficient_schema(check)).is_valid
        asked += 1
        return check(value)

    return checked


def _page(member: str, row: Check) -> Check:
    # The server has a null for a list of none. What it could not ask for has no row, and is named.
    return object_of(
        {"total": count},
        {member: list_of(compiled_for_many(row)), "missing": list_of(name), "offline": map_of(printable)},
    )


class _Answer(NamedTuple):
    """What is read from an answer, and which stream or consumer each row in it is about."""

    check: Check
    about: Callable[[Mapping[str, Any]], Iterable[tuple[str, ...]]] = lambda _: ()


_STREAM_ROW = _Answer(STREAM, lambda answer: [(answer["config"]["name"],)])
_CONSUMER_ROW = _Answer(CONSUMER, lambda answer: [(answer["stream_name"], answer["name"])])
_ANSWERS: Mapping[str, _Answer] = {
    "INFO": _Answer(_ACCOUNT),
    "STREAM.INFO": _STREAM_ROW,
    "STREAM.CREATE": _STREAM_ROW,
    "STREAM.UPDATE": _STREAM_ROW,
    "STREAM.DELETE": _Answer(_DONE),
    "STREAM.PURGE": _Answer(_DONE),
    "STREAM.LIST": _Answer(_page("streams", STREAM)),
    "STREAM.NAMES": _Answer(object_of({}, {"streams": list_of(name)})),
    "STREAM.MSG.GET": _Answer(object_of({"message": _MESSAGE})),
    "STREAM.MSG.DELETE": _Answer(_DONE),
    "CONSUMER.INFO": _CONSUMER_ROW,
    "CONSUMER.CREATE": _CONSUMER_ROW,
    "CONSUMER.DELETE": _Answer(_DONE),
    "CONSUMER.LIST": _Answer(
        _page("consumers", LISTED_CONSUMER),
        lambda page: (
            (row["stream_name"],) for row in page.get("consumers") or () if row["stream_name"] or row["name"]
        ),
    ),
}
"""By the name of the request; of any other answer nothing is read but whether it is an error."""

_NOTHING_READ = _Answer(object_of({}))


def decode_answer(verb: str, reply: bytes, doing: str) -> dict[str, Any]:
    """Return the API's answer to a request, which may be an error; `verb` with the names that the request is about.

    Raises BadAnswer for what is none, or is about another stream or consumer than the one that was asked for.
    """
    kind, names = _split_verb(verb)
    wanted = _ANSWERS.get(kind, _NOTHING_READ)
    answer = decode_reply(reply, wanted.check, doing, kind)
    if "error" not in answer:
        for about in wanted.about(answer):
            if about != names:
                raise BadAnswer(doing, kind, f"about {'/'.join(about)}")
    return answer


def decode_acknowledgement(reply: bytes, doing: str) -> dict[str, Any]:
    """Return a stream's answer to a message. Raises BadAnswer."""
    return decode_reply(reply, ACKNOWLEDGEMENT, doing, "the stream")


class ServerIdentity(NamedTuple):
    """A server, what it says of itself, and the account that we are in there; what is not known is empty."""

    account: str
    server: str
    cluster: str
    domain: str
    jetstream: bool


def server_identity(reply: bytes) -> ServerIdentity:
    """Return who answered $SYS.REQ.USER.INFO. Raises BadAnswer."""
    user = decode_reply(reply, _USER, "asking for the account", "$SYS.REQ.USER.INFO")
    data: Mapping[str, str] = user.get("data", {})
    server: Mapping[str, Any] = user.get("server", {})
    return ServerIdentity(
        data.get("account_name") or data.get("account", ""),
        server.get("name", ""),
        server.get("cluster", ""),
        server.get("domain", ""),
        server.get("jetstream", False),
    )


def decode_permissions(reply: bytes) -> Permissions:
    """Return what the user may do there who asked with $SYS.REQ.USER.INFO. Raises BadAnswer."""
    user = decode_reply(reply, _USER, "asking for the permissions", "$SYS.REQ.USER.INFO")
    publish = user["data"].get("permissions", {}).get("publish", {})
    return Permissions(publish.get("allow", ()), publish.get("deny", ()))


def info_fault(info: object) -> Mismatch | None:
    """Return what is wrong with what a server says of itself, or None; it says so before and after login."""
    return _INFO(info)


def decode_reply(reply: bytes, check: Check, doing: str, who: str) -> dict[str, Any]:
    """Return the JSON that was answered, which fits the check or is an error. Raises BadAnswer."""
    try:
        answer = orjson.loads(reply)
    except ValueError:  # nesting without end included
        raise BadAnswer(doing, who, "what is no JSON") from None
    if isinstance(answer, dict) and answer.get("error") is None:
        answer.pop("error", None)
    failed = isinstance(answer, dict) and "error" in answer
    misfit = (_FAILED if failed else check)(answer)
    if misfit is not None:
        raise BadAnswer(doing, who, misfit)
    found: dict[str, Any] = answer
    return found


def _split_verb(verb: str) -> tuple[str, tuple[str, ...]]:
    """Return `STREAM.MSG.GET.X` -> `STREAM.MSG.GET` and `X`."""
    words = verb.split(".")
    length = 3 if words[1:2] == ["MSG"] else 2
    return ".".join(words[:length]), tuple(words[length:])
