"""Questions about the messages that a change would cost, and their answers."""

from __future__ import annotations

from enum import StrEnum

from cyborg_infra.model.ref import Ref
from cyborg_infra.model.valueclass import NamedTuple


class CountKind(StrEnum):
    """What a count query counts."""

    # Of a stream: what would be deleted, and how much of that is unfinished. With a limit of `limit`, at its front.
    STORED = "all of them"
    ABOVE_COUNT = "the oldest, until `limit` are left"
    ABOVE_SIZE = "the oldest, until at most `limit` bytes are left"
    OLDER = "stored more than `limit` nanoseconds ago"
    ABOVE_PER_SUBJECT = "the oldest of each subject, until `limit` of it are left"
    PASSED_BY_ALL = "what its consumers are done with, but for what a dead letter tells of"
    # Of a stream, by its subjects alone: whether there are any.
    PRESENT = "those with one of `subjects`"
    # Of a consumer: messages that match `within` and not `without`.
    PASSED = "in the stream, up to where the consumer has got"
    UNACKNOWLEDGED = (
        "in the stream, beyond what is all finished, and up to `limit` or to where the consumer has got"
    )
    WAITING = "in the stream beyond that, and below sequence `limit` if there is one"
    # Of a copy whose origin has died.
    COPIED = "with the number `limit` or a later one in the stream that was copied"
    # Of a consumer.
    GIVEN_UP = "in the stream, given up by the consumer, and no dead letter tells of them"

    @property
    def of_stream(self) -> bool:
        """Whether it is about messages that a stream would lose."""
        return self in (
            CountKind.STORED,
            CountKind.ABOVE_COUNT,
            CountKind.ABOVE_SIZE,
            CountKind.OLDER,
            CountKind.ABOVE_PER_SUBJECT,
            CountKind.PASSED_BY_ALL,
        )


class CountQuery(NamedTuple):
    """A query: which messages of a live stream or consumer to count."""

    ref: Ref
    kind: CountKind
    limit: int = 0
    subjects: tuple[str, ...] = ()
    excluded_subjects: tuple[str, ...] = ()


class Share(NamedTuple):
    """So many of some messages; at most so many where that is not `exact`."""

    messages: int = 0
    exact: bool = True


class MessageCount(NamedTuple):
    """A number of messages, exactly; bytes as the server counts them, 0 where they are not known.

    `unfinished` are those that not everybody who reads them has finished, or that nobody reads; None where it was not asked.
    """

    messages: int = 0
    bytes: int = 0
    unfinished: Share | None = None
