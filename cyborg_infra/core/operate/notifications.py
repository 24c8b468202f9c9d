"""Decide what is told of alarms and dead letters, and when: each once when it begins and once when it is over.

Everything here follows from what was told before, what holds now, and the time. Times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cyborg_infra.model.dead_letters import DeadLetter
from cyborg_infra.model.notification_settings import NotificationSettings
from cyborg_infra.model.notifications import AlarmTurn, Episode, Notification, ReceiverStatus, Turn
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.status import Alarm, Condition
from cyborg_infra.model.units import SECOND

AlarmKey = tuple[Condition, str, str]
Episodes = Mapping[AlarmKey, Episode]

SETTLED_SECONDS = 60.0
"""An alarm is over once it has not come back for so long; for twice as long each time that it came back lately."""
MAX_SETTLED_SECONDS = 3600.0
_MAX_RETURNS = 6  # beyond these the longest time holds
SPREAD_SECONDS = 300.0
"""An alarm that holds of more than it was told of is told again, so long after it was told last."""
FORGOTTEN_SECONDS = 4 * 3600.0
"""So long after its end an alarm that comes back is no longer one that comes and goes."""

MAX_MESSAGES_A_LOOK = 5
"""If more roles than that have something to be told in one look, all of it is one message."""


def next_turns(
    episodes: Episodes,
    alarms: Iterable[Alarm],
    known: Collection[Condition],
    now: float,
    settings: NotificationSettings,
) -> tuple[dict[AlarmKey, Episode], list[AlarmTurn]]:
    """Return the episodes after a look at the alarms, and the turns to notify of now.

    `known`: the codes of which the look can tell; of another one it is neither true that it lasts nor that it is over.
    What begins or ends in quiet hours is told when they are over: nothing, if it has come and gone by then. Of dead letters
    no beginning is told: each of them is told by itself.
    """
    after: dict[AlarmKey, Episode] = {}
    turns: list[AlarmTurn] = []
    holding = {alarm.key: alarm for alarm in alarms}
    for key in dict.fromkeys((*episodes, *holding)):
        code, known_now = key[0], key[0] in known
        episode = _seen(_until_now(episodes.get(key), now), holding.get(key), now, known=known_now)
        held = settings.quiet is not None and settings.quiet.holds_back(code, now)
        turn = _turn(episode, now, settings.repeat, held=held, known=known_now)
        if turn is not None:
            if (code, turn) != (Condition.DEAD_LETTERS, Turn.BEGUN):
                turns.append(AlarmTurn(turn, episode.alarm, (episode.gone_since or now) - episode.since))
            parts = episode.parts | episode.alarm.parts
            episode = replace(episode, told_at=now, over=turn is Turn.OVER, parts=parts)
        if not _is_forgotten(episode, now):
            after[key] = episode
    return after, turns


def _until_now(episode: Episode | None, now: float) -> Episode | None:
    """Return the episode with no time in the future: after a clock was wrong, nothing would be told until then."""
    if episode is None or now >= max(episode.since, episode.told_at or 0, episode.gone_since or 0):
        return episode
    told_at, gone = episode.told_at, episode.gone_since
    return replace(
        episode,
        since=min(episode.since, now),
        told_at=None if told_at is None else min(told_at, now),
        gone_since=None if gone is None else min(gone, now),
    )


def _seen(episode: Episode | None, alarm: Alarm | None, now: float, *, known: bool) -> Episode:
    """Return the episode with what this look says of it."""
    if alarm is None:
        assert episode is not None  # noqa: S101 - a key is of one or the other
        gone = now if known and episode.gone_since is None else episode.gone_since
        return replace(episode, gone_since=gone)
    if episode is None:
        return Episode(alarm, now)
    if episode.gone_since is None:
        return replace(episode, alarm=alarm)
    returns = min(episode.returns + 1, _MAX_RETURNS)
    if episode.over:
        return Episode(alarm, now, returns=returns)
    return replace(episode, alarm=alarm, gone_since=None, returns=returns)


def _turn(episode: Episode, now: float, repeat: float, *, held: bool, known: bool) -> Turn | None:
    """Return the turn to notify of now, if there is one. An alarm that ended before anybody heard of it has none."""
    if held or episode.over or not known:
        return None
    if episode.gone_since is not None:
        settled = min(SETTLED_SECONDS * 2**episode.returns, MAX_SETTLED_SECONDS)
        is_over = episode.told_at is not None and now - episode.gone_since >= settled
        return Turn.OVER if is_over else None
    if episode.told_at is None:
        return Turn.BEGUN
    told = now - episode.told_at
    if told >= SPREAD_SECONDS and not episode.alarm.parts <= episode.parts:
        return Turn.SPREAD
    return Turn.LASTING if 0 < repeat <= told else None


def _is_forgotten(episode: Episode, now: float) -> bool:
    if episode.gone_since is None:
        return False
    return now - episode.gone_since >= (FORGOTTEN_SECONDS if episode.over else MAX_SETTLED_SECONDS) and (
        episode.over or episode.told_at is None
    )


def grouped(turns: Sequence[AlarmTurn]) -> list[Notification]:
    """Return one notification for each role that has something to be told, or one for all of them if that were too many."""
    found: dict[str, list[AlarmTurn]] = {}
    order = list(Turn)
    for turn in sorted(turns, key=lambda each: order.index(each.turn)):
        found.setdefault(turn.alarm.role, []).append(turn)
    if len(found) > MAX_MESSAGES_A_LOOK:
        return [Notification("", tuple(turn for own in found.values() for turn in own))]
    return [Notification(role, tuple(own)) for role, own in found.items()]


def receiver_alarms(receivers: Iterable[ReceiverStatus]) -> Iterator[Alarm]:
    """Yield an alarm for each receiver that does not take what it is told."""
    for each in receivers:
        if each.failing:
            yield Alarm(
                Condition.NOTIFICATION,
                f"receiver {each.name}: {each.reason}; {each.waiting:,} wait for it",
                about=each.name,
            )


BURST = 5
"""So many messages of dead letters are sent at once at most."""
REFILL_SECONDS = 60.0
"""After so long there may be one more."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many messages of dead letters may still be sent, as of a time: each dead letter is one, until there are too many."""

    left: float = BURST
    at: float = 0.0

    def as_of(self, now: float) -> Allowance:
        """Return the allowance with what has been added since."""
        return Allowance(min(BURST, self.left + max(now - self.at, 0) / REFILL_SECONDS), now)

    @property
    def seconds(self) -> float:
        """How long it takes until there may be a message."""
        return max(0.0, (1 - self.left) * REFILL_SECONDS)


