"""Find, replay, archive and drop the dead letters of an organisation.

Whatever is the only copy of a message is deleted last, and a replay is noted in DEAD_LETTERS before it is published.
Interrupted anywhere, the same call again goes on; where nothing tells whether it had published, it refuses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cyborg_infra.core.desired.settings import enforces_admission
from cyborg_infra.core.operate import dead_letters as core
from cyborg_infra.core.operate import outgoing
from cyborg_infra.core.operate.dead_letters import Publication, Selection
from cyborg_infra.live.api import messages
from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.jetstream import JetStream, connect_account
from cyborg_infra.live.api.publish import full_stream_problem
from cyborg_infra.live.connection.errors import ConnectionLost, NoReply, PermissionDenied, Unanswered
from cyborg_infra.live.connection.target import Target
from cyborg_infra.manifest.load import load
from cyborg_infra.model.consumer_position import read_patterns
from cyborg_infra.model.dead_letters import DeadLetter, DeadLetterAction, DeadLetterResult, MessageLocation
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import MESSAGE_ID
from cyborg_infra.model.organisation import LAG, Org
from cyborg_infra.model.problems import Problem, SendRefused, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.subjects import covers
from cyborg_infra.operations.dead_letter_store import DeadLetterStore
from cyborg_infra.operations.event_loop import run_coroutine
from cyborg_infra.operations.expected_server import OnServer, require_expected_server
from cyborg_infra.operations.status import require_role

__all__ = ["Selection", "find", "process"]

NOT_REACHED = Problem("not-reached", "not reached: nobody answers any more")


def find(
    path: str, env: str | None, target: Target, selection: Selection, on_server: OnServer
) -> list[DeadLetter]:
    """Return the dead letters that are meant, by number, each with its message as far as that is still stored.

    Writes nothing. Raises UsageInvalid for a number that is not there, or a role that the manifest does not have.
    """
    org = _org(path, env, selection)

    async def found() -> list[DeadLetter]:
        async with connect_account(target) as server:
            await require_expected_server(server, org, on_server)
            return core.select(await DeadLetterStore(server, org).read_all(), selection, datetime.now(UTC))

    return run_coroutine(found())


def process(
    action: DeadLetterAction,
    path: str,
    env: str | None,
    target: Target,
    selection: Selection,
    on_server: OnServer,
    on_result: Callable[[DeadLetterResult], None] = lambda _: None,
    *,
    allow_duplicates: bool = False,
    over_limit: bool = False,
    unmatched: bool = False,
    dry_run: bool = False,
) -> list[DeadLetterResult]:
    """Process the selected dead letters, and return one result each; `on_result` hears of each as it is done, `on_server` of the server before.

    Of those to be kept, what is kept already has none, and what has no message any more is lost.

    A failure of one stops nothing, as the others are independent of it, unless nobody answers any more: those that
    are left are not reached. No replay of a queue is begun if more would wait in it then than `alerts.lag`, unless
    `over_limit` or its stream itself counts what is unfinished. `allow_duplicates`: replays also what may have been replayed already.
    `unmatched`: replays also what no consumer reads any more.
    A dry run of a replay publishes nothing, and says where each would be. Raises as `find` does, with nothing done.
    """
    org = _org(path, env, selection)

    async def done() -> list[DeadLetterResult]:
        async with connect_account(target) as server:
            await require_expected_server(server, org, on_server)
            desk = _Processor(
                DeadLetterStore(server, org),
                allow_duplicates=allow_duplicates,
                unmatched=unmatched,
                dry_run=dry_run,
            )
            meant = core.select(await desk.letters.read_all(), selection, datetime.now(UTC))
            lost: list[DeadLetterResult] = []
            if action is DeadLetterAction.KEEP:
                lost = [
                    DeadLetterResult(letter, lost=True)
                    for letter in meant
                    if letter.original is MessageLocation.GONE
                ]
                meant = [letter for letter in meant if core.needs_archiving(letter)]
            refused: Mapping[int, Problem] = {}
            if action is DeadLetterAction.REPLAY and not over_limit:
                refused = await desk.beyond_limits(meant)
            results: list[DeadLetterResult] = []
            for letter in meant:
                problem = refused.get(letter.number)
                results.append(
                    DeadLetterResult(letter, problem=problem)
                    if problem
                    else await desk.process(action, letter)
                )
                on_result(results[-1])
                if results[-1].already_gone:
                    break
            missed = [DeadLetterResult(letter, problem=NOT_REACHED) for letter in meant[len(results) :]]
            return results + missed + lost

    return run_coroutine(done())


@dataclass(frozen=True, slots=True)
class _Processor:
    """Where the dead letters of one organisation are handled, one after the other."""

    letters: DeadLetterStore
    allow_duplicates: bool = False
    unmatched: bool = False
    dry_run: bool = False
    _read: dict[str, tuple[str, ...]] = field(default_factory=dict)  # stream -> what its consumers read

    @property
    def server(self) -> JetStream:
        return self.letters.server

    async def process(self, action: DeadLetterAction, letter: DeadLetter) -> DeadLetterResult:
        """Process one dead letter; the result has a problem if that failed."""
        try:
            match action:
                case DeadLetterAction.REPLAY if self.dry_run:
                    return DeadLetterResult(letter, await self.tried(letter))
                case DeadLetterAction.REPLAY:
                    return DeadLetterResult(letter, await self.replay(letter))
                case DeadLetterAction.KEEP:
                    kept = await self.letters.archive(letter)
                    return DeadLetterResult(letter, f"{await self.letters.stream()}/{kept.entry}")
                case DeadLetterAction.DROP:
                    await self.drop(letter)
                    return DeadLetterResult(letter)
        except ServerFault as fault:
            return DeadLetterResult(
                letter, problem=fault.problems[0], already_gone=isinstance(fault, Unanswered)
            )

    async def beyond_limits(self, letters: Sequence[DeadLetter]) -> dict[int, Problem]:
        """Return number -> the problem of each letter whose queue would exceed its limit by the replay, as in `send`."""
        org, known = self.letters.org, outgoing.Queues(self.letters.org)
        queues: dict[outgoing.Queue, list[int]] = {}
        for letter in letters:
            was = core.subject(letter)
            if was and (queue := known.of(was) or known.of(core.current_subject(was, letter, org))):
                queues.setdefault(queue, []).append(letter.number)
        refused: dict[int, Problem] = {}
        for queue, numbers in queues.items():
            stream = await self.server.info(Ref(queue.reader.stream))
            found = await self.server.info(queue.reader)
            if stream is None or found is None or enforces_admission(stream):
                continue
            most = org.alerts.of(LAG, queue.role, outgoing.CHANNELS[queue.channel])
            try:
                outgoing.refuse_over_limit(queue.role, found, len(numbers), most)
            except SendRefused as refusal:
                refused |= dict.fromkeys(numbers, refusal.problems[0])
        return refused

    async def tried(self, letter: DeadLetter) -> str:
        """Return the stream that would store the replayed message. Raises ServerFault if `replay` would fail."""
        if letter.replaying and (place := await self._find_published(letter)):
            return place
        again, stream = await self._destination(letter)
        await self._require_reader(letter, again.subject, stream)
        return stream

    async def replay(self, letter: DeadLetter) -> str:
        """Publish the message again on its subject, or on what that is now, and remove the dead letter. Returns `STREAM/sequence`.

        Before, it is kept whole with a note of the last message of its stream: whoever finds the note alone looks
        behind that message. On a workqueue the original has given its slot up by then: the stream may be full of what
        has failed.
        """
        place = await self._find_published(letter) if letter.replaying else ""
        if not place:
            again, stream = await self._destination(letter)
            await self._require_reader(letter, again.subject, stream)
            if not letter.replaying:
                letter = await self.letters.archive(
                    letter, f"{stream}/{await self.letters.last_sequence(stream)}"
                )
            place = await self._publish(letter, again, stream)
        await self.letters.remove(letter)
        return place

    async def drop(self, letter: DeadLetter) -> None:
        """Delete it. Raises ServerFault where somebody else has handled it meanwhile: it may be a task again."""
        if not await self.letters.remove(letter):
            raise ServerFault(core.handled_problem(letter))

    async def _destination(self, letter: DeadLetter) -> tuple[Publication, str]:
        """Return the message as it is published again, and the stream that would store it. Raises ServerFault if there is none.

        On the subject that it had; where nothing stores that any more, on the one that it has since `subject_prefix` changed.
        """
        again = core.replay_publication(letter)
        now = core.current_subject(again.subject, letter, self.letters.org)
        try:
            return again, await messages.find_stream(self.server, again.subject)
        except ServerFault as fault:
            if now == again.subject or fault.problems[0].code != messages.NO_STREAM_CODE:
                raise
        return replace(again, subject=now), await messages.find_stream(self.server, now)

    async def _require_reader(self, letter: DeadLetter, subject: str, stream: str) -> None:
        """Raise ServerFault where no consumer of the stream reads the subject: nobody would be handed the message.

        A stream of interest would not even keep it. Where consumers may not be listed, nothing tells.
        """
        if self.unmatched:
            return
        if stream not in self._read:
            try:
                readers = await self.server.consumers(Ref(stream))
            except PermissionDenied:
                return
            self._read[stream] = tuple(pattern for reader in readers for pattern in read_patterns(reader))
        if not any(covers(pattern, subject) for pattern in self._read[stream]):
            raise ServerFault(core.unmatched_problem(letter, subject, stream))

    async def _publish(self, letter: DeadLetter, again: Publication, stream: str) -> str:
        """Publish the message, to this stream and no other. What was certainly not stored is not noted as replayed any more."""
        doing = f"replaying dead letter {letter.number}"
        try:
            answer = await self.letters.publish_while_there(letter, again, stream, doing=doing)
        except ServerFault as fault:
            if not _may_be_stored(fault) and fault.problems[0].code != core.HANDLED_CODE:
                with contextlib.suppress(ServerFault):  # else the next replay looks for it
                    await self.letters.archive(letter)
            if isinstance(fault, ApiError) and fault.err_code == ErrorCode.JSStreamStoreFailedF:
                raise ServerFault(full_stream_problem(Ref(stream), fault)) from None
            raise
        place = f"{answer['stream']}/{answer['seq']}"
        if answer.get("duplicate"):
            there = await messages.read_message(self.server, stream, answer["seq"])
            if there is None:  # replayed by somebody just now, and worked on; or it was another one
                raise ServerFault(core.maybe_replayed_problem(letter, stream))
            if not core.is_what_was_sent(again, there):
                raise ServerFault(core.id_taken_problem(letter, place))
        return place

    async def _find_published(self, letter: DeadLetter) -> str:
        """Return where an interrupted replay has published it, or empty. Raises ServerFault where that cannot be told.

        It can as long as nothing is gone that came later: a workqueue forgets what is done.
        """
        noted, _, last = letter.replaying.rpartition("/")
        again, stream = await self._destination(letter)
        numbers, whole = await messages.list_sequences(self.server, stream, after=int(last))
        later = await messages.read_messages(self.server, [(stream, number) for number in numbers])
        for message in later:
            is_ours = message and message.header(MESSAGE_ID) == core.replay_id(letter)
            if message and is_ours and core.is_what_was_sent(again, message):
                return f"{stream}/{message.sequence}"
        if self.allow_duplicates or (whole and all(later) and stream == noted):
            return ""
        raise ServerFault(core.maybe_replayed_problem(letter, stream))


def _org(path: str, env: str | None, selection: Selection) -> Org:
    org = load(path, env)
    if selection.role:
        require_role(org, selection.role)
    return org


def _may_be_stored(fault: ServerFault) -> bool:
    """Return whether what was answered so may be in its stream all the same."""
    under_way = isinstance(fault, ApiError) and fault.err_code == ErrorCode.JSStreamDuplicateMessageConflict
    return under_way or isinstance(fault, NoReply | ConnectionLost)
