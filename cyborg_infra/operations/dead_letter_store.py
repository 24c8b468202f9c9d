"""The dead letters of one organisation on one server: read, archive and remove them.

Whatever is the only copy of a message is deleted last. Interrupted anywhere, the same call again goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cyborg_infra.core.desired.naming import EVERY_ADVISORY, channel_subject, stream_name
from cyborg_infra.core.operate import dead_letters as core
from cyborg_infra.core.operate.dead_letters import Publication
from cyborg_infra.live.api import messages
from cyborg_infra.live.api.errors import WRONG_LAST_SEQUENCE, ApiError
from cyborg_infra.live.api.jetstream import READS_IN_FLIGHT, JetStream
from cyborg_infra.live.connection.errors import PermissionDenied, Unanswered
from cyborg_infra.model import channels
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.dead_letters import DeadLetter, DeathType, MessageLocation
from cyborg_infra.model.fields import EXPECTED_LAST_SEQUENCE
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.ref import Ref, temporary_stream
from cyborg_infra.model.resources import LiveResource, StreamCounts, consumer_counts
from cyborg_infra.model.stored_messages import StoredMessage
from cyborg_infra.model.subjects import covers, is_token
from cyborg_infra.model.wording import Command, worded

_FENCED_TRIES = 5  # a stream to which others publish takes some of them

NO_DEAD_LETTERS_CODE = "no-dead-letters"
"""The code of the problem that there is no DEAD_LETTERS."""


@dataclass(frozen=True, slots=True)
class DeadLetterStore:
    """What DEAD_LETTERS tells of. It is read once; what has come since is read by the next look at it."""

    server: JetStream
    org: Org
    _entries_read: dict[str, dict[int, DeadLetter]] = field(default_factory=dict)  # stream -> number -> entry
    _retentions: dict[str, str] = field(default_factory=dict)  # stream -> its own, asked once; empty for none

    async def stream(self) -> str:
        """Return the stream of the dead letters: DEAD_LETTERS, or its former name while a new one has not taken effect.

        Raises ServerFault where there is no such stream.
        """
        return (await self._living()).ref.stream

    async def _living(self) -> LiveResource:
        """Return the live DEAD_LETTERS. An apply of some roles changes neither its name nor its subjects. Raises as `stream`."""
        if self.org.channel(channels.DEAD_LETTERS) is None:
            said = f"{self.org.name} has no dead letters"
            hint = "its manifest leaves them out, under channels"
            raise ServerFault(Problem(NO_DEAD_LETTERS_CODE, said, None, hint))
        name = stream_name(self.org, StreamKind.DEAD_LETTERS)
        if (found := await self.server.info(Ref(name))) is not None:
            return found
        by_subject = await messages.find_streams(self.server, self._subject)
        named = dict.fromkeys([*by_subject, *await messages.find_streams(self.server, EVERY_ADVISORY)])
        others = [await self.server.info(Ref(other)) for other in named]
        ours = [other for other in others if other is not None and self._is_ours(other)]
        if found := next(iter([*ours, *filter(None, others[: len(by_subject)])]), None):
            return found
        hint = worded("`{}` creates it", Command("apply"))
        raise ServerFault(Problem(NO_DEAD_LETTERS_CODE, f"there is no stream {name}", None, hint))

    def _is_ours(self, stream: LiveResource) -> bool:
        return stream.owner == self.org.name and stream.metadata.get(KIND_KEY) == StreamKind.DEAD_LETTERS

    @property
    def _subject(self) -> str:
        """The subject on which agents publish whole messages, by the manifest."""
        return channel_subject(self.org, channels.DEAD_LETTERS)

    def _subject_in(self, stream: LiveResource) -> str:
        """Return where whole messages are published now: another subject is stored once DEAD_LETTERS is applied itself."""
        held: Sequence[str] = stream.get("subjects")
        handed_in = [each for each in held if all(map(is_token, each.split(".")))]
        if any(covers(wide, self._subject) for wide in held) or not handed_in:
            return self._subject
        return handed_in[0]

    async def read_all(self) -> list[DeadLetter]:
        """Return every one, by number. Raises ServerFault where there is no DEAD_LETTERS."""
        return await self.with_messages(await self._entries())

    async def read_of_stream(self, stream: Ref, becomes: Ref) -> list[DeadLetter]:
        """Return those whose messages the living `stream` has or had, which is on its way to be what it `becomes`.

        Not those of a former stream whose name it gets.
        """
        theirs = {stream.stream, becomes.stream}
        formers = set() if stream in (becomes, temporary_stream(becomes)) else {becomes.stream}
        mine = [
            entry
            for entry in await self._entries()
            if theirs & {entry.stream, core.current_stream(entry, self.org)} and entry.stream not in formers
        ]
        return await self.with_messages(mine, here=stream.stream)

    async def _entries(self) -> list[DeadLetter]:
        """Return every entry of DEAD_LETTERS as a dead letter, each read once. Whether the originals are there is not known."""
        stream = await self.stream()
        numbers, _ = await messages.list_sequences(self.server, stream)
        known = self._entries_read.setdefault(stream, {})
        fresh = [number for number in numbers if number not in known]
        entries = await messages.read_messages(self.server, [(stream, number) for number in fresh])
        known |= {entry.sequence: core.decode_entry(entry, self.org) for entry in entries if entry}
        return [known[number] for number in numbers if number in known]

    async def with_messages(self, letters: Sequence[DeadLetter], here: str = "") -> list[DeadLetter]:
        """Return each message once, with its original as it is stored now: `here`, or where its notice or its new name says."""
        places = [
            (letter, place)
            for letter in letters
            if letter.original is not MessageLocation.KEPT
            for place in dict.fromkeys(
                [here] if here else [letter.stream, core.current_stream(letter, self.org)]
            )
        ]
        stored = await messages.read_messages(self.server, [(place, each.sequence) for each, place in places])
        copies = core.copies_by_entry(letters)
        seen = [
            (core.with_original(letter, original, place, copies.get(letter.entry)), place)
            for (letter, place), original in zip(places, stored, strict=True)
        ]
        seen = [(letter, place) for letter, place in seen if letter.stored]
        waiting = await self._waiting(seen)
        found: dict[int, DeadLetter] = {}
        for letter, place in seen:
            if (letter.entry, place) not in waiting:
                found.setdefault(letter.entry, letter)
        seen_all = core.one_per_message([found.get(letter.entry, letter) for letter in letters])
        return [await self._judged(letter) for letter in seen_all]

    async def _waiting(self, seen: Sequence[tuple[DeadLetter, str]]) -> set[tuple[int, str]]:
        """Return entry and place of those whose message waits for its first delivery, in a stream that was made after the notice.

        Then the notice is about a former stream of this name, and with this message nobody has failed: it must not go.
        """
        streams = await self._look({Ref(place) for _, place in seen})
        newer = [
            (letter, Ref(place, letter.consumer))
            for letter, place in seen
            if letter.consumer and (stream := streams[Ref(place)]) and core.is_made_after(stream, letter)
        ]
        consumers = await self._look({ref for _, ref in newer})
        return {
            (letter.entry, ref.stream)
            for letter, ref in newer
            if (consumer := consumers[ref]) is not None
            and consumer.unfinished is None
            and letter.sequence > consumer_counts(consumer).delivered_stream_seq
        }

    async def _look(self, refs: Collection[Ref]) -> Mapping[Ref, LiveResource | None]:
        """Return the streams and consumers as they are; None for one that is not there, or may not be seen."""
        turn = asyncio.Semaphore(READS_IN_FLIGHT)

        async def look(ref: Ref) -> tuple[Ref, LiveResource | None]:
            async with turn:
                try:
                    return ref, await self.server.info(ref)
                except PermissionDenied:
                    return ref, None

        return dict(await asyncio.gather(*map(look, refs)))

    async def _judged(self, letter: DeadLetter) -> DeadLetter:
        """Return the dead letter; if its message is gone, with whether its stream deletes finished messages."""
        if letter.original is not MessageLocation.GONE or letter.type is not DeathType.TERMINATED:
            return letter
        retention = await self._retention(core.current_stream(letter, self.org))
        return replace(letter, deletes_finished=retention in ("workqueue", "interest"))

    async def archive(self, letter: DeadLetter, replaying: str = "") -> DeadLetter:
        """Archive the whole message in DEAD_LETTERS, in place of every pointer to it; a workqueue has its slot back.

        Raises ServerFault where it is not there any more.
        """
        if core.is_archive_copy(letter, replaying):  # an earlier run got this far
            await self.remove(letter, but=letter.entry)
            return replace(letter, stored=False, other_numbers=())
        copy = core.decode_entry(await self._copy(letter, replaying, fenced=True), self.org)
        await self.remove(letter)
        if replaying and not copy.replaying:  # somebody else keeps it at the same time
            return await self.archive(copy, replaying)
        return copy

    async def publish_while_there(
        self, letter: DeadLetter, message: Publication, stream: str, *, doing: str
    ) -> dict[str, Any]:
        """Return the acknowledgement of what replays or keeps the dead letter. Raises ServerFault where somebody else has, and as `publish_to` does.

        He has published there as well, and then deleted the entry. By the id alone a stream knows that only for as long as its
        duplicate_window, and whoever is held up (Ctrl-Z, a laptop that sleeps) goes on later than that. Where others publish
        all the time it is sent all the same, right behind a look at the entry.
        """
        tries = _FENCED_TRIES
        while True:
            fence = ((EXPECTED_LAST_SEQUENCE, str(await self.last_sequence(stream))),) if tries else ()
            entry = await messages.read_message(self.server, await self.stream(), letter.entry)
            if entry is None or not core.is_of_same_message(core.decode_entry(entry, self.org), letter):
                raise ServerFault(core.handled_problem(letter))
            try:
                return await self.server.publish_to(
                    message.subject, message.data, (*message.headers, *fence), doing=doing, stream=stream
                )
            except ApiError as fault:
                if fault.err_code not in WRONG_LAST_SEQUENCE or not fence:
                    raise
            tries -= 1

    async def last_sequence(self, stream: str) -> int:
        """Return the number of the last message that the stream has taken; 0 where there is none."""
        found = await self.server.info(Ref(stream))
        return found.counts.last_seq if found and isinstance(found.counts, StreamCounts) else 0

    async def archive_of_stream(self, stream: Ref, becomes: Ref) -> None:
        """Archive every dead letter whose message `stream` has, and delete it from a workqueue.

        Its pointers stay: the numbers that somebody was told go on to mean it. Raises ServerFault if DEAD_LETTERS has no
        room; where there is no DEAD_LETTERS there are no dead letters.
        """
        try:
            letters = await self.read_of_stream(stream, becomes)
        except ServerFault as fault:
            if fault.problems[0].code == NO_DEAD_LETTERS_CODE:
                return
            raise
        for letter in letters:
            if letter.stored and letter.original is not MessageLocation.KEPT:
                await self._copy(letter)
            if letter.stored:
                await self._release_slot(letter)

    async def count_given_up(self) -> Mapping[Ref, Sequence[DeadLetter]] | None:
        """Return consumer -> those of messages that it gave up and that are stored; None where that cannot be read."""
        try:
            letters = await self.read_all()
        except (ApiError, PermissionDenied, Unanswered):
            return None
        except ServerFault as fault:
            if fault.problems[0].code != NO_DEAD_LETTERS_CODE:
                raise
            return None
        found: dict[Ref, list[DeadLetter]] = {}
        for letter in letters:
            if letter.stored:
                found.setdefault(Ref(letter.current_stream, letter.consumer), []).append(letter)
        return found

    async def remove(self, letter: DeadLetter, *, but: int = 0) -> bool:
        """Delete every entry of the dead letter `but` one; and the original from a workqueue, where it would keep its slot for ever.

        The original first: without its pointer nobody would find it. Returns whether there was any entry.
        """
        await self._release_slot(letter)
        stream = await self.stream()
        numbers = [number for number in (*letter.other_numbers, letter.entry) if number != but]
        return any([await messages.delete_message(self.server, stream, number) for number in numbers])

    async def _release_slot(self, letter: DeadLetter) -> None:
        """Delete the original from a workqueue."""
        if letter.stored and await self._retention(letter.current_stream) == "workqueue":
            await messages.delete_message(self.server, letter.current_stream, letter.sequence)

    async def _copy(self, letter: DeadLetter, replaying: str = "", *, fenced: bool = False) -> StoredMessage:
        """Return the whole message, as it is now in DEAD_LETTERS beside what tells of it, if `fenced` while that is there."""
        living = await self._living()
        stream, copy = living.ref.stream, core.archive_copy(letter, self._subject_in(living), replaying)
        held = await messages.read_stream_usage(self.server, stream, copy.subject)
        if limit := core.limit_exceeded_by(letter, copy, held):
            hint = "raise it, or replay or drop the oldest ones first"
            raise ServerFault(
                Problem(
                    "dead-letters-full", f"{stream} is full: {limit} would delete another one", None, hint
                )
            )
        doing = f"keeping dead letter {letter.number}"
        if fenced:
            answer = await self.publish_while_there(letter, copy, stream, doing=doing)
        else:
            answer = await self.server.publish_to(
                copy.subject, copy.data, copy.headers, doing=doing, stream=stream
            )
        entry = await messages.read_message(self.server, stream, answer["seq"])
        if entry is None:
            hint = worded("somebody else may have handled it: look again with `{}`", Command("dlq list"))
            raise ServerFault(
                Problem("dropped", f"the copy of dead letter {letter.number} is not there", None, hint)
            )
        if answer.get("duplicate") and not core.is_what_was_sent(copy, entry):
            raise ServerFault(core.id_taken_problem(letter, f"{stream}/{entry.sequence}"))
        return entry

    async def _retention(self, name: str) -> str:
        if name not in self._retentions:
            stream = await self.server.info(Ref(name))
            self._retentions[name] = stream.get("retention") if stream else ""
        return self._retentions[name]
