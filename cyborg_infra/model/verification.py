"""What `verify` tries on a server, and how each attempt ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cyborg_infra.model.ref import Ref
from cyborg_infra.model.units import MINUTE, SECOND

TIME_SCALE = 1200
"""So many times faster is the work: the 20 minutes that an agent reasons about a task are a second."""

WORK_SECONDS = 20 * MINUTE / TIME_SCALE / SECOND
"""How long a worker works on a task, in seconds."""


class CheckName(StrEnum):
    """What is tried; the words that `--check` takes, in the order in which they are told."""

    SETTINGS_KNOWN = "settings-are-known"
    DELIVERED_ONCE = "task-reaches-worker-once"
    NOT_REDELIVERED = "not-redelivered-while-worked-on"
    REDELIVERED = "redelivered-after-ack-wait"
    CRASH = "survives-worker-crash"
    FAILURES = "failures-become-a-dead-letter"
    TERMINATION = "termination-becomes-a-dead-letter"
    SAME_ID = "same-id-is-one-task"
    NOTHING_DROPPED = "nothing-waiting-is-dropped"
    ORDER = "order-is-kept"
    BACK_PRESSURE = "back-pressure-refuses"
    CHAIN = "on-complete-chains-a-task"
    INBOX = "inbox-reaches-its-role-alone"
    BROADCAST = "broadcast-reaches-every-role"
    REQUEST = "request-answered-by-agent"
    STATUS = "status-wildcard-sees-every-role"
    EVENT = "event-reaches-subscribers"
    CHANNEL = "channel-reaches-its-readers"
    RESTART = "restart-loses-nothing"


USER_INFO = "$SYS.REQ.USER.INFO"
"""Whoever asks this is told his account and his permissions."""


class AuthCheckName(StrEnum):
    """What is tried of identities."""

    PERMISSIONS = "server-has-the-permissions"
    WORK = "identity-does-its-work"
    REFUSED = "identity-is-refused-the-rest"
    ANSWERS = "answers-lead-nowhere"


class Verdict(StrEnum):
    """How a check ended. Only FAILED is bad news."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_SUPPORTED = "not supported"  # by this server version, or of this kind of consumer by `verify`
    NOT_CONFIGURED = "not configured"  # the manifest asks for nothing that could be tried


class VerifyStage(StrEnum):
    """What `verify` is doing."""

    PROVISIONING = "provisioning"
    CHECKING = "checking"
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check, of one role or of all together (`role` empty): the law, and what was seen instead of it.

    `seen` is empty where the law held. `seconds` is how long it took.
    """

    check: CheckName | AuthCheckName
    verdict: Verdict
    expected: str
    seen: str = ""
    role: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Verification:
    """Everything that was tried on a scratch copy of `org`, which is gone again; of identities on `org` itself.

    Of earlier runs that were killed: `removed` are those whose copies this one has removed, `abandoned` are those still there.
    """

    org: str
    scratch: str
    url: str
    version: str
    results: tuple[CheckResult, ...] = ()
    abandoned: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(result.verdict is not Verdict.FAILED for result in self.results)


@dataclass(frozen=True, slots=True)
class IdentityWork:
    """What an identity has to be able to do."""

    # With a subject that it reads, and whether a nak brings it back.
    consumers: Sequence[tuple[Ref, str, bool]] = ()
    stored: Sequence[str] = ()  # subjects that a stream answers
    # Subjects on core NATS, and an identity that hears them or nobody.
    published: Sequence[tuple[str, str]] = ()
    heard: Sequence[tuple[str, str]] = ()  # subjects on core NATS, and an identity that publishes there
    asked: Sequence[tuple[str, str]] = ()  # subjects of requests, and an identity that asks
    read: Sequence[str] = ()  # buckets
    written: Sequence[str] = ()
    watched: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Misuse:
    """Requests that an identity may make, and where it wants the answers to go: nowhere that it may publish."""

    # Its own, to pull from and to acknowledge, each with a subject that it reads.
    consumers: Sequence[tuple[Ref, str]]
    requests: Sequence[str]
    replies: Sequence[str]
    # Consumers of others, each with a subject that it reads, and whose it is.
    victims: Sequence[tuple[Ref, str, str]]
    streams: Sequence[str]  # which store nothing that the identity may publish
