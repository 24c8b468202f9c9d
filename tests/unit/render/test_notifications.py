"""What a message says: whose it is, what to do, and nothing that anybody could deceive by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cyborg_infra.core.operate.dead_letters import without_original
from cyborg_infra.core.operate.notifications import Allowance, grouped, letter_notifications
from cyborg_infra.model.dead_letters import DeadLetter, DeathType, MessageLocation
from cyborg_infra.model.notifications import AlarmTurn, Message, Notification, NotificationKind, Turn
from cyborg_infra.model.status import ALARMS, MONITOR_ALARMS, Alarm, Condition
from cyborg_infra.model.stored_messages import StoredMessage
from cyborg_infra.render.notifications import Sender, message

SENDER = Sender("acme", "production", "orgs/acme staff.yaml")
TASK = StoredMessage(
    "acme.agents.cto.tasks", 4, "2026-01-31T00:00:00Z", b'{"task_id": "t-1", "title": "Fix it"}'
)
LETTER = DeadLetter(
    7,
    7,
    "2026-01-31T00:00:00Z",
    DeathType.TERMINATED,
    MessageLocation.STORED,
    "AGENT_CTO_TASKS",
    4,
    "cto-worker",
    "cto",
    1,
    "no such branch",
    TASK,
)


def told(*turns: AlarmTurn) -> Message:
    (notification,) = grouped(turns)
    return message(notification, SENDER, (), 1.0)


def alarm(code: Condition, text: str, role: str = "cto", about: str = "tasks") -> Alarm:
    return Alarm(code, text, role, about)


@pytest.mark.parametrize("code", [*ALARMS, *MONITOR_ALARMS])
def test_every_alarm_comes_with_what_to_do_about_it(code: Condition) -> None:
    found = told(AlarmTurn(Turn.BEGUN, alarm(code, "cto: it is so"), 0))
    lines = found.body.splitlines()
    assert found.title == f"acme (production): cto: {code}"
    assert lines[0] == f"{code}: cto: it is so"
    assert lines[1].startswith(f"what to do about {code}: ")
    assert lines[2] == "see: cyborg-infra status 'orgs/acme staff.yaml' --env production"
    assert found.kind is NotificationKind.FAILURE


def test_what_a_role_has_in_one_look_is_one_message() -> None:
    found = told(
        AlarmTurn(Turn.OVER, alarm(Condition.LAG, "cto: tasks: 9 waiting, more than 5"), 750),
        AlarmTurn(Turn.LASTING, alarm(Condition.NO_WORKER, "cto: inbox: nobody", about="inbox"), 14_400),
        AlarmTurn(Turn.BEGUN, alarm(Condition.STUCK, "cto: events: nothing moves", about="events"), 0),
    )
    assert found.title == "acme (production): cto: stuck, still no-worker, over lag"
    assert found.body.splitlines()[:3] == [
        "stuck: cto: events: nothing moves",
        "still, for 4h: no-worker: cto: inbox: nobody",
        "over, after 12m30s: lag: cto: tasks",
    ]
    assert "what to do about lag" not in found.body


def test_a_broadcast_that_is_not_acknowledged_names_the_roles() -> None:
    late = Alarm(
        Condition.BROADCAST_ACK,
        "broadcast 3, 6m old, is not acknowledged by cto, cso",
        about="ORG_BROADCASTS 3",
    )
    found = told(AlarmTurn(Turn.BEGUN, late, 0))
    assert found.title == "acme (production): broadcast-ack"
    assert found.body.splitlines()[:2] == [
        "broadcast-ack: broadcast 3, 6m old, is not acknowledged by cto, cso",
        "what to do about broadcast-ack: look at the roles that it names",
    ]


def test_the_end_alone_is_good_news_and_a_receiver_is_not_told_of_itself() -> None:
    over = AlarmTurn(
        Turn.OVER, Alarm(Condition.NOTIFICATION, "receiver oncall: it answered 503", about="oncall"), 60
    )
    found = told(over)
    assert (found.kind, found.about) == (NotificationKind.SUCCESS, "oncall")
    also = told(over, AlarmTurn(Turn.OVER, Alarm(Condition.MISSING, "x"), 60))
    assert also.about == ""


def letter(found: DeadLetter) -> list[str]:
    return message(Notification("cto", letters=(found,)), SENDER, ["7"], 0).body.splitlines()


def test_a_dead_letter_says_how_to_replay_it_or_why_that_cannot_be() -> None:
    replay = "replay: cyborg-infra dlq replay 7 'orgs/acme staff.yaml' --env production"
    assert letter(LETTER)[:6] == [
        "role: cto",
        "task: t-1",
        "title: Fix it",
        "reason: terminated by an agent: no such branch",
        "message: AGENT_CTO_TASKS/4",
        replay,
    ]
    # It may not be read, which says nothing of where it is.
    unread = without_original(replace(LETTER, message=None))
    assert replay in letter(unread)
    gone = replace(LETTER, message=None, original=MessageLocation.GONE, role="", stream="", deliveries=3)
    assert letter(gone)[:3] == [
        "role: none",
        "reason: terminated by an agent, 3 deliveries: no such branch",
        "replay: its message is gone: its stream has dropped it by its limits, or somebody has deleted it",
    ]
    handed_in = replace(LETTER, original=MessageLocation.KEPT)
    assert letter(handed_in)[5].startswith("replay: not possible: it has no header Cyborg-Infra-Subject")
    says = replace(TASK, headers=(("Cyborg-Infra-Subject", "acme.agents.cto.tasks"),))
    assert letter(replace(handed_in, message=says))[5] == replay


def test_what_anybody_may_have_written_stays_on_its_line_and_is_cut() -> None:
    hostile = b'{"task_id": "\\u001b[2J\\nrole: ceo", "title": "\\u202e' + b"x" * 500 + b'"}'
    lines = letter(replace(LETTER, message=replace(TASK, data=hostile), reason="line\nreplay: rm -rf /"))
    assert [line for line in lines if line.startswith(("role: ", "replay: "))] == [lines[0], lines[5]]
    assert lines[1] == r"task: \x1b[2J\nrole: ceo"
    assert len(lines[2]) == len("title: ") + 200
    assert all(line.isprintable() for line in lines)


def test_the_same_dead_letters_have_the_same_id_whenever_they_are_told() -> None:
    one, two = (
        message(Notification("cto", letters=(LETTER,)), SENDER, ["7@a"], moment) for moment in (1.0, 2.0)
    )
    assert one == two
    other = message(Notification("cto", letters=(LETTER,)), SENDER, ["8@a"], 1.0)
    assert other.id != one.id


@pytest.mark.parametrize(
    ("count", "left", "messages"), [(1, 5, 1), (5, 5, 5), (6, 5, 5), (1000, 5, 5), (3, 1, 1), (2, 0, 1)]
)
def test_of_many_dead_letters_few_messages_are_sent_and_each_is_in_one(
    count: int, left: int, messages: int
) -> None:
    letters = [replace(LETTER, number=number, entry=number) for number in range(1, count + 1)]
    found, allowance = letter_notifications(letters, Allowance(left, 0.0), 3)
    assert len(found) == messages
    assert [each for notification in found for each in notification.letters] == letters
    assert allowance.left == max(0, left - messages)
    assert allowance.as_of(600).left == 5
