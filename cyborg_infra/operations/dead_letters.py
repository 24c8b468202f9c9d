"""The dead letters of an organisation: found with their messages, and replayed, kept or dropped.

Whatever is the only copy of a message is deleted last, and a replay is noted in DEAD_LETTERS before it is published.
Interrupted anywhere, the same call again goes on; where nothing tells whether it had published, it refuses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cyborg_infra.core import dead_letters as core
from cyborg_infra.core.dead_letters import Publication, Selection
from cyborg_infra.core.namespace import org_subject, stream_name
from cyborg_infra.live.target import Target
from cyborg_infra.manifest.load import load
from cyborg_infra.model.dead_letter import DeadLetter, Handled, Handling, Original
from cyborg_infra.model.fields import MESSAGE_ID
from cyborg_infra.model.org import Org, StreamKind
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.state import Ref, StreamCounts
from cyborg_infra.operations.place import Meet, meet
from cyborg_infra.operations.status import known_role

if TYPE_CHECKING:  # asyncio and nats cost 100 ms
    from cyborg_infra.live.jetstream import JetStream

__all__ = ["Selection", "find", "handle"]

UNDER_WAY = 10158  # in a cluster: somebody else is storing a message with this id

NOT_REACHED = Problem("not-reached", "not reached: nobody answers any more")


def find(path: str, env: str | None, target: Target, wanted: Selection, told: Meet) -> list[DeadLetter]:
    """The dead letters that are meant, by number, each with its message as far as that is still stored.

    Writes nothing. Raises UsageInvalid for a number that is not there, or a role that the manifest does not have.
    """
    import asyncio

    from cyborg_infra.live.jetstream import opened

    org = _org(path, env, wanted)

    async def run() -> list[DeadLetter]:
        async with opened(target) as server:
            await meet(server, org, told)
            return core.selected(await _Letters(server, org).all(), wanted, datetime.now(UTC))

    return asyncio.run(run())


def handle(
    handling: Handling,
    path: str,
    env: str | None,
    target: Target,
    wanted: Selection,
    told: Meet,
    tell: Callable[[Handled], None] = lambda _: None,
    *,
    repeat: bool = False,
) -> list[Handled]:
    """One result per dead letter that is meant; `tell` hears of each as it is done, `told` of the server before.

    A failure of one stops nothing, as the others are independent of it, unless nobody answers any more: those that
    are left are not reached. `repeat`: replays also what may have been replayed already. Raises as `find` does, with
    nothing done.
    """
    import asyncio

    from cyborg_infra.live.jetstream import opened

    org = _org(path, env, wanted)

    async def run() -> list[Handled]:
        async with opened(target) as server:
            await meet(server, org, told)
            letters = _Letters(server, org, repeat=repeat)
            meant = core.selected(await letters.all(), wanted, datetime.now(UTC))
            if handling is Handling.KEEP:
                meant = [letter for letter in meant if core.is_worth_keeping(letter)]
            results: list[Handled] = []
            for letter in meant:
                results.append(await letters.handled(handling, letter))
                tell(results[-1])
                if results[-1].gone:
                    break
            return results + [Handled(letter, problem=NOT_REACHED) for letter in meant[len(results) :]]

    return asyncio.run(run())


@dataclass(frozen=True, slots=True)
class _Letters:
    """The dead letters of one organisation on one server."""

    server: JetStream
    org: Org
    repeat: bool = False
    _workqueues: dict[str, bool] = field(default_factory=dict)  # stream -> whether it is one, asked once

    @property
    def stream(self) -> str:
        return stream_name(self.org, StreamKind.DEAD_LETTERS)

    async def all(self) -> list[DeadLetter]:
        """Every one, by number. Raises ServerFault where there is no DEAD_LETTERS."""
        from cyborg_infra.live import messages
        from cyborg_infra.live.faults import STREAM_NOT_FOUND, ApiError

        try:
            numbers, _ = await messages.sequences(self.server, self.stream)
        except ApiError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
            hint = "`cyborg-infra apply` creates it"
            raise ServerFault(
                Problem("no-dead-letters", f"there is no stream {self.stream}", None, hint)
            ) from None
        entries = await messages.messages(self.server, [(self.stream, number) for number in numbers])
        letters = [core.read(entry, self.org) for entry in entries if entry]
        pointers = [letter for letter in letters if letter.original is not Original.KEPT]
        places = [(core.home(letter, self.org), letter.sequence) for letter in pointers]
        originals = dict(zip(pointers, await messages.messages(self.server, places), strict=True))
        return core.told_once([core.found(letter, originals.get(letter)) for letter in letters])

    async def handled(self, handling: Handling, letter: DeadLetter) -> Handled:
        """It is done, or the problem says why not."""
        from cyborg_infra.live.faults import Unanswered

        try:
            match handling:
                case Handling.REPLAY:
                    return Handled(letter, await self.replayed(letter))
                case Handling.KEEP:
                    return Handled(letter, f"dead letter {(await self.kept(letter)).number}")
                case Handling.DROP:
                    await self.removed(letter)
                    return Handled(letter)
        except ServerFault as fault:
            return Handled(letter, problem=fault.problems[0], gone=isinstance(fault, Unanswered))

    async def replayed(self, letter: DeadLetter) -> str:
        """Published again on its subject, and the dead letter is gone. Returns `STREAM/sequence`.

        Before, it is kept whole with a note of the last message of its stream: whoever finds the note alone looks
        behind that message. On a workqueue the original has given its slot up by then: the stream may be full of what
        has failed.
        """
        from cyborg_infra.live import messages

        again = core.replay(letter)
        place = await self._published(letter) if letter.replaying else ""
        if not place:
            stream = await messages.stream_of(self.server, again.subject)
            if not letter.replaying:
                letter = await self.kept(letter, f"{stream}/{await self._last(stream)}")
            place = await self._publish(letter, again, stream)
        await self.removed(letter)
        return place

    async def kept(self, letter: DeadLetter, replaying: str = "") -> DeadLetter:
        """The whole message is in DEAD_LETTERS, in place of every pointer to it; a workqueue has its slot back."""
        from cyborg_infra.live import messages

        if core.is_copy(letter, replaying):  # an earlier run got this far
            await self.removed(letter, but=letter.number)
            return replace(letter, stored=False, others=())
        copy = core.copy(letter, org_subject(self.org, "deadletter"), replaying)
        await self._refuse_to_push_out(letter, copy)
        doing = f"keeping dead letter {letter.number}"
        answer = await self.server.store(
            copy.subject, copy.data, copy.headers, doing=doing, stream=self.stream
        )
        entry = await messages.message(self.server, self.stream, answer["seq"])
        if entry is None:
            hint = "somebody else may have handled it: look again with `cyborg-infra dlq list`"
            raise ServerFault(
                Problem("dropped", f"the copy of dead letter {letter.number} is not there", None, hint)
            )
        await self.removed(letter)
        return core.read(entry, self.org)

    async def removed(self, letter: DeadLetter, *, but: int = 0) -> None:
        """No entry tells of it, `but` one; and a workqueue no longer has the original, which would keep its slot for ever.

        The original first: without its pointer nobody would find it.
        """
        from cyborg_infra.live import messages

        if letter.stored and await self._is_workqueue(letter):
            await messages.delete(self.server, core.home(letter, self.org), letter.sequence)
        for number in (*letter.others, letter.number):
            if number != but:
                await messages.delete(self.server, self.stream, number)

    async def _publish(self, letter: DeadLetter, again: Publication, stream: str) -> str:
        """Published, to this stream and no other. What was certainly not stored is not noted as replayed any more."""
        from cyborg_infra.live.faults import ApiError
        from cyborg_infra.live.send import FULL, takes_no_more

        doing = f"replaying dead letter {letter.number}"
        try:
            answer = await self.server.store(
                again.subject, again.data, again.headers, doing=doing, stream=stream
            )
        except ServerFault as fault:
            if not _may_be_stored(fault):
                with contextlib.suppress(ServerFault):  # else the next replay looks for it
                    await self.kept(letter)
            if isinstance(fault, ApiError) and fault.err_code == FULL:
                raise ServerFault(takes_no_more(Ref(stream), fault)) from None
            raise
        return f"{answer['stream']}/{answer['seq']}"

    async def _published(self, letter: DeadLetter) -> str:
        """Where an interrupted replay has published it, or empty. Raises ServerFault where that cannot be told.

        It can as long as nothing is gone that came later: a workqueue forgets what is done.
        """
        from cyborg_infra.live import messages

        noted, _, last = letter.replaying.rpartition("/")
        stream = await messages.stream_of(self.server, core.replay(letter).subject)
        numbers, whole = await messages.sequences(self.server, stream, after=int(last))
        later = await messages.messages(self.server, [(stream, number) for number in numbers])
        for message in later:
            if message and message.header(MESSAGE_ID) == core.replay_id(letter):
                return f"{stream}/{message.sequence}"
        if self.repeat or (whole and all(later) and stream == noted):
            return ""
        raise ServerFault(core.perhaps_replayed(letter, stream))

    async def _refuse_to_push_out(self, letter: DeadLetter, copy: Publication) -> None:
        """Raises ServerFault if DEAD_LETTERS is so full that another dead letter would go."""
        from cyborg_infra.live import messages

        held = await messages.held(self.server, self.stream, copy.subject)
        if limit := core.pushes_out(letter, copy, held):
            hint = "raise it, or replay or drop the oldest ones first"
            raise ServerFault(
                Problem(
                    "dead-letters-full",
                    f"{self.stream} is full: {limit} would delete another one",
                    None,
                    hint,
                )
            )

    async def _last(self, stream: str) -> int:
        found = await self.server.info(Ref(stream))
        return found.counts.last_seq if found and isinstance(found.counts, StreamCounts) else 0

    async def _is_workqueue(self, letter: DeadLetter) -> bool:
        home = core.home(letter, self.org)
        if home not in self._workqueues:
            stream = await self.server.info(Ref(home))
            self._workqueues[home] = stream is not None and stream.config.get("retention") == "workqueue"
        return self._workqueues[home]


def _org(path: str, env: str | None, wanted: Selection) -> Org:
    org = load(path, env)
    if wanted.role:
        known_role(org, wanted.role)
    return org


def _may_be_stored(fault: ServerFault) -> bool:
    """Whether what was answered so may be in its stream all the same."""
    from cyborg_infra.live.faults import ApiError, ConnectionLost, NoReply

    under_way = isinstance(fault, ApiError) and fault.err_code == UNDER_WAY
    return under_way or isinstance(fault, NoReply | ConnectionLost)
