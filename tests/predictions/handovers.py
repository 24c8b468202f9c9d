"""Handovers: what a plan says that a change costs is what it costs, with messages in every state.

Each case is an organisation whose messages wait, are being worked on or are finished, and a change of its manifest: other
names, other readers, other settings. It is applied with every hazard that its plan names; then all consumers are emptied.
What was finished may come again, and what was unfinished may come to nobody, as often as the plan has said of its stream.

Run at length: `make fuzz`. The seed is printed; `--seed` makes the same cases again, `--case N` one of them alone.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.changes import Change, HazardName
from cyborg_infra.model.plan import Plan, PlanRequest, ResultStatus
from cyborg_infra.model.problems import ManifestInvalid, PlanRefused
from cyborg_infra.model.subjects import covers
from tests.support.nats_client import Message
from tests.support.scenario import MEMORY, Scenario
from tests.support.servers import NEWEST, OLDEST, server_binary

ORG, ROLES = "acme", ("ceo", "cto", "dev")
AT_ONCE = 4  # messages that one consumer may have open; a worker may have five
PATIENCE_NS = 100_000_000  # of a pull for which nothing may be there
SILENCES = 100  # pulls in a row that bring nothing of what is pending: many times SOON_NS
SOON_NS = 300_000_000  # ack_wait in the end: what nobody finished comes again
WAITING, OPEN, DONE, GIVEN_UP = "waiting", "open", "done", "given up"
UNFINISHED = (WAITING, OPEN)
MAX_DELIVER = 2
RETENTIONS = ("limits", "interest", "workqueue")

Books = dict[str, dict[str, str]]
"""Consumer as STREAM/consumer -> message -> whether it waits, is open, done or given up."""


class Wish(NamedTuple):
    """A manifest, and who the roles are, whatever they are called."""

    manifest: dict[str, Any]
    people: dict[str, str]

    @property
    def text(self) -> str:
        return json.dumps(self.manifest)


class Reader(NamedTuple):
    """Who reads by a consumer: which kind of it, and which person."""

    kind: str
    person: str


class Miss(Exception):
    """What a plan has not said."""


def first(draw: random.Random) -> Wish:
    """Return an organisation as it begins: tasks, inboxes and broadcasts, jobs that some roles read, and notes to each role."""
    roles = draw.sample(ROLES, draw.randint(2, 3))
    retention = draw.choice(RETENTIONS)
    readers = draw.choice(["operator", roles[:1], roles[1:2], roles[:2]])
    if retention == "workqueue" and len(readers) == 2:
        readers = roles[:1]
    jobs = {"of": "org", "durable": True, "subject": "jobs.*", "send_to": "a", "readers": readers}
    notes = {
        "of": "role",
        "durable": True,
        "stream": {"retention": draw.choice(RETENTIONS)},
        "reader": {"max_deliver": MAX_DELIVER},
    }
    manifest = {
        "org": ORG,
        "roles": {role: {} for role in roles},
        "channels": {
            "jobs": {**jobs, "stream": {"retention": retention}, "reader": {"max_deliver": MAX_DELIVER}},
            "notes": notes,
        },
        "streams": {kind: {"retention": draw.choice(RETENTIONS)} for kind in ("tasks", "inboxes")},
        "consumers": {
            kind: {"max_deliver": MAX_DELIVER} for kind in ("worker", "inbox_reader", "broadcast_reader")
        },
        "naming": {"streams": {}, "consumers": {}},
    }
    return Wish(manifest, {role: role for role in roles})


def _role_renamed(draw: random.Random, wish: Wish) -> None:
    old = draw.choice(list(wish.people))
    _called(wish, old, f"{old}-two")
    wish.manifest["roles"][f"{old}-two"]["renamed_from"] = old
    wish.people[f"{old}-two"] = wish.people.pop(old)


def _called(wish: Wish, old: str, new: str) -> None:
    roles, jobs = wish.manifest["roles"], wish.manifest["channels"].get("jobs", {})
    wish.manifest["roles"] = {new if role == old else role: body for role, body in roles.items()}
    if isinstance(jobs.get("readers"), list):
        jobs["readers"] = [new if role == old else role for role in jobs["readers"]]


def _role_left(draw: random.Random, wish: Wish) -> None:
    gone, *others = draw.sample(list(wish.people), len(wish.people))
    del wish.manifest["roles"][gone], wish.people[gone]
    jobs = wish.manifest["channels"].get("jobs", {})
    if isinstance(jobs.get("readers"), list):
        jobs["readers"] = [role for role in jobs["readers"] if role != gone] or others[:1]


def _role_came(_: random.Random, wish: Wish) -> None:
    wish.manifest["roles"]["new"], wish.people["new"] = {}, "new"


def _other_readers(draw: random.Random, wish: Wish) -> None:
    for jobs in wish.manifest["channels"].values():
        if jobs and jobs["of"] == "org":
            few = draw.randint(1, 2 if jobs["stream"]["retention"] != "workqueue" else 1)
            jobs["readers"] = draw.choice(["operator", draw.sample(list(wish.people), few)])


def _channel_renamed(draw: random.Random, wish: Wish) -> None:
    """Another channel takes over stream and subject."""
    name, stream = draw.choice([("jobs", "ORG_JOBS"), ("notes", "AGENT_NOTES")])
    if body := wish.manifest["channels"].pop(name, None):
        body.setdefault("subject", "agents.{role}.notes")
        wish.manifest["channels"]["other"] = body
        streams = wish.manifest["naming"]["streams"]
        streams["other"] = streams.pop(name, stream)
        _forget_consumer_name(wish, f"{name}_reader")


def _inbox_taken_over(_: random.Random, wish: Wish) -> None:
    """A channel of one's own stands where the built-in one was."""
    stream = wish.manifest["streams"].get("inboxes", {})
    wish.manifest["channels"]["inbox"] = False
    body = {
        "of": "role",
        "durable": True,
        "subject": "agents.{role}.inbox",
        "stream": stream,
        "reader": {"max_deliver": MAX_DELIVER},
    }
    wish.manifest["channels"]["mail"] = body
    streams = wish.manifest["naming"]["streams"]
    streams["mail"] = streams.pop("inboxes", "AGENT_INBOXES")


