"""The outbox: who may use its file, what is dropped from it, and what happens when it cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyborg_infra.model.notifications import Episode, Message
from cyborg_infra.model.problems import UsageInvalid
from cyborg_infra.model.status import Alarm, Condition
from cyborg_infra.monitor.outbox import MAX_OVERTAKEN, MAX_WAITING, Outbox


def message(name: str, *letters: str) -> Message:
    return Message(name, f"title of {name}", "body", letters=letters)


def order(outbox: Outbox, receiver: str) -> list[str]:
    """Return what the receiver is told, by taking all of it."""
    told = []
    while found := outbox.next(receiver):
        told.append(found[1].id)
        outbox.taken(receiver, found[0], ())
    return told


def refused(path: Path, org: str = "acme") -> str:
    with pytest.raises(UsageInvalid) as error:
        Outbox(str(path), org, ["a"])
    return str(error.value.problems[0])


def test_a_file_is_one_monitors_and_one_organisations(tmp_path: Path) -> None:
    path = tmp_path / "told.db"
    outbox = Outbox(str(path), "acme", ["a"])
    assert f"another monitor uses {path}" in refused(path)
    outbox.close()
    assert "is of the organisation acme" in refused(path, "genbrain")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"no database at all, but a file of somebody's" * 40, b"\0" * 5000])
def test_another_file_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "told.db"
    path.write_bytes(content)
    assert "it is no state of a monitor" in refused(path)
    assert path.read_bytes() == content
    assert "No such file or directory" in refused(tmp_path / "none" / "told.db")
    assert "Is a directory" in refused(tmp_path)


def test_what_was_told_of_alarms_is_remembered(tmp_path: Path) -> None:
    alarm = Alarm(Condition.LAG, "cto: tasks: 6 waiting", "cto", "tasks")
    episodes = {
        alarm.key: Episode(
            alarm, 1.5, told_at=2.5, gone_since=3.5, over=True, returns=2, parts=frozenset({"x"})
        )
    }
    outbox = Outbox(str(tmp_path / "told.db"), "acme", ["a"])
    outbox.put([message("one")], episodes)
    outbox.close()
    again = Outbox(str(tmp_path / "told.db"), "acme", ["a"])
    assert again.episodes() == episodes
    assert order(again, "a") == ["one"]
    again.close()


def test_a_queue_is_bounded_and_keeps_what_nobody_else_has() -> None:
    outbox = Outbox("", "acme", ["a", "b"])
    outbox.put([message("first", "1"), message("second", "2")])
    number, _ = outbox.next("b") or pytest.fail("nothing waits")
    outbox.taken("b", number, ())
    outbox.put(message(str(number)) for number in range(MAX_WAITING))
    assert outbox.waiting("a") == MAX_WAITING
    assert order(outbox, "a") == ["second", *map(str, range(1, MAX_WAITING))]
    assert outbox.told(["1", "2"]) == {"1"}


def test_a_message_that_is_refused_for_what_is_in_it_lets_others_pass_and_goes_in_the_end() -> None:
    outbox = Outbox("", "acme", ["a"])
    outbox.put([message("bad"), message("bad letter", "1")])
    for _ in range(2):
        number, _ = outbox.next("a") or pytest.fail("nothing waits")
        outbox.refused("a", number, ["a"])
    outbox.put(message(str(number)) for number in range(MAX_OVERTAKEN))
    assert order(outbox, "a") == [*map(str, range(MAX_OVERTAKEN)), "bad letter"]
    assert outbox.told(["1"]) == {"1"}


def test_who_is_told_no_more_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "told.db")
    outbox = Outbox(path, "acme", ["a", "b"])
    outbox.put([message("taken by a", "1"), message("taken by nobody", "2")])
    number, _ = outbox.next("a") or pytest.fail("nothing waits")
    outbox.taken("a", number, ())
    assert outbox.told(["1"]) == set()
    outbox.close()
    again = Outbox(path, "acme", ["c"])
    assert (again.told(["1", "2"]), again.telling()) == ({"1"}, set())
    again.close()


def test_a_full_disk_is_a_problem_and_people_are_told_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "told.db"
    outbox = Outbox(str(path), "acme", ["a"])
    outbox.put([message("before", "1")])
    outbox._db.execute("PRAGMA max_page_count = 1")  # noqa: SLF001 - a disk that is full for this file alone
    long = [Message(str(number), "title", "x" * 3000) for number in range(10)]
    outbox.put(long)
    assert f"{path} cannot be written" in outbox.problem
    assert order(outbox, "a") == ["before", *(each.id for each in long)]
    assert outbox.told(["1"]) == {"1"}
    outbox.close()
