"""Whoever is told, fails and is killed, in whatever order: no dead letter is lost, and none is told again that was noted."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.model.notifications import Message
from cyborg_infra.monitor.outbox import Outbox
from tests.support.draws import draws

RECEIVERS = ("a", "b", "c")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("letter"), st.integers(1, 3)),  # a message with so many dead letters
        st.tuples(st.just("alarm"), st.just(0)),
        st.tuples(st.sampled_from(["taken", "refused", "killed after"]), st.sampled_from(RECEIVERS)),
        st.tuples(st.just("outage"), st.just(0)),  # all of them refuse
        st.tuples(st.just("killed"), st.just(0)),
    ),
    max_size=40,
)


class Run:
    """One history: what every receiver has accepted, and which dead letters there were."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.outbox = Outbox(path, "acme", RECEIVERS)
        self.failing: set[str] = set()
        self.accepted: dict[str, list[str]] = {name: [] for name in RECEIVERS}
        self.letters: dict[str, str] = {}  # its key -> the id of its message
        self.messages = 0
        self.doubted: Counter[tuple[str, str]] = Counter()  # taken and not noted

    def put(self, letters: int) -> None:
        self.messages += 1
        keys = tuple(f"{self.messages}-{number}" for number in range(letters))
        self.letters |= dict.fromkeys(keys, str(self.messages))
        self.outbox.put([Message(str(self.messages), "title", "body", letters=keys)])

    def attempt(self, receiver: str, outcome: str) -> bool:
        if (found := self.outbox.next(receiver)) is None:
            return False
        number, message = found
        if outcome == "refused":
            self.failing.add(receiver)
            self.outbox.refused(receiver, number, self.failing)
            return True
        self.accepted[receiver].append(message.id)
        if outcome == "killed after":
            self.doubted[receiver, message.id] += 1
            self.restart()
        else:
            self.failing.discard(receiver)
            self.outbox.taken(receiver, number, self.failing)
        return True

    def restart(self) -> None:
        self.outbox.close()
        self.outbox = Outbox(self.path, "acme", RECEIVERS)
        self.failing.clear()

    def check(self) -> None:
        told = self.outbox.told(self.letters)
        for key, identity in self.letters.items():
            taken = any(identity in accepted for accepted in self.accepted.values())
            assert key not in told or taken, "told, and nobody has it"
            assert key in told or key in self.outbox.telling(), "lost"
        for receiver, accepted in self.accepted.items():
            for identity, times in Counter(accepted).items():
                assert times <= 1 + self.doubted[receiver, identity], "twice, though it was noted"


@draws(100)
@given(steps)
def test_nothing_is_lost_and_nothing_is_told_twice_that_was_noted(history: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = Run(str(Path(directory) / "told.db"))
        for what, detail in history:
            match what:
                case "letter" | "alarm":
                    run.put(int(str(detail)))
                case "killed":
                    run.restart()
                case "outage":
                    for receiver in RECEIVERS:
                        run.attempt(receiver, "refused")
                case _:
                    run.attempt(str(detail), what)
            run.check()
        while any(run.attempt(receiver, "taken") for receiver in RECEIVERS):
            run.check()
        run.restart()
        assert run.outbox.told(run.letters) == run.letters.keys()
        assert run.outbox.telling() == set()
        for accepted in run.accepted.values():
            assert set(accepted) == {str(number) for number in range(1, run.messages + 1)}
        run.outbox.close()
