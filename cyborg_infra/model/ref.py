"""The names of streams and consumers, and of the temporary ones that stand for them while they are replaced."""

from __future__ import annotations

import hashlib

from cyborg_infra.model.fields import Kind
from cyborg_infra.model.valueclass import NamedTuple

PLACEHOLDER_PREFIX = "cyborg-infra-placeholder-"
"""Begins the name of a consumer that keeps the position of one being replaced; also such a consumer's kind."""

TEMPORARY_PREFIX = "cyborg-infra-temporary-"
"""Begins the name of a stream that holds the messages of one being replaced; also such a stream's kind."""

MAX_NAME_BYTES = 255
"""Characters that the name of a stream or consumer may have."""

REHEARSAL_PREFIX = "cyborg-infra-rehearsal-"
"""Begins the name of a stream that is made and deleted at once, to see whether the server accepts it; also its kind."""

_STREAM, _CONSUMER = (
    Kind.STREAM,
    Kind.CONSUMER,
)  # to look a member up in its enumeration takes longer than the rest


class Ref(NamedTuple):
    """A stream, or a consumer of one. Sorts a stream before its consumers; prints `STREAM` or `STREAM/consumer`."""

    stream: str
    consumer: str = ""

    @property
    def kind(self) -> Kind:
        """Stream or consumer."""
        return _CONSUMER if self.consumer else _STREAM

    @property
    def name(self) -> str:
        """Its own name: the consumer's, or the stream's."""
        return self.consumer or self.stream

    @property
    def is_placeholder(self) -> bool:
        """Whether it is a consumer that keeps the position of one being replaced."""
        return self.consumer.startswith(PLACEHOLDER_PREFIX)

    @property
    def is_rehearsal(self) -> bool:
        """Whether it is, or is on, a stream that is there only to see whether the server accepts it."""
        return self.stream.startswith(REHEARSAL_PREFIX)

    def __str__(self) -> str:
        return f"{self.stream}/{self.consumer}" if self.consumer else self.stream


def stop_subject(consumer: Ref) -> str:
    """Return what a stopped consumer waits for. Each has its own: two of a workqueue may not wait for the same (10100)."""
    return f"_parked.{consumer.stream}.{consumer.consumer}"


def fence_subject(stream: Ref) -> str:
    """Return the subject that a fenced stream takes in: nobody else uses it."""
    return f"_parked.{stream}"


def temporary_stream(stream: Ref) -> Ref:
    """Return where the messages of a stream are while it is replaced."""
    return Ref(f"{TEMPORARY_PREFIX}{stream.stream}")


def rehearsal_stream(stream: Ref) -> Ref:
    """Return the name under which a stream or its consumers are rehearsed."""
    name = f"{REHEARSAL_PREFIX}{stream.stream}"
    if len(name) > MAX_NAME_BYTES:
        name = f"{REHEARSAL_PREFIX}{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return Ref(name)
