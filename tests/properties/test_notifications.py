"""Whatever comes and goes, and whenever: each alarm is told once when it begins and once when it is over, and nobody is flooded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.core.operate import notifications as core
from cyborg_infra.model.notification_settings import NotificationSettings, QuietHours
from cyborg_infra.model.notifications import AlarmTurn, Episode, Turn
from cyborg_infra.model.status import Alarm, Condition
from tests.support.draws import draws

KEYS = [
    (Condition.LAG, "cto", "tasks"),
    (Condition.LAG, "cto", "inbox"),
    (Condition.NO_WORKER, "cso", "tasks"),
    (Condition.MISSING, "", ""),
    (Condition.UNREADABLE, "", ""),
]
KNOWN = frozenset({Condition.LAG, Condition.NO_WORKER, Condition.MISSING, Condition.UNREADABLE})
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
QUIET = QuietHours(time(22), time(7), UTC, frozenset({Condition.MISSING.value}))

looks = st.lists(
    st.tuples(
        st.sampled_from([1, 15, 61, 600, 3_601, 20_000, 90_000]),  # seconds since the look before
        st.frozensets(st.sampled_from(KEYS)),
        st.booleans(),  # whether the account could be read
    ),
    max_size=60,
)
settings = st.builds(
    NotificationSettings,
    st.just(()),
    st.sampled_from([0.0, 300.0, 14_400.0]),
    st.sampled_from([None, QUIET]),
)


class Story:
    """Looks one after the other, and what was told."""

    def __init__(self, said: NotificationSettings) -> None:
        self.settings = said
        self.now = MIDNIGHT
        self.episodes: core.Episodes = {}
        self.told: list[tuple[float, AlarmTurn]] = []

    def look(self, passed: float, holding: frozenset[core.AlarmKey], *, read: bool = True) -> list[AlarmTurn]:
        self.now += passed
        known = KNOWN if read else frozenset({Condition.UNREADABLE})
        seen = [
            Alarm(code, f"it is {self.now}", role, about)
            for code, role, about in sorted(holding)
            if code in known
        ]
        self.episodes, turns = core.next_turns(self.episodes, seen, known, self.now, self.settings)
        self.told += [(self.now, turn) for turn in turns]
        return turns

    def of(self, key: core.AlarmKey) -> list[Turn]:
        return [turn.turn for _, turn in self.told if turn.alarm.key == key]


def story(
    said: NotificationSettings, history: Sequence[tuple[float, frozenset[core.AlarmKey], bool]]
) -> Story:
    found = Story(said)
    for passed, holding, read in history:
        found.look(passed, holding, read=read)
    return found


@draws(200)
@given(settings, looks)
def test_beginnings_and_ends_take_turns(
    said: NotificationSettings, history: Sequence[tuple[float, frozenset[core.AlarmKey], bool]]
) -> None:
    found = story(said, history)
    for key in KEYS:
        turns = [turn for turn in found.of(key) if turn in (Turn.BEGUN, Turn.OVER)]
        assert turns == [Turn.BEGUN, Turn.OVER] * (len(turns) // 2) + [Turn.BEGUN] * (len(turns) % 2)


@draws(200)
@given(settings, looks, st.frozensets(st.sampled_from(KEYS)))
def test_what_holds_in_the_end_has_been_told_and_what_does_not_is_over(
    said: NotificationSettings,
    history: Sequence[tuple[float, frozenset[core.AlarmKey], bool]],
    last: frozenset[core.AlarmKey],
) -> None:
    found = story(said, history)
    noon = 86_400 - (found.now - MIDNIGHT) % 86_400 + 43_200
    found.look(noon, last)
    found.look(core.MAX_SETTLED_SECONDS, last)
    for key in KEYS:
        turns = found.of(key)
        assert (bool(turns) and turns[-1] is not Turn.OVER) == (key in last)
    found.look(core.MAX_SETTLED_SECONDS, last)
    found.look(7 * 86_400, last)
    found.look(1, last)
    assert {key for key, each in found.episodes.items() if not each.over} == last
    assert len(found.episodes) <= len(KEYS)


@draws(200)
@given(settings, looks, st.sampled_from([3_600, 86_400, 300_000_000]))
def test_a_clock_that_is_set_back_keeps_nothing_from_being_told(
    said: NotificationSettings, history: Sequence[tuple[float, frozenset[core.AlarmKey], bool]], back: float
) -> None:
    """As of a machine that began with a wrong one: what is remembered is of a future that does not come for years."""
    found = story(NotificationSettings((), said.repeat), history)
    found.now -= back
    before = len(found.told)
    for _ in range(3):
        found.look(3_601, frozenset())
    assert [each for each in found.episodes.values() if not each.over and each.told_at is not None] == []
    for key in KEYS:
        found.look(20_000, frozenset({key}))
        assert found.of(key)[-1] is Turn.BEGUN
    assert all(turn.lasted >= 0 for _, turn in found.told[before:])


@draws(200)
@given(looks, st.sampled_from([0.0, 300.0]))
def test_nothing_is_told_in_quiet_hours_but_what_is_urgent(
    history: Sequence[tuple[float, frozenset[core.AlarmKey], bool]], repeat: float
) -> None:
    found = story(NotificationSettings((), repeat, QUIET), history)
    at_night = [turn for at, turn in found.told if not 7 <= datetime.fromtimestamp(at, UTC).hour < 22]
    assert {turn.alarm.code for turn in at_night} <= {Condition.MISSING}


@draws(200)
@given(settings, looks)
def test_nothing_is_said_to_be_over_while_the_account_cannot_be_read(
    said: NotificationSettings, history: Sequence[tuple[float, frozenset[core.AlarmKey], bool]]
) -> None:
    found = Story(said)
    for passed, holding, read in history:
        turns = found.look(passed, holding, read=read)
        assert read or {turn.alarm.code for turn in turns} <= {Condition.UNREADABLE}


@draws(200)
@given(looks, st.integers(0, 60))
def test_who_is_killed_and_knows_what_was_told_goes_on_as_if_nothing_had_been(
    history: Sequence[tuple[float, frozenset[core.AlarmKey], bool]], killed: int
) -> None:
    """All that is remembered is in the episodes: they are values, and nothing else is."""
    whole = story(NotificationSettings(), history)
    half = story(NotificationSettings(), history[:killed])
    rest = Story(NotificationSettings())
    rest.now, rest.episodes = half.now, dict(half.episodes)
    for passed, holding, read in history[killed:]:
        rest.look(passed, holding, read=read)
    assert half.told + rest.told == whole.told


@draws(200)
@given(
    st.lists(
        st.tuples(st.sampled_from([15, 100, 400]), st.frozensets(st.integers(1, 6), min_size=1)), min_size=1
    )
)
def test_an_alarm_that_spreads_is_told_again_and_not_more_often_than_every_five_minutes(
    history: list[tuple[int, frozenset[int]]],
) -> None:
    now, episodes, told = MIDNIGHT, dict[core.AlarmKey, Episode](), list[tuple[float, Turn]]()
    known, held = frozenset[str](), frozenset[str]()
    for passed, numbers in [*history, (400, history[-1][1])]:
        now += passed
        held = frozenset(map(str, numbers))
        alarm = Alarm(Condition.MISSING, "", parts=held)
        episodes, turns = core.next_turns(episodes, [alarm], KNOWN, now, NotificationSettings((), 0))
        told += [(now, turn.turn) for turn in turns]
        known |= held if turns else frozenset()
    assert held <= known
    assert all(later - earlier >= core.SPREAD_SECONDS for (earlier, _), (later, _) in pairwise(told))
    assert [turn for _, turn in told] == [Turn.BEGUN] + [Turn.SPREAD] * (len(told) - 1)
    assert len(told) <= 6


@pytest.mark.parametrize("on", [15, 300, 2_000])
@pytest.mark.parametrize("off", [15, 90, 1_000, 3_000])
def test_an_alarm_that_comes_and_goes_all_day_does_not_flood(on: float, off: float) -> None:
    said = NotificationSettings()
    found, key = Story(said), KEYS[0]
    while found.now < MIDNIGHT + 86_400:
        for holding, lasts in ((frozenset({key}), on), (frozenset[core.AlarmKey](), off)):
            for _ in range(int(lasts // 15)):
                found.look(15, holding)
    assert len(found.told) <= 2 * 24 + 14  # two an hour, and some until it is seen to come and go
    if off < core.MAX_SETTLED_SECONDS / 4:
        assert len(found.told) <= 8 + 6  # then it is one alarm, told again every four hours


@draws(200)
@given(
    st.lists(
        st.tuples(st.sampled_from(list(Turn)), st.sampled_from("abcdefgh"), st.integers(0, 9)), max_size=80
    )
)
def test_one_message_a_role_and_one_for_all_where_that_were_too_many(
    turns: list[tuple[Turn, str, int]],
) -> None:
    told = [AlarmTurn(turn, Alarm(Condition.LAG, "", role, str(about)), 0) for turn, role, about in turns]
    messages = core.grouped(told)
    assert len(messages) <= core.MAX_MESSAGES_A_LOOK
    assert sorted(repr(turn) for each in messages for turn in each.turns) == sorted(map(repr, told))
    roles = {role for _, role, _ in turns}
    assert {each.role for each in messages} == (roles if len(roles) <= core.MAX_MESSAGES_A_LOOK else {""})