def _forget_consumer_name(wish: Wish, kind: str) -> None:
    wish.manifest["naming"]["consumers"].pop(kind, None)


def _consumer_called_otherwise(draw: random.Random, wish: Wish) -> None:
    kind = draw.choice(["worker", "inbox_reader", "broadcast_reader", "jobs_reader", "notes_reader"])
    if (
        kind in ("jobs_reader", "notes_reader")
        and kind.removesuffix("_reader") not in wish.manifest["channels"]
    ):
        return
    wish.manifest["naming"]["consumers"][kind] = f"{{role}}-{kind}"


def _stream_called_otherwise(draw: random.Random, wish: Wish) -> None:
    kind, name = draw.choice([("tasks", "{ROLE}_WORK"), ("inboxes", "MAIL"), ("broadcasts", "RADIO")])
    if kind != "inboxes" or wish.manifest["channels"].get("inbox") is not False:
        wish.manifest["naming"]["streams"][kind] = name


def _other_retention(draw: random.Random, wish: Wish) -> None:
    _any_stream(draw, wish)["retention"] = draw.choice(RETENTIONS)


def _other_storage(draw: random.Random, wish: Wish) -> None:
    _any_stream(draw, wish)["storage"] = "memory"


def _any_stream(draw: random.Random, wish: Wish) -> dict[str, Any]:
    own = [body["stream"] for body in wish.manifest["channels"].values() if body]
    found: dict[str, Any] = draw.choice([*own, *wish.manifest["streams"].values()])
    return found


