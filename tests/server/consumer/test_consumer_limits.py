"""What a stream allows its consumers holds for what a change needs on the way as well: placeholders and copies keep within every limit."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.execute import consumer_limits
from cyborg_infra.live.execute.consumer import placeholder
from cyborg_infra.live.execute.migrate import steps
from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.plan import ResultStatus
from tests.support.faults import Faults
from tests.support.scenario import Scenario, acked, fetched, published
from tests.support.servers import VERSIONS, server_binary

WORKER = "AGENT_CTO_TASKS/cto-worker"
CASES = 60 if os.environ.get("CYBORG_INFRA_TEST_FAULTS") == "all" else 12
LIMITS = (
    "",
    "max_ack_pending: 100",
    "max_ack_pending: 100, inactive_threshold: 1h",
    "max_ack_pending: 7, inactive_threshold: 9s",
    "max_ack_pending: 7, inactive_threshold: 720h",
)
RETENTIONS = ("limits", "limits", "interest", "workqueue")
MOST = (-1, -1, 2, 1)


class Settings(NamedTuple):
    """Of an organisation with one role."""

    limits: str
    most: int
    storage: str
    retention: str
    waiting: int
    prefix: str
    expires: str = ""


def drawn(chance: random.Random, name: str) -> Settings:
    limits = chance.choice(LIMITS)
    return Settings(
        limits,
        chance.choice(MOST),
        chance.choice(("file", "memory")),
        chance.choice(RETENTIONS),
        chance.choice((512, 9)),
        f"{name}_{chance.choice('AB')}_",
        chance.choice(("", "1h" if "9s" not in limits else "9s")),
    )


def manifest(name: str, wanted: Settings) -> str:
    limits = f", consumer_limits: {{{wanted.limits}}}" if wanted.limits else ""
    tasks = f"storage: {wanted.storage}, retention: {wanted.retention}, max_consumers: {wanted.most}{limits}"
    expires = f", inactive_threshold: {wanted.expires}" if wanted.expires else ""
    return (
        f"org: {name}\nroles: {{cto: {{tasks: {{{tasks}}}, worker: {{max_waiting: {wanted.waiting}{expires}}}}}}}\n"
        f"naming: {{stream_prefix: {wanted.prefix}}}\n"
    )


@pytest.fixture(scope="module", params=VERSIONS)
def scenario(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """Yield one server of each version for all that is drawn."""
    home: Path = tmp_path_factory.mktemp("limits")
    with (
        EmbeddedServer(home, binary=server_binary(str(request.param))) as server,
        Scenario(server.url, home) as opened,
    ):
        yield opened


@pytest.mark.parametrize("seed", range(CASES))
def test_whatever_is_planned_is_done_within_every_limit(scenario: Scenario, seed: int) -> None:
    """What no route leads to is known before the first write."""
    chance, name = random.Random(f"limit {seed}"), f"o{seed}"  # noqa: S311 - drawn, not secret
    before, after = drawn(chance, name), drawn(chance, name)
    begin(scenario, name, before)
    wish = scenario.request(manifest(name, after))
    plan = scenario.plan(wish)
    known = {problem.code for problem in plan.blocking_problems}
    assert known <= {"limit-consumers", "no-room-to-replace", "consumer-limits"}
    assert not known or {before.most, after.most} != {-1} or after.limits == ""
    if known:
        return
    outcomes = scenario.apply(wish, plan)
    missed = [
        f"{each.change.ref}: {each.problem}" for each in outcomes if each.status is not ResultStatus.SUCCEEDED
    ]
    assert not missed, (before, after)
    assert not scenario.plan(wish)
    lost = any("in the stream" in hazard.reason for hazard in plan.hazards)
    assert waiting(scenario, after) == (0 if lost else 3)


def begin(scenario: Scenario, name: str, settings: Settings) -> None:
    """Five tasks, two of them done."""
    scenario.converge(manifest(name, settings))
    for step in published(f"{name}.agents.cto.tasks", 5), acked(f"{settings.prefix}{WORKER}", 2):
        step(scenario)


def waiting(scenario: Scenario, settings: Settings) -> int:
    number: int = scenario.info(f"{settings.prefix}{WORKER}")["num_pending"]
    return number


class Killed(Exception):
    """The tool died here."""


@pytest.mark.parametrize("way", ["on", "back"])
@pytest.mark.parametrize("prefix", ["C_", "D_"], ids=["moved", "renamed"])
@pytest.mark.parametrize("hindrance", ["placeholder", "copy"])
def test_an_organisation_that_an_earlier_version_left_halfway_goes_on(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, hindrance: str, prefix: str, way: str
) -> None:
    """Its placeholders had the server's max_ack_pending of 1000, and its copies an origin that refused them."""
    name = f"halfway-{hindrance}-{prefix}{way}"
    limited, limit = hindrance == "copy", "max_ack_pending: 100"
    before = Settings(limit if limited else "", -1, "file", "limits", 512, f"{name}C_")
    after = before._replace(limits=limit, storage="memory", prefix=name + prefix)
    begin(scenario, name, before)
    with monkeypatch.context() as earlier:
        earlier.setattr(placeholder, "UNLIMITED", 1000)
        earlier.setattr(consumer_limits, "lift_limits", nothing)
        earlier.setattr(consumer_limits, "fit_placeholders", nothing)
        if limited:
            earlier.setattr(steps, "wait_until_nearly_complete", dies)
        with suppress(Killed):
            outcomes = scenario.apply(scenario.request(manifest(name, after)))
            assert any("10069" in each.problem.message for each in outcomes if each.problem)
    for wanted in [after] if way == "on" else [before, after, before]:
        plan = scenario.plan(scenario.request(manifest(name, wanted)))
        if (
            plan.blocking_problems and way == "back"
        ):  # the old name is given up, or the new limits are there already
            continue
        outcomes = scenario.apply(scenario.request(manifest(name, wanted)), plan)
        assert {each.problem for each in outcomes} == {None}
        assert not scenario.plan(scenario.request(manifest(name, wanted)))
        assert waiting(scenario, wanted) == 3


