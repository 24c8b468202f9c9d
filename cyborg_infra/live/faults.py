"""What a server or the way to it can do to us, as our errors: every text in one place, no secret in any."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from cyborg_infra.live.target import Target
from cyborg_infra.model.problems import Problem, ServerFault

STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014


class Unanswered(ServerFault):
    """Nobody answered. Once a server is there again, asking again can help: after reading what was executed."""


class NoReply(Unanswered):
    """No answer in time. The request may have been executed all the same: read before deciding to retry."""

    def __init__(self, subject: str, seconds: float) -> None:
        self.subject = subject
        super().__init__(
            Problem(
                "no-reply",
                f"no reply on {subject} within {seconds:g}s; it may have been executed all the same",
                hint="raise --timeout, or check that the server knows this request and the user may receive replies",
            )
        )


class NoResponders(Unanswered):
    """Nobody listens on the subject: for the JetStream API, no server with JetStream is reachable."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(
            Problem(
                "no-responders",
                f"nobody answers on {subject}: the server has no JetStream, or not under this domain or API prefix",
                hint="enable jetstream in the server's configuration, or check --js-domain and --js-api-prefix",
            )
        )


class ConnectionLost(Unanswered):
    """The connection ended. What was under way may have been executed."""

    def __init__(self, url: str, reason: str = "") -> None:
        because = f" ({reason})" if reason else ""
        super().__init__(
            Problem(
                "connection-lost",
                f"lost the connection to {url}{because}; what was under way may have been executed all the same",
            )
        )


class NoLeader(Unanswered):
    """The answer came from a server that does not lead the stream or consumer: what it says may be old (measured 2.15.1)."""

    def __init__(self, doing: str) -> None:
        super().__init__(
            Problem(
                "no-leader",
                f"{doing}: it has no leader at the moment",
                None,
                "more than half of the servers that hold it have to be up",
            )
        )


class PermissionDenied(ServerFault):
    """The user may not publish to the subject, or not receive replies on it."""

    def __init__(self, subject: str, *, receiving: bool = False) -> None:
        self.subject = subject
        what = "receive replies on" if receiving else "publish to"
        hint = (
            "give an inbox that the user may subscribe to, with --inbox-prefix"
            if receiving
            else "let the account's administrator allow it, or use other credentials"
        )
        super().__init__(
            Problem("permission-denied", f"permission denied: this user may not {what} {subject}", hint=hint)
        )


class TooLarge(ServerFault):
    """The request is larger than the server accepts; it was not sent."""

    def __init__(self, subject: str, size: int, limit: int) -> None:
        self.subject = subject
        super().__init__(
            Problem("too-large", f"the request on {subject} has {size} bytes; the server accepts {limit}")
        )


class NotStored(ServerFault):
    """A stream with replicas refused a message, and takes its id for that of one it has (2.10.26: `seq` 0, `duplicate`)."""

    def __init__(self, doing: str) -> None:
        super().__init__(
            Problem(
                "not-stored",
                f"{doing}: the server refused it a moment ago, remembers its id, and says that it has it, which it has not",
                None,
                "try again after the stream's duplicate_window (2m by default)",
            )
        )


class Retry(Enum):
    """Whether asking again can help."""

    NONE = "asking again gives the same answer"
    RETRY = "soon, after reading what holds now"
    WAIT = "when what is in progress has ended"


class Advice(NamedTuple):
    """What to do about an err_code, and whether asking again can help."""

    text: str
    retry: Retry = Retry.NONE


_STORE = Advice(
    "the server could not write to its disk: make room there and apply again; a stream that could not store a message "
    "stores none until the server is restarted (since 2.14)"
)
_UNWRITTEN = re.compile(
    "no space left on device|file too large|disk quota exceeded|input/output error|read-only file system"
    "|creating store for consumer"
)
"""What the server says of a failed write, under whatever err_code it came up (10012, 10069, 10077, 10104)."""

_PEERS = "some servers of the cluster are down or have just started"
_CHANGING = "the cluster is still carrying out an earlier change of this stream"

