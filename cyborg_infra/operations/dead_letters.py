"""The dead letters of an organisation: found with their messages, and replayed, kept or dropped.

Whatever is the only copy of a message is deleted last. Interrupted anywhere, the same call again goes on: what was
published carries an id that its stream knows for the length of the duplicate_window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cyborg_infra.core import dead_letters as core
from cyborg_infra.core.dead_letters import Selection
from cyborg_infra.core.namespace import org_subject, stream_name
from cyborg_infra.live.target import Target
from cyborg_infra.manifest.load import load
from cyborg_infra.model.dead_letter import DeadLetter, Handled, Handling, Original
from cyborg_infra.model.org import Org, StreamKind
from cyborg_infra.model.problems import Problem, ServerFault, UsageInvalid
from cyborg_infra.model.state import Ref

if TYPE_CHECKING:  # asyncio and nats cost 100 ms
    from cyborg_infra.live.jetstream import JetStream

__all__ = ["Selection", "find", "handle"]


def find(path: str, env: str | None, target: Target, wanted: Selection) -> list[DeadLetter]:
    """The dead letters that are meant, the oldest first, each with its message as far as that is still stored.

    Writes nothing. Raises UsageInvalid for a number that is not there, or a role that the manifest does not have.
    """
    import asyncio

    from cyborg_infra.live.jetstream import opened

    org = _org(path, env, wanted)

    async def run() -> list[DeadLetter]:
        async with opened(target) as server:
            return core.selected(await _Letters(server, org).all(), wanted, datetime.now(UTC))

    return asyncio.run(run())


def handle(
    handling: Handling,
    path: str,
    env: str | None,
    target: Target,
    wanted: Selection,
    tell: Callable[[Handled], None] = lambda _: None,
) -> list[Handled]:
    """One result per dead letter that is meant; `tell` hears of each as it is done.

    A failure of one stops nothing: the others are independent of it. Raises as `find` does, with nothing done.
    """
    import asyncio

    from cyborg_infra.live.jetstream import opened

    org = _org(path, env, wanted)

    async def run() -> list[Handled]:
        results = []
        async with opened(target) as server:
            letters = _Letters(server, org)
            every = await letters.all()
            for letter in core.selected(every, wanted, datetime.now(UTC)):
                if handling is Handling.KEEP and letter.original is not Original.STORED:
                    continue  # it is kept already, or there is nothing left to keep
                results.append(await letters.handled(handling, letter, every))
                tell(results[-1])
        return results

    return asyncio.run(run())


@dataclass(frozen=True, slots=True)
class _Letters:
    """The dead letters of one organisation on one server."""

    server: JetStream
    org: Org

    @property
    def stream(self) -> str:
        return stream_name(self.org, StreamKind.DEAD_LETTERS)

    async def all(self) -> list[DeadLetter]:
        """Every one, the oldest first. Raises ServerFault where there is no DEAD_LETTERS."""
        from cyborg_infra.live import messages
        from cyborg_infra.live.faults import ApiError
        from cyborg_infra.live.jetstream import STREAM_NOT_FOUND

        try:
            numbers = await messages.sequences(self.server, self.stream)
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
        return [core.found(letter, originals.get(letter)) for letter in letters]

    async def handled(self, handling: Handling, letter: DeadLetter, every: Sequence[DeadLetter]) -> Handled:
        """It is done, or the problem says why not."""
        try:
            match handling:
                case Handling.REPLAY:
                    return Handled(letter, await self.replayed(letter, every))
                case Handling.KEEP:
                    kept = await self.kept(letter, every)
                    return Handled(letter, f"dead letter {kept.number}")
                case Handling.DROP:
                    await self.removed(letter)
                    return Handled(letter)
        except ServerFault as fault:
            return Handled(letter, problem=fault.problems[0])

    async def replayed(self, letter: DeadLetter, every: Sequence[DeadLetter]) -> str:
        """Published again on its subject, and the dead letter is gone. Returns `STREAM/sequence`.

        On a workqueue the original gives its slot up first, kept whole in DEAD_LETTERS meanwhile: the stream may
        be full of what has failed.
        """
        if letter.original is Original.STORED and await self._is_workqueue(letter):
            letter = await self.kept(letter, every)
        again = core.replay(letter)
        answer = await self.server.store(
            again.subject, again.data, again.headers, doing=f"replaying dead letter {letter.number}"
        )
        await self._delete(self.stream, letter.number)
        return f"{answer['stream']}/{answer['seq']}"

    async def kept(self, letter: DeadLetter, every: Sequence[DeadLetter]) -> DeadLetter:
        """The whole message is in DEAD_LETTERS, in place of the pointer; a workqueue has its slot back."""
        from cyborg_infra.live import messages

        number = next((other.number for other in every if core.is_copy(other, letter)), 0)
        if not number:  # else an earlier run got this far
            copy = core.copy(letter, org_subject(self.org, "deadletter"))
            doing = f"keeping dead letter {letter.number}"
            number = (await self.server.store(copy.subject, copy.data, copy.headers, doing=doing))["seq"]
        await self.removed(letter)
        entry = await messages.message(self.server, self.stream, number)
        if entry is None:
            hint = "DEAD_LETTERS may be full: raise its limits"
            raise ServerFault(Problem("dropped", f"dead letter {number} was dropped at once", None, hint))
        return core.read(entry, self.org)

    async def removed(self, letter: DeadLetter) -> None:
        """The dead letter is gone; on a workqueue its original as well, which would keep its slot for ever."""
        await self._delete(self.stream, letter.number)
        if letter.original is Original.STORED and await self._is_workqueue(letter):
            await self._delete(core.home(letter, self.org), letter.sequence)

    async def _is_workqueue(self, letter: DeadLetter) -> bool:
        stream = await self.server.info(Ref(core.home(letter, self.org)))
        return stream is not None and stream.config.get("retention") == "workqueue"

    async def _delete(self, stream: str, sequence: int) -> None:
        from cyborg_infra.live import messages

        await messages.delete(self.server, stream, sequence)


def _org(path: str, env: str | None, wanted: Selection) -> Org:
    org = load(path, env)
    if wanted.role and wanted.role not in [role.name for role in org.roles]:
        raise UsageInvalid(Problem("unknown-role", f"--role: {wanted.role} is no role of {org.name}"))
    return org
