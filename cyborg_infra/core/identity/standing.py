"""What those take who run an organisation and are none of its roles: who plans, applies, looks, sends and verifies.

Each row is a subject and what it is for. Without it the tool says so, names the subject, and does what it can
(`live.execute.permissions` is what a plan compares with). Measured: `tests/server/apply/test_permissions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cyborg_infra.core.identity.grants import API, use_consumer
from cyborg_infra.model import channels
from cyborg_infra.model.buckets import APPLIED_BUCKET, LEASE_BUCKET, bucket_stream, bucket_subject
from cyborg_infra.model.channels import Channel, ConsumerKind, Party, Scope
from cyborg_infra.model.identities import Grant
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.ref import Ref, fence_subject
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.model.standing import Standing
from cyborg_infra.model.subjects import is_pattern
from cyborg_infra.model.valueclass import NamedTuple

_Rows = tuple[tuple[str, str], ...]

_LOOK: _Rows = (
    (f"{API}.INFO", "the account, and what it may hold"),
    (f"{API}.STREAM.LIST", "the streams"),
    (f"{API}.STREAM.NAMES", "which streams there are while the server that alone holds one is down"),
    (f"{API}.STREAM.INFO.*", "one stream"),
    (f"{API}.CONSUMER.LIST.*", "the consumers of a stream"),
    (f"{API}.CONSUMER.INFO.*.*", "one consumer"),
    ("$SYS.REQ.USER.INFO", "the account's name, and what this user may do"),
)
_REMEMBERED: _Rows = (
    (f"{API}.STREAM.MSG.GET.{bucket_stream(APPLIED_BUCKET)}", "what the account remembers of the last apply"),
)
_WRITE: _Rows = (
    (f"{API}.STREAM.CREATE.*", "make a stream, and try one under another name"),
    (f"{API}.STREAM.UPDATE.*", "change a stream"),
    (f"{API}.STREAM.DELETE.*", "delete a stream, and what was tried"),
    (f"{API}.STREAM.PURGE.*", "take away the mark at the end of what a replaced stream's copy holds"),
    (fence_subject(Ref("*")), "set that mark"),
    (f"{API}.STREAM.LEADER.STEPDOWN.*", "help a copy whose server has just died"),
    (f"{API}.CONSUMER.CREATE.*.*", "make or change a consumer"),
    (f"{API}.CONSUMER.DELETE.*.*", "delete a consumer"),
    (f"{API}.CONSUMER.PAUSE.*.*", "a replaced consumer goes on where the old one stood"),
    (f"{API}.CONSUMER.RESET.*.*", "a replaced consumer goes on where the old one stood"),
    (f"{API}.CONSUMER.MSG.NEXT.*.*", "what agents work on stays open in a replaced consumer"),
    ("$JS.ACK.>", "what agents work on stays open in a replaced consumer"),
    (f"{API}.STREAM.MSG.GET.*", "the messages of a replaced stream, and exact numbers in hazards"),
    (
        f"{API}.STREAM.MSG.DELETE.*",
        "the lease, and a workqueue's messages that were copied into the dead letters",
    ),
    (bucket_subject(LEASE_BUCKET), "the lease, which keeps two applies apart"),
    (bucket_subject(APPLIED_BUCKET), "what the account remembers of the last apply"),
)
_WATCH: _Rows = (
    (
        f"{API}.STREAM.MSG.GET.*",
        "how long the oldest has waited, who acknowledged a broadcast, which task failed, what was applied",
    ),
)
_HANDLE: _Rows = (
    (f"{API}.STREAM.MSG.GET.*", "the messages of dead letters, tasks and receipts"),
    (f"{API}.STREAM.MSG.DELETE.*", "dead letters that are handled"),
)
_TRY: _Rows = (
    (f"{API}.STREAM.CREATE.*", "make the copy"),
    (f"{API}.STREAM.UPDATE.*", "make the copy"),
    (f"{API}.STREAM.PURGE.*", "empty the copy"),
    (f"{API}.STREAM.DELETE.*", "delete the copy"),
    (f"{API}.CONSUMER.CREATE.*.*", "make the copy's consumers"),
    (f"{API}.CONSUMER.MSG.NEXT.*.*", "work as the copy's agents"),
    ("$JS.ACK.>", "work as the copy's agents"),
)


OWN_PERMISSIONS = Grant("$SYS.REQ.USER.INFO", "ask the server what this user may do")
"""By which `verify` compares what the server holds with what the manifest wants."""


class Permissions(NamedTuple):
    """What an identity may do, before it is anybody's."""

    publish: tuple[Grant, ...] = ()
    subscribe: tuple[Grant, ...] = ()
    deny_publish: tuple[Grant, ...] = ()
    deny_subscribe: tuple[Grant, ...] = ()