def letter_notifications(
    letters: Sequence[DeadLetter], allowance: Allowance, more: int = 0
) -> tuple[list[Notification], Allowance]:
    """Return a notification for each dead letter as long as the allowance lasts, one for all the others, and the allowance then.

    `more`: those that wait besides. Raises nothing; where not even one is allowed, there is one nevertheless.
    """
    allowed = max(1, int(allowance.left))
    singly = len(letters) if len(letters) <= allowed else allowed - 1
    found = [Notification(letter.role, letters=(letter,)) for letter in letters[:singly]]
    if left := letters[singly:]:
        roles = {letter.role for letter in left}
        found.append(Notification(roles.pop() if len(roles) == 1 else "", letters=tuple(left), more=more))
    return found, replace(allowance, left=max(0.0, allowance.left - len(found)))


def unusable_consumer(consumer: Resource) -> Problem | None:
    """Return the problem of a consumer that could lose a dead letter before anybody was notified, or None."""
    policy = consumer.get("ack_policy")
    if policy == "explicit":
        return None
    said = f"{consumer.ref} has ack_policy {policy}: what it hands out, and nobody is told, would be lost"
    return Problem("bad-consumer", said, None, "set ack_policy: explicit under consumers: dead_letter_alerts")


def work_seconds(consumer: Resource) -> float:
    """Return the seconds between two heartbeats on a delivery: a third of the shortest time after which it is redelivered."""
    shortest: int = min((consumer.get("ack_wait"), *(consumer.get("backoff") or ())))
    return shortest / SECOND / 3


def letter_key(letter: DeadLetter) -> str:
    """Return the key of a dead letter: its number and time, which every entry about it has, also an archived copy."""
    return f"{letter.number}@{letter.time}"
