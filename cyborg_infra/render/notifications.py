"""What is told of alarms and dead letters, as the text of a message."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from cyborg_infra.model.dead_letters import (
    SUBJECT_HEADER,
    DeadLetter,
    MessageLocation,
    task_named_in,
)
from cyborg_infra.model.notifications import AlarmTurn, Message, Notification, NotificationKind, Turn
from cyborg_infra.model.status import Condition
from cyborg_infra.model.units import SECOND, format_age
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import PROGRAM
from cyborg_infra.render.command_line import spoken
from cyborg_infra.render.failures import how_it_failed
from cyborg_infra.render.values import escape_control, plural

MAX_LISTED = 50
"""So many dead letters, or alarms, of one message have a line of their own."""
MAX_TEXT = 200
"""Characters of a title or a reason, which anybody may have written."""

_TITLE = {Turn.BEGUN: "", Turn.SPREAD: "more ", Turn.LASTING: "still ", Turn.OVER: "over "}
_LASTED = {Turn.SPREAD: "more now, after {}: ", Turn.LASTING: "still, for {}: "}


class Sender(NamedTuple):
    """What a message says of where it comes from: the organisation, and what to type to act on it."""

    org: str
    environment: str | None = None
    manifest: str = "org.yaml"

    @property
    def name(self) -> str:
        """The organisation, with its environment."""
        return f"{self.org} ({self.environment})" if self.environment else self.org

    def typed(self, *words: str) -> str:
        """Return a command line for this organisation: its manifest and environment included."""
        manifest = [self.manifest] if self.manifest != "org.yaml" else []
        environment = ["--env", self.environment] if self.environment else []
        return shlex.join([PROGRAM, *words, *manifest, *environment])


def message(notification: Notification, sender: Sender, keys: Sequence[str], moment: float) -> Message:
    """Return the message that says it; `keys` are those of its dead letters. `moment` tells what is told twice from what happens twice."""
    letters = notification.letters
    title, body = _of_letters(notification, sender) if letters else _of_alarms(notification, sender)
    about = [f"{turn.turn} {' '.join(turn.alarm.key)}" for turn in notification.turns]
    identity = _identity(sender.org, *(keys if letters else (*about, str(moment))))
    return Message(
        identity,
        title,
        f"{body}\nid: {identity}",
        _kind(notification),
        tuple(keys),
        _receiver(notification.turns),
    )


def trial(sender: Sender, moment: float) -> Message:
    """Return a message by which somebody sees that messages arrive."""
    identity = _identity(sender.org, "trial", str(moment))
    body = f"This is how the monitor tells of alarms and dead letters. Nothing is wrong.\nsee: {sender.typed('status')}"
    return Message(identity, f"{sender.name}: a trial", f"{body}\nid: {identity}", NotificationKind.SUCCESS)


def _of_alarms(notification: Notification, sender: Sender) -> tuple[str, str]:
    turns = notification.turns
    codes = dict.fromkeys(f"{_TITLE[each.turn]}{each.alarm.code}" for each in turns)
    title = ": ".join(filter(None, (sender.name, notification.role, ", ".join(codes))))
    lines = [text for turn in turns[:MAX_LISTED] for text in _turn_lines(turn)]
    if len(turns) > MAX_LISTED:
        lines.append(f"and {len(turns) - MAX_LISTED:,} more")
    remedies = dict.fromkeys(each.alarm.code for each in turns if each.turn is not Turn.OVER)
    lines += [f"what to do about {code}: {spoken(code.remedy)}" for code in remedies if code.remedy]
    lines.append(f"see: {sender.typed('status')}")
    return title, "\n".join(lines)


def _turn_lines(turn: AlarmTurn) -> Iterator[str]:
    alarm, lasted = turn.alarm, format_age(int(turn.lasted * SECOND))
    if turn.turn is Turn.OVER:
        yield f"over, after {lasted}: {': '.join(filter(None, (alarm.code, alarm.role, alarm.about)))}"
    else:
        since = _LASTED.get(turn.turn, "").format(lasted)
        yield f"{since}{_visible(spoken(str(alarm)), limit=1000)}"


def _of_letters(notification: Notification, sender: Sender) -> tuple[str, str]:
    letters = notification.letters
    if len(letters) == 1 and not notification.more:
        (letter,) = letters
        return (
            ": ".join(
                filter(
                    None,
                    (
                        sender.name,
                        letter.role or "no role",
                        f"dead letter {letter.number}",
                        _visible(task_named_in(letter)[1]),
                    ),
                )
            ),
            "\n".join(_letter_lines(letter, sender)),
        )
    title = f"{sender.name}: {plural(len(letters), 'dead letter')}"
    by_role = Counter(letter.role or "no role" for letter in letters)
    lines = [f"{role}: {number:,}" for role, number in sorted(by_role.items())]
    lines += [_short(letter) for letter in letters[:MAX_LISTED]]
    if len(letters) > MAX_LISTED:
        lines.append(f"and {len(letters) - MAX_LISTED:,} more, up to {letters[-1].number}")
    if notification.more:
        lines.append(f"{notification.more:,} more wait to be told")
    lines += [f"list: {sender.typed('dlq', 'list')}", f"replay: {sender.typed('dlq', 'replay', 'NUMBER')}"]
    return title, "\n".join(lines)


def _letter_lines(letter: DeadLetter, sender: Sender) -> Iterator[str]:
    task, title = task_named_in(letter)
    number = str(letter.number)
    facts = {
        "role": letter.role or "none",
        "task": _visible(task),
        "title": _visible(title),
        "reason": _reason(letter),
        "message": f"{letter.stream}/{letter.sequence}" if letter.stream else "",
        "replay": _replay(letter, sender),
        "show": sender.typed("dlq", "show", number),
    }
    yield from (f"{name}: {text}" for name, text in facts.items() if text)


def _replay(letter: DeadLetter, sender: Sender) -> str:
    """Return what to type, or why it cannot be replayed."""
    if letter.original is MessageLocation.GONE:
        return f"its message is gone: {letter.why_gone}"
    kept = letter.message if letter.original is MessageLocation.KEPT else None
    if kept and not kept.header(SUBJECT_HEADER):
        return f"not possible: it has no header {SUBJECT_HEADER}, which says where it was published; send it anew"
    return sender.typed("dlq", "replay", str(letter.number))


def _short(letter: DeadLetter) -> str:
    task, title = task_named_in(letter)
    named = ": ".join(filter(None, (_visible(task), _visible(title))))
    return "; ".join(filter(None, (f"{letter.number}: {letter.role or 'no role'}", named, _reason(letter))))


def _reason(letter: DeadLetter) -> str:
    return how_it_failed(letter) + (f": {_visible(letter.reason)}" if letter.reason else "")


def _visible(text: str, limit: int = MAX_TEXT) -> str:
    """Return what anybody may have written as one line that is not too long."""
    shown = escape_control(text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _kind(notification: Notification) -> NotificationKind:
    turns = {each.turn for each in notification.turns}
    if turns == {Turn.OVER}:
        return NotificationKind.SUCCESS
    return NotificationKind.WARNING if turns == {Turn.LASTING} else NotificationKind.FAILURE


def _receiver(turns: Sequence[AlarmTurn]) -> str:
    """Return the receiver that all of these turns are about: it is not told of its own failures. Empty if there is none."""
    about = {each.alarm.about if each.alarm.code is Condition.NOTIFICATION else "" for each in turns}
    return about.pop() if len(about) == 1 else ""


def _identity(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