def _consumer_made_anew(draw: random.Random, wish: Wish) -> None:
    own = [body["reader"] for body in wish.manifest["channels"].values() if body]
    draw.choice([*own, *wish.manifest["consumers"].values()])["max_waiting"] = 64


def _narrower_jobs(draw: random.Random, wish: Wish) -> None:
    for body in wish.manifest["channels"].values():
        if body and body.get("subject") == "jobs.*":
            body["reader"]["filter_subject"] = f"{ORG}.jobs.{draw.choice('ab')}"


CHANGES: tuple[Callable[[random.Random, Wish], None], ...] = (
    _role_renamed,
    _role_left,
    _role_came,
    _other_readers,
    _other_readers,
    _channel_renamed,
    _channel_renamed,
    _inbox_taken_over,
    _consumer_called_otherwise,
    _consumer_called_otherwise,
    _stream_called_otherwise,
    _other_retention,
    _other_retention,
    _other_storage,
    _consumer_made_anew,
    _narrower_jobs,
    _narrower_jobs,
)


def changed(draw: random.Random, wish: Wish) -> Wish:
    """Return what is wanted afterwards: one to three changes, none of them twice."""
    after = copy.deepcopy(wish)
    for change in dict.fromkeys(draw.sample(CHANGES, draw.randint(1, 3))):
        change(draw, after)
    return after