MEANINGS = {
    Standing.READER: "plan and drift",
    Standing.WRITER: "apply",
    Standing.OPERATOR: "status, send and dlq",
    Standing.MONITOR: "monitor: look at all there is, and tell of dead letters",
    Standing.ALERTS: "hear of dead letters",
    Standing.VERIFIER: "verify, on a copy",
}


def standing_permissions(org: Org, state: DesiredState, standing: Standing, inbox_prefix: str) -> Permissions:
    """Return what one of them may do, apart from its own inbox."""
    match standing:
        case Standing.READER:
            return Permissions(_grants(_LOOK + _REMEMBERED, "plan, drift"))
        case Standing.WRITER:
            letters = tuple(_dead_letters(org, "apply: copies of messages that a change would cost"))
            return Permissions(
                _grants(_LOOK + _WRITE, "apply") + letters,
                (Grant("$JS.ACK.>", "apply: hear who acknowledges while a consumer is replaced"),),
            )
        case Standing.OPERATOR:
            sent = (
                Grant(subject, f"send, dlq replay: channel {channel.name}")
                for channel in org.channels
                if channel.stream
                for subject in _stored_subjects(org, channel)
            )
            return Permissions(_grants(_LOOK + _HANDLE, "status, dlq") + tuple(sent))
        case Standing.MONITOR:
            return _monitor(org, state)
        case Standing.ALERTS:
            read = _reading(state, lambda kind: kind == ConsumerKind.DEAD_LETTER_ALERTS)
            return read._replace(publish=(*read.publish, OWN_PERMISSIONS))
        case Standing.VERIFIER:
            return _verifier(org, inbox_prefix)


def _grants(rows: _Rows, command: str) -> tuple[Grant, ...]:
    return tuple(Grant(subject, f"{command}: {what}") for subject, what in rows)


def _dead_letters(org: Org, reason: str) -> Iterator[Grant]:
    if channel := org.channel(channels.DEAD_LETTERS):
        yield Grant(org.subject(channel.subject), reason)


def _stored_subjects(org: Org, channel: Channel) -> Iterator[str]:
    """Yield what a channel with a stream stores; of events the durable ones."""
    if channel.scope is not Scope.EVENT:
        yield org.subject(channel.subject_of("*"))
        return
    yield from (org.subject(channel.subject_of(event.name)) for event in org.events if event.durable)


def _monitor(org: Org, state: DesiredState) -> Permissions:
    looks = _grants(_LOOK + _WATCH, "status, monitor")
    heard = [Grant("$JS.EVENT.ADVISORY.>", "advisories of JetStream")]
    for channel in org.channels:
        if channel.scope is Scope.EVENT:
            heard += [Grant(subject, f"channel {channel.name}") for subject in _events(org, channel)]
        elif channel.stream is None and Party.OPERATOR in channel.readers:
            heard.append(Grant(org.subject(channel.subject_of("*")), f"channel {channel.name}"))
    read = _reading(state, lambda _: True)
    return Permissions(looks + read.publish, tuple(heard) + read.subscribe)


def _events(org: Org, channel: Channel) -> Iterator[str]:
    """Yield a pattern for all events, or each of them where a pattern could not end with them."""
    everything = org.subject(channel.subject_of(">"))
    if is_pattern(everything) and everything != ">":
        yield everything
    else:
        yield from (org.subject(channel.subject_of(event.name)) for event in org.events)


def _reading(state: DesiredState, is_wanted: Callable[[str | None], bool]) -> Permissions:
    """Return what it takes to read the consumers that are no role's, those of wanted kinds."""
    publish, subscribe = list[Grant](), list[Grant]()
    for consumer in state.consumers():
        if consumer.role is None and is_wanted(consumer.metadata.get(KIND_KEY)):
            out, heard = use_consumer(consumer)
            publish += out
            subscribe += heard
    return Permissions(tuple(publish), tuple(subscribe))


def _verifier(org: Org, inbox_prefix: str) -> Permissions:
    """Return what trying a copy takes. Its name is new each time, so its subjects' first token is `*`, and the organisation's own is denied."""
    first, _, others = org.subject("").removesuffix(".").partition(".")
    below = f"{others}." if others else ""
    spoken = tuple(
        Grant(f"*.{below}{channel.subject_of('>' if channel.scope is Scope.EVENT else '*')}", reason)
        for channel in org.channels
        for reason in (f"verify: channel {channel.name} of the copy",)
    )
    running = Grant("*.running", "verify: tell other runs that the copy is in use")
    own = (
        (Grant(f"{first}.>", "the organisation itself"),)
        if first
        else tuple(
            Grant(subject, "the organisation itself")
            for channel in org.channels
            for subject in (
                _events(org, channel)
                if channel.scope is Scope.EVENT
                else (org.subject(channel.subject_of("*")),)
            )
        )
    )
    replies = Grant(f"{inbox_prefix}.>", "verify: the copy's agents answer requests")
    return Permissions(
        (*_grants(_LOOK + _TRY, "verify"), *spoken, running, replies), (*spoken, running), own, own
    )