ADVICE: Mapping[int, Advice] = {
    10002: Advice("the account has no resources left; raise its limits"),
    10005: Advice(
        "no server fits: check replicas, placement tags and free storage, and that no server is down"
    ),
    10007: Advice(_PEERS, Retry.RETRY),
    10008: Advice("the cluster has no leader at the moment", Retry.RETRY),
    10009: Advice(_PEERS, Retry.RETRY),
    10012: Advice("the server changes this field of a consumer only by deleting and creating it"),
    10013: Advice("another consumer uses this name or deliver_subject; give it one of its own"),
    10014: Advice("the consumer is gone; plan again"),
    10017: Advice("the name in the request and in the configuration differ: this is a bug, please report it"),
    10023: Advice(_PEERS, Retry.RETRY),
    10025: Advice("the server does not know a field or its form; is it older than the manifest expects?"),
    10026: Advice("the account or the stream may have no more consumers; delete some or raise the limit"),
    10027: Advice("the account may have no more streams; delete some or raise the limit"),
    10028: Advice("the server or account has too little memory for this max_bytes"),
    10031: Advice("a mirror stores no subjects of its own; remove sources or mirror"),
    10034: Advice("a mirror stores no subjects of its own; remove subjects or mirror"),
    10039: Advice("enable JetStream for this account, or use credentials of another one"),
    10047: Advice("the server or account has too little storage for this max_bytes"),
    10049: _STORE,
    10052: Advice("the server refuses this stream configuration; its text names the field"),
    10055: Advice("a mirror can be removed (since 2.12), not changed"),
    10056: Advice("the name in the request and in the configuration differ: this is a bug, please report it"),
    10058: Advice("a stream of this name exists with another configuration; plan again"),
    10059: Advice("the stream is gone; plan again"),
    10062: Advice("the backup cannot be restored"),
    10065: Advice("another stream stores some of these subjects; a subject belongs to one stream"),
    10069: Advice("the stream's limits exclude consumers that it has"),
    10071: Advice("somebody else wrote at the same time; read again"),
    10074: Advice("more than 1 replica needs a cluster"),
    10076: Advice("JetStream is not enabled on this server"),
    10077: Advice(
        "the stream is full and takes nothing new (discard new): publish again when a message is acknowledged,"
        " or see whether dead letters keep their places in it"
    ),
    10084: Advice("a workqueue needs ack_policy explicit"),
    10086: Advice("only a push consumer has rate_limit_bps"),
    10098: Advice("a workqueue needs ack_policy explicit"),
    10099: Advice("on a workqueue only one consumer may have no filter"),
    10100: Advice("on a workqueue the filters of two consumers must not overlap"),
    10101: Advice("a workqueue needs deliver_policy all"),
    10113: Advice("this account needs max_bytes on every stream"),
    10116: Advice("max_deliver must be larger than the number of backoff steps"),
    10118: Advice(_PEERS, Retry.RETRY),
    10119: Advice(_PEERS, Retry.RETRY),
    10120: Advice("the account has no limits for this number of replicas"),
    10121: Advice(
        "max_ack_pending is more than the account, the server or the stream's consumer_limits allow"
    ),
    10122: Advice("max_bytes is more than the account allows for one stream"),
    10123: Advice(_CHANGING, Retry.WAIT),  # or both at once, which we never send
    10124: Advice(_CHANGING, Retry.WAIT),
    10126: Advice("a consumer cannot have more replicas than its stream"),
    10127: Advice("a consumer's name has no / and no \\"),
    10128: Advice("a stream's name has no / and no \\"),
    10130: Advice("a stream of this name exists"),
    10133: Advice("num_replicas cannot be negative"),
    10134: Advice("on an interest or workqueue stream a consumer has as many replicas as its stream"),
    10136: Advice("give either filter_subject or filter_subjects"),
    10137: Advice("a consumer with several filters has none in the request: this is a bug, please report it"),
    10138: Advice("two of the consumer's filters overlap"),
    10139: Advice("one of the consumer's filters is empty"),
    10143: Advice("a mirror has the sequence numbers of its origin; remove first_seq"),
    10148: Advice("a consumer of this name exists with another configuration; plan again"),
    10149: Advice("the consumer is gone; plan again"),
    10157: Advice("the server would change a value that was given; set it to what its text says"),
    10158: Advice("the same message is being stored right now", Retry.RETRY),
    10163: Advice("the stream has just changed its leader", Retry.RETRY),
    10164: Advice("somebody else wrote at the same time; read again"),
    10167: Advice("the server has more requests than it can take", Retry.RETRY),
    10185: Advice("this server version is too old for a field of the configuration"),
    10194: Advice("the stream was written by a newer server version, and this one cannot run it"),
    10195: Advice("the consumer was written by a newer server version, and this one cannot run it"),
    10202: Advice(_CHANGING, Retry.WAIT),
    10204: Advice(
        "the consumer cannot be placed there: before its own start, or it begins with new messages"
    ),
    10226: Advice(_CHANGING, Retry.WAIT),
    10227: Advice("this header is the server's own"),
}
"""What a provisioner meets, by err_code; the HTTP-like `code` says too little to decide by."""