class Case:
    """One organisation on a server that has nothing else."""

    def __init__(self, scenario: Scenario, seed: int, number: int) -> None:
        self._scene, self._draw = scenario, random.Random(f"{seed}/{number}")  # noqa: S311 - not for secrets
        self._names = (f"m{number}" for number in itertools.count(1))
        self._pulls = itertools.count(1)
        self.story: list[str] = []

    def play(self) -> bool:
        """Return whether the change was applied; False if it was refused. Raises Miss."""
        self._scene.clear()
        before = first(self._draw)
        after = changed(self._draw, before)
        self._scene.converge(before.text)
        books = self._worked(self._published(before))
        readers = self._readers(before)
        self.story += [f"before: {before.text}", f"messages: {json.dumps(books)}", f"after: {after.text}"]
        changes = self._applied(after, prune=self._draw.random() < 0.5)
        if changes is None:
            return False
        self._compare(books, readers, self._readers(after, readers), self._emptied(), changes)
        return True

    def _applied(self, wish: Wish, *, prune: bool, targets: Sequence[str] = ()) -> Sequence[Change] | None:
        """Apply it with every hazard that its plan names; return the changes, or None where it was refused. Raises Miss."""
        try:
            request = self._scene.request(wish.text, prune=prune, targets=targets)
        except ManifestInvalid:
            return None
        plan = self._scene.plan(request)
        self.story += [
            f"{change.ref}: {hazard.name}: {hazard.reason}"
            for change in plan.changes
            for hazard in change.hazards
        ]
        if plan.blocking_problems:
            self._refused(request, plan)
            return None
        outcomes = self._scene.apply(request, plan)
        failed = [str(each.problem) for each in outcomes if each.status is not ResultStatus.SUCCEEDED]
        if failed and not all("still being worked on" in problem or problem == "None" for problem in failed):
            raise Miss(f"failed: {failed}")
        if failed:  # before 2.11, what the plan counts for others
            return None
        if left := self._scene.plan(request):
            raise Miss(f"not empty afterwards: {[str(change.ref) for change in left.changes]}")
        return plan.changes

    def _refused(self, request: PlanRequest, plan: Plan) -> None:
        """Try to apply a plan that cannot be carried out: nothing is written."""
        before = self._scene.everything()
        with contextlib.suppress(PlanRefused):
            self._scene.apply(request, plan)
            raise Miss("a blocked plan was applied")
        if self._scene.everything() != before:
            raise Miss("a refused plan has written something")

    def _published(self, wish: Wish) -> dict[str, str]:
        """Return the subject of each message that is stored."""
        subjects = [f"{ORG}.org.broadcasts", *(f"{ORG}.jobs.{job}" for job in "ab")]
        subjects += [
            f"{ORG}.agents.{role}.{what}" for role in wish.people for what in ("tasks", "inbox", "notes")
        ]
        found = {}
        for subject in subjects:
            for name in itertools.islice(self._names, self._draw.randint(0, 4)):
                assert "seq" in self._scene.api.ask(subject, name.encode()).json
                found[name] = subject
        return found

    def _worked(self, stored: Mapping[str, str]) -> Books:
        """Return what becomes of each message with each consumer that reads it."""
        books: Books = {}
        for ref in self._consumers():
            config = self._scene.config(ref)
            filters = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
            mine = self._stored_in(ref.partition("/")[0], stored)
            book = {name: WAITING for name in mine if any(covers(wide, stored[name]) for wide in filters)}
            for _ in range(self._draw.randint(0, len(book))):
                if Counter(book.values())[OPEN] == AT_ONCE or (message := self._next(ref)) is None:
                    break
                fate = self._draw.choices([DONE, OPEN, GIVEN_UP], [5, 4, 2])[0]
                book[message.data.decode()] = fate
                if fate == DONE:
                    self._scene.api.ask(message.reply, b"+ACK")
                elif fate == GIVEN_UP and (taken := self._given_up(ref, message)):
                    book[taken.data.decode()] = OPEN
            books[ref] = book
        return books

    def _given_up(self, ref: str, message: Message) -> Message | None:
        """Refuse it as often as it is handed out; return what comes then: without a pull the server does not give it up."""
        for delivery in range(MAX_DELIVER):
            again = self._next(ref) if delivery else message
            assert again is not None
            assert again.data == message.data
            self._scene.api.ask(again.reply, b"-NAK")
        return self._next(ref)

    def _stored_in(self, stream: str, stored: Mapping[str, str]) -> list[str]:
        subjects = self._scene.config(stream)["subjects"]
        return [name for name, subject in stored.items() if any(covers(wide, subject) for wide in subjects)]

    def _consumers(self) -> list[str]:
        return [
            ref for ref in self._scene.refs() if "/" in ref and not ref.startswith(("DEAD_", "KV_", MEMORY))
        ]

    def _readers(self, wish: Wish, former: Mapping[str, Reader] | None = None) -> dict[str, Reader]:
        """Return who reads by each consumer; by one that left the manifest who did before."""
        found = {}
        for ref in self._consumers():
            labels = self._scene.config(ref)["metadata"]
            role = labels.get("cyborg-infra.role", "")
            gone = role and role not in wish.people and former and ref in former
            found[ref] = (
                (former or {})[ref]
                if gone
                else Reader(labels["cyborg-infra.kind"], wish.people.get(role, role))
            )
        return found

    def _next(self, ref: str) -> Message | None:
        inbox = self._scene.api.subscribe(f"pulled.{next(self._pulls)}")
        body = json.dumps({"batch": 1, "expires": PATIENCE_NS}).encode()
        verb = f"$JS.API.CONSUMER.MSG.NEXT.{ref.replace('/', '.')}"
        self._scene.api.publish(verb, body, reply=inbox.subject)
        message = inbox.next()
        return message if message.reply else None

    def _emptied(self) -> dict[str, Counter[str]]:
        """Return what each consumer hands out until nothing is left, each message acknowledged.

        What an interest stream has deleted meanwhile stays pending on 2.10 for ever: it is pulled for often enough.
        """
        found: dict[str, Counter[str]] = {}
        for ref in self._consumers():
            stream, _, name = ref.partition("/")
            config = {**self._scene.config(ref), "ack_wait": SOON_NS}
            body = {"stream_name": stream, "config": config, "action": "update"}
            self._scene.ask(f"CONSUMER.CREATE.{stream}.{name}", body)
        for ref in self._consumers():
            came, silences = found.setdefault(ref, Counter()), 0
            while silences < SILENCES and any(
                self._scene.info(ref)[count] for count in ("num_pending", "num_ack_pending")
            ):
                silences += 1
                if message := self._next(ref):
                    self._scene.api.ask(message.reply, b"+ACK")
                    came[message.data.decode()] += 1
                    silences = 0
        return found

    def _compare(
        self,
        books: Books,
        old: Mapping[str, Reader],
        new: Mapping[str, Reader],
        came: Mapping[str, Counter[str]],
        changes: Sequence[Change],
        names: Mapping[str, AbstractSet[str]] | None = None,
    ) -> None:
        """Raise Miss for what the changes have not announced of a stream; `names` are those that it has had since."""
        self.story.append(f"came: {json.dumps(came)}")
        heirs = {reader: [ref for ref, theirs in new.items() if theirs == reader] for reader in new.values()}
        left = [ref for ref, reader in old.items() if reader not in heirs]
        anywhere = set().union(*came.values()) if came else set()
        again, lost = Counter[str](), Counter[str]()
        for ref, book in books.items():
            stream = ref.partition("/")[0]
            theirs = set().union(*(came[heir] for heir in heirs.get(old[ref], ())))
            again[stream] += sum(state not in UNFINISHED and name in theirs for name, state in book.items())
            lost[stream] += sum(state in UNFINISHED and name not in anywhere for name, state in book.items())
        for ref, reader in new.items():
            if reader not in old.values():
                again[ref.partition("/")[0]] += sum(_is_done(name, left, books) for name in came[ref])
        for stream in again.keys() | lost.keys():
            announced = _announced(changes, (names or {}).get(stream, {stream}))
            if again[stream] > announced["again"]:
                raise Miss(f"{again[stream]} of {stream} came again, {announced['again']} were announced")
            if lost[stream] > announced["lost"]:
                raise Miss(f"{lost[stream]} of {stream} came to nobody, {announced['lost']} were announced")


