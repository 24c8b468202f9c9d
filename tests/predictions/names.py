"""Names: streams that swap theirs, other subjects role by role, and consumers that somebody has deleted.

Each case is an organisation as in `handovers`, and takes more than one plan, or a server that is no longer as it was
applied. What all plans together announce is what it may cost.
"""

from __future__ import annotations

import base64
import copy
import random
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from cyborg_infra.model.changes import Change
from tests.predictions.handovers import UNFINISHED, Books, Case, Miss, Wish, first
from tests.support.scenario import Scenario

STREAMS = {
    "inboxes": "AGENT_INBOXES",
    "broadcasts": "ORG_BROADCASTS",
    "jobs": "ORG_JOBS",
    "notes": "AGENT_NOTES",
}
READERS = {"worker": "tasks", "inbox_reader": "inboxes", "broadcast_reader": "broadcasts"}
GONE = "gone with its consumer"
"""What becomes of a message of an interest stream that a deleted consumer alone waited for."""


class Topic(StrEnum):
    """What the cases are about."""

    SWAPS = "streams that swap their names"
    TARGETS = "other subjects, for some roles first"
    DELETED = "consumers that somebody has deleted"


class Step(NamedTuple):
    """What is applied, for which roles; or a manifest that is to be refused."""

    wish: Wish
    targets: Sequence[str] = ()
    is_refused: bool = False


class NamesCase(Case):
    """One organisation, and what becomes of it in several steps."""

    def __init__(self, scenario: Scenario, topic: Topic, seed: int, number: int) -> None:
        super().__init__(scenario, seed, number)
        self._draw = random.Random(f"{topic}/{seed}/{number}")  # noqa: S311 - not for secrets
        self._topic = topic

    def play(self) -> bool:
        """Return whether every step was applied; False if one was refused. Raises Miss."""
        self._scene.clear()
        before = first(self._draw)
        if self._topic is Topic.DELETED:
            self._begin_late(before)
        steps = list(_STEPS[self._topic](self._draw, before))
        self._scene.converge(before.text)
        books = self._worked(self._published(before))
        readers = self._readers(before)
        self.story += [f"before: {before.text}", f"messages: {books}"]
        if self._topic is Topic.DELETED:
            self._delete_some(books)
        changes = list[Change]()
        names = {ref.partition("/")[0]: {ref.partition("/")[0]} for ref in books}
        for step in steps:
            self.story.append(f"then, for {list(step.targets)}: {step.wish.text}")
            done = self._applied(step.wish, prune=False, targets=step.targets)
            if (done is None) is not step.is_refused:
                if step.is_refused:
                    raise Miss("streams swapped their names at once")
                return False
            changes += done or ()
            moved = {change.current_ref.stream: change.ref.stream for change in done or ()}
            for held in names.values():
                held |= {moved[name] for name in held & moved.keys()}
        last = steps[-1].wish
        self._compare(books, readers, self._readers(last, readers), self._emptied(), changes, names)
        return True

    def _begin_late(self, wish: Wish) -> None:
        """Have readers of limits streams begin elsewhere."""
        for reader, stream in READERS.items():
            if wish.manifest["streams"].get(stream, {}).get("retention", "limits") == "limits":
                policy = self._draw.choice(["all", "new", "last"])
                wish.manifest["consumers"][reader]["deliver_policy"] = policy

    def _delete_some(self, books: Books) -> None:
        """Delete one consumer or two by hand, and note what goes with it at once."""
        for ref in self._draw.sample(sorted(books), self._draw.randint(1, 2)):
            stream, _, name = ref.partition("/")
            self._scene.ask(f"CONSUMER.DELETE.{stream}.{name}")
            held = set(self._held(stream))
            books[ref] = {
                message: state if state not in UNFINISHED or message in held else GONE
                for message, state in books[ref].items()
            }
            self.story.append(f"deleted: {ref}, and then {books[ref]}")

    def _held(self, stream: str) -> Iterator[str]:
        """Yield the messages that a stream has."""
        state = self._scene.info(stream)["state"]
        for number in range(state["first_seq"], state["last_seq"] + 1):
            answer = self._scene.api.request(f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": number})
            if message := answer.get("message"):
                yield base64.b64decode(message.get("data", "")).decode()


def _swaps(draw: random.Random, before: Wish) -> Iterator[Step]:
    """Yield two or three streams that pass their names around: at once, which is refused, and then by way of another name."""
    kinds = draw.sample(list(STREAMS), draw.choice([2, 2, 3]))
    goals = dict(zip(kinds, [*kinds[1:], kinds[0]], strict=True))
    prefix = draw.choice(["", "acme.eu"])

    def named(names: dict[str, str], subject_prefix: str = "") -> Wish:
        wish = copy.deepcopy(before)
        wish.manifest["naming"] |= {"streams": names}
        if subject_prefix:
            wish.manifest["naming"] |= {"subject_prefix": subject_prefix}
        return wish

    final = {kind: STREAMS[goal] for kind, goal in goals.items()}
    yield Step(named(final, prefix), is_refused=True)
    names = {kinds[0]: "THIRD"}
    yield Step(named(dict(names)))
    for kind in reversed(kinds[1:]):  # each gets the name that has just become free
        names[kind] = final[kind]
        yield Step(named(dict(names)))
    yield Step(named(final, prefix))


def _targets(draw: random.Random, before: Wish) -> Iterator[Step]:
    wish = copy.deepcopy(before)
    wish.manifest["naming"]["subject_prefix"] = draw.choice(["acme.eu", "other"])
    yield Step(wish, draw.sample(list(before.people), draw.randint(1, len(before.people))))
    yield Step(wish)


def _deleted(draw: random.Random, before: Wish) -> Iterator[Step]:
    wish = copy.deepcopy(before)
    changes: Sequence[dict[str, Any]] = (
        {},
        {},
        {"naming": {"subject_prefix": "acme.eu"}},
        {"naming": {"stream_prefix": "P_"}},
    )
    wish.manifest.update(draw.choice(changes))
    yield Step(wish)


_STEPS: dict[Topic, Callable[[random.Random, Wish], Iterator[Step]]] = {
    Topic.SWAPS: _swaps,
    Topic.TARGETS: _targets,
    Topic.DELETED: _deleted,
}


def misses(scenario: Scenario, topic: Topic, seed: int, numbers: Sequence[int]) -> Iterator[str | None]:
    """Yield for each case what the plans had not said, with its story; None where they held, and nothing where one was refused."""
    for number in numbers:
        case = NamesCase(scenario, topic, seed, number)
        try:
            if case.play():
                yield None
        except Miss as miss:
            yield "\n".join([f"{topic}: case {number}: {miss}", *case.story])