NO_SUITABLE_PEERS = 10005


class ApiError(ServerFault):
    """JetStream answered with an error; `retry` says whether asking again can help.

    `unwritten` says that the server could not write to its disk. What it tells of a stream afterwards is in its memory
    alone, and gone after a restart (measured 2.15.1).
    """

    def __init__(self, doing: str, *, code: int, err_code: int, description: str) -> None:
        self.code = code
        self.err_code = err_code
        self.description = description
        unwritten = _UNWRITTEN.search(description)
        advice = _STORE if unwritten else ADVICE.get(err_code)
        self.unwritten = advice is _STORE
        self.retry = advice.retry if advice else Retry.NONE
        if err_code == NO_SUITABLE_PEERS and "offline" in description:
            self.retry = (
                Retry.RETRY
            )  # it may be back, and not heard of yet: 1.5s after its start (measured 2.15.1)
        lookup = f"nats errors lookup {err_code}"
        super().__init__(
            Problem(
                "api-error",
                f"{doing}: {description} (err_code {err_code})",
                hint=f"{advice.text}; {lookup}" if advice else lookup,
            )
        )


def raise_for_error(reply: Mapping[str, Any], doing: str) -> None:
    """Returns if the API's reply holds no error. Raises ApiError, saying what was being done, if it does."""
    if error := reply.get("error"):
        raise ApiError(
            doing,
            code=error.get("code", 0),
            err_code=error.get("err_code", 0),
            description=error.get("description", ""),
        )


class PlaintextOnly(Exception):
    """TLS is wanted and the server offers none; raised before credentials are sent."""


class ClosedDuringLogin(Exception):
    """The server closed the connection without a word when we logged in."""


def why_not_connected(error: BaseException, target: Target) -> str:
    """One line on why a connection attempt failed; says how the login was tried, never a secret."""
    if isinstance(error, PlaintextOnly):
        return "TLS is wanted, but the server offers none; nothing was sent"
    if isinstance(error, ClosedDuringLogin | ConnectionResetError | BrokenPipeError):
        return _why_closed(target)
    if isinstance(error, ssl.SSLError):
        return _why_tls_failed(error)
    if isinstance(error, TimeoutError):
        guess = (
            "does the server speak first, without --tlsfirst?"
            if target.tls_first
            else "does it want --tlsfirst?"
        )
        return f"nothing that speaks NATS answered within {target.timeout:g}s (a firewall, another service; {guess})"
    if isinstance(error, OSError):
        return _why_unreachable(error)
    return _why_refused(str(error), target.login)


def _why_closed(target: Target) -> str:
    certificate = "reject the client certificate" if target.tls_cert else "want a client certificate"
    return (
        f"the server closed the connection during login ({target.login}); "
        f"does it {certificate}, or take no more connections?"
    )


def _why_unreachable(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "this host name is not known"
    # A name with several addresses gives one OSError without a number, whose text lists all reasons.
    numbers = {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))}
    if numbers == {errno.ECONNREFUSED}:
        return "connection refused: no server listens there"
    return error.strerror or "; ".join(os.strerror(number) for number in sorted(numbers)) or str(error)


def _why_tls_failed(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if "mismatch" in error.verify_message:
            return f"TLS: the server's certificate is for another name: {error.verify_message}"
        return (
            f"TLS: the server's certificate is not trusted: {error.verify_message} (give its CA with --tlsca)"
        )
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "certificate required" in reason or "handshake failure" in reason:
        return "TLS: the server requires a client certificate (--tlscert, --tlskey)"
    if "alert" in reason and ("certificate" in reason or "unknown ca" in reason):
        return f"TLS: the server rejects the client certificate: {reason}"
    if re.search("wrong version number|record layer failure|packet length", reason):
        return "TLS: the server does not answer in TLS (does it speak first, without --tlsfirst?)"
    return f"TLS: {reason}"


def _why_refused(text: str, login: str) -> str:
    said = text.removeprefix("nats: ").strip("'")
    if "authorization" in said.lower():
        return f"login refused ({login}): {said}"
    if re.search("INFO message|json parse|chunk|codec", said, re.IGNORECASE):
        return "not a NATS server: it closed the connection or sent something else than INFO"
    return f"the server refuses the connection ({login}): {said}"