def _is_done(name: str, left: Sequence[str], books: Books) -> bool:
    """Return whether those who left had all finished it, of those that it came to."""
    states = [books[ref][name] for ref in left if name in books[ref]]
    return bool(states) and not any(state in UNFINISHED for state in states)


def _announced(changes: Sequence[Change], names: AbstractSet[str]) -> Counter[str]:
    """Return how many messages of a stream of these names may come again, and how many may come to nobody."""
    found = Counter[str]()
    for change in changes:
        if names & {change.ref.stream, change.current_ref.stream}:
            for hazard in change.hazards:
                unfinished = hazard.unfinished.messages if hazard.unfinished else 0
                resets = hazard.name is HazardName.RESETS_PROGRESS
                found["again"] += hazard.count if resets or hazard.name is HazardName.REPEATS_WORK else 0
                found["lost"] += hazard.count if resets else unfinished
    return found


def misses(scenario: Scenario, seed: int, numbers: Sequence[int]) -> Iterator[str | None]:
    """Yield for each case what the plan had not said, with its story; None where it held, and nothing where it was refused."""
    for number in numbers:
        case = Case(scenario, seed, number)
        try:
            if case.play():
                yield None
        except Miss as miss:
            yield "\n".join([f"case {number}: {miss}", *case.story])


def main(arguments: list[str]) -> int:
    """Return the exit code: 0 if every plan held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--servers", default=f"{NEWEST},{OLDEST}")
    options = parser.parse_args(arguments)
    numbers = range(options.cases) if options.case is None else range(options.case, options.case + 1)
    wrong = 0
    for version in options.servers.split(","):
        sys.stdout.write(f"{version}: {len(numbers)} handovers, --seed {options.seed}\n")
        with (
            tempfile.TemporaryDirectory() as directory,
            EmbeddedServer(Path(directory), binary=server_binary(version)) as server,
            Scenario(server.url, Path(directory)) as scenario,
        ):
            for found in misses(scenario, options.seed, numbers):
                wrong += found is not None
                if found:
                    sys.stdout.write(f"{version}: {found}\n")
                    sys.stdout.flush()
    return 1 if wrong else 0
