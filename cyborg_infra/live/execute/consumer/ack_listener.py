"""Listen to acknowledgements that agents send while their consumer is being replaced, and forward them to the new one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.api.pulling import IN_PROGRESS, decode_ack_subject
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.valueclass import NamedTuple

NEXT = b"+NXT"  # done, and asks for another one
DONE = b"+ACK"
NOT_DONE = b"-NAK"
MAX_REMEMBERED = 10_000  # answers for each consumer: the newest, since nobody is served while they matter


class HeardAck(NamedTuple):
    """The answer to one delivery, and where the agent waits to hear that it was heard."""

    payload: bytes
    reply: str


class AckListener:
    """Hears the acknowledgements of consumers from `start` to `stop`, and passes them on to those that come after them."""

    def __init__(self) -> None:
        self._said: dict[Ref, dict[int, HeardAck]] = {}
        self._ends: dict[Ref, Callable[[], Awaitable[None]]] = {}
        self._subjects: dict[Ref, str] = {}
        self._listening: dict[Ref, object] = {}  # by way of which connection: a new one hears nothing

    async def start(self, server: JetStream, resource_ref: Ref) -> None:
        """Listen to the acknowledgements of a consumer, or of all consumers of a stream. Raises ConnectionLost."""
        if self._listening.get(resource_ref) is not server.current_connection:
            subject = f"$JS.ACK.{resource_ref.stream}.{resource_ref.consumer or '*'}.>"
            self._ends[resource_ref] = await server.subscribe(subject, self._on_message)
            self._subjects[resource_ref], self._listening[resource_ref] = subject, server.current_connection

    def is_denied(self, server: JetStream, consumer: Ref) -> bool:
        """Return whether this user may not hear the acknowledgements of the consumer, as far as the last reply has told."""
        known = (self._subjects.get(place) for place in (consumer, Ref(consumer.stream)))
        subjects = [subject for subject in known if subject]
        return not subjects or not any(map(server.may_subscribe, subjects))

    async def stop(self, resource_ref: Ref) -> None:
        """Stop listening, and forget what was heard."""
        self._listening.pop(resource_ref, None)
        if end := self._ends.pop(resource_ref, None):
            await end()
        for ref in [found for found in self._said if resource_ref in (found, Ref(found.stream))]:
            del self._said[ref]

    async def close(self) -> None:
        """Stop listening to anything: the connection may be used on."""
        for resource_ref in list(self._ends):
            await self.stop(resource_ref)

    async def forward(self, server: JetStream, consumer: Ref, deliveries: Mapping[int, str]) -> None:
        """Forward the heard acknowledgements to the new consumer. `deliveries`: sequence number -> the ack subject of its new delivery."""
        for number, said in list(self._said.get(consumer, {}).items()):
            if number in deliveries:
                await server.send(deliveries[number], said.payload, said.reply)

    def _on_message(self, subject: str, reply: str, payload: bytes, _headers: bytes) -> None:
        answered = decode_ack_subject(subject)
        if answered is None or payload.startswith(IN_PROGRESS):
            return
        number, said = answered.sequence, self._said.setdefault(answered.consumer, {})
        before = said.get(number)
        if before is None or before.payload.startswith(NOT_DONE):  # what is done stays done
            if len(said) >= MAX_REMEMBERED:
                del said[next(iter(said))]
            said[number] = HeardAck(DONE if payload.startswith(NEXT) else payload, reply)