@pytest.mark.parametrize("way", ["moved", "renamed", "in place"])
@pytest.mark.parametrize("late", [False, True], ids=["seen", "late"])
def test_unacknowledged_messages_above_a_lower_limit_are_announced_and_the_consumer_stays(
    scenario: Scenario, way: str, *, late: bool
) -> None:
    """`late`: agents have taken it only after the plan was made. A new consumer could not be given all of it."""
    name = f"crowded-{way.replace(' ', '-')}-{late}"
    limited = "max_ack_pending: 2"
    before = Settings("", -1, "file", "limits", 512, f"{name}C_")
    after = before._replace(limits=limited, storage="memory", prefix=name + "C_")
    if way == "renamed":
        after = after._replace(storage="file", prefix=name + "D_")
    if way == "in place":  # it was changed to fewer while more was open
        after = after._replace(storage="file", waiting=9)
    worker = "max_ack_pending: 2, max_waiting"
    wanted = manifest(name, after).replace("max_waiting", worker)
    begin(scenario, name, before)
    if way == "in place":
        fetched(f"{before.prefix}{WORKER}", 3)(scenario)
        scenario.converge(wanted.replace("max_waiting: 9", "max_waiting: 512"))
        assert scenario.info(f"{before.prefix}{WORKER}")["num_ack_pending"] == 3
    wish, early = scenario.request(wanted), scenario.plan(scenario.request(wanted))
    if way != "in place":
        assert not early.hazards
        fetched(f"{before.prefix}{WORKER}", 3)(scenario)
    plan = early if late else scenario.plan(wish)
    hazards = {hazard.name: hazard.count for hazard in plan.hazards}
    if plan is not early:
        assert hazards.keys() == {"repeats-work"}
        assert hazards[HazardName.REPEATS_WORK] >= 3
    outcomes = scenario.apply(wish, plan)
    if plan is early and not hazards:
        codes = {each.problem.code for each in outcomes if each.problem}
        assert codes == {"not-drained"}
        assert scenario.info(f"{before.prefix}{WORKER}")["num_ack_pending"] == 3
    scenario.converge(wanted)
    assert waiting(scenario, after) + scenario.info(f"{after.prefix}{WORKER}")["num_ack_pending"] == 3
    acked(f"{after.prefix}{WORKER}", 2)(scenario)


async def nothing(*_: object) -> None:
    """As it was before this was known."""


async def dies(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("prefix", ["C_", "D_"], ids=["moved", "renamed"])
def test_what_a_copy_says_that_it_was_refused_ends_the_wait_and_is_undone(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, faults: Faults, prefix: str
) -> None:
    """A limit that the tool does not know of: here because it is not told. Everything is as it was, and in service."""
    name = f"refused{prefix}"
    before = Settings("max_ack_pending: 100", -1, "file", "limits", 512, f"{name}C_")
    after = before._replace(storage="memory", prefix=name + prefix)
    begin(scenario, name, before)
    old = f"{before.prefix}AGENT_CTO_TASKS"
    was = scenario.config(old)

    with monkeypatch.context() as patched:
        patched.setattr(consumer_limits, "lift_limits", nothing)
        faults.waits(COPY_STALL_TIMEOUT_SECONDS=1e9)
        outcomes = scenario.apply(scenario.request(manifest(name, after)))
    (problem,) = {each.problem for each in outcomes if each.problem}
    assert "err_code 10082" in problem.message
    assert (scenario.config(old), waiting(scenario, before)) == (was, 3)
    fetched(f"{before.prefix}{WORKER}", 1)(scenario)
    scenario.converge(manifest(name, after))
    assert waiting(scenario, after) in (2, 3)
