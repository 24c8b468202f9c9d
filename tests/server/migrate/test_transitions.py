"""The table of a migration holds on real servers: every stage is reached, told, left forwards and backwards, and nothing is lost.

A row that is added to the table is tried as well: what is done here is taken from its columns.
"""

from __future__ import annotations

import base64
import json
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn, cast

import pytest

from cyborg_infra.live.execute.migrate.stages import MigrationStage, StreamPair
from cyborg_infra.live.execute.migrate.steps import Migration
from cyborg_infra.live.execute.migrate.transitions import TRANSITIONS, ConsumersAt, MigratedStream, Transition
from cyborg_infra.model.metadata_keys import JOURNAL_KEY
from cyborg_infra.model.plan import Outcome, ResultStatus
from cyborg_infra.model.problems import PlanRefused, Problem, ServerFault
from cyborg_infra.model.ref import Ref, temporary_stream
from tests.support.agents import fetch, nothing_comes
from tests.support.scenario import Scenario
from tests.support.servers import NEWEST, OLDEST
from tests.support.traffic import eventually

pytestmark = pytest.mark.servers(NEWEST, OLDEST)


TABLE = cast("MutableMapping[MigrationStage, Transition]", TRANSITIONS)
DONE = 2  # messages that the worker has finished before


class Killed(Exception):
    """The tool died here."""


class Way(NamedTuple):
    """From one manifest to another, where it begins in the table, and what S and T, the worker and its subjects are called."""

    begins: MigrationStage
    before: str
    after: str
    streams: dict[MigratedStream, str]
    source: MigratedStream
    subjects: dict[MigratedStream, str]
    workers: tuple[str, str]  # before and after


SETTINGS = "consumers: {worker: {max_ack_pending: 50}}\n"
REPLACE = Way(
    MigrationStage.NOT_STARTED,
    f"org: acme\nroles: [cto]\nstreams: {{tasks: {{storage: file}}}}\n{SETTINGS}",
    f"org: acme\nroles: [cto]\nstreams: {{tasks: {{storage: memory}}}}\n{SETTINGS}",
    {
        MigratedStream.STREAM: "AGENT_CTO_TASKS",
        MigratedStream.TEMPORARY: temporary_stream(Ref("AGENT_CTO_TASKS")).stream,
    },
    MigratedStream.STREAM,
    dict.fromkeys(MigratedStream, "acme.agents.cto.tasks"),
    ("cto-worker", "cto-worker"),
)
RENAME = Way(
    MigrationStage.NOT_ADOPTED,
    f"org: acme\nroles: [cto]\n{SETTINGS}",
    f"org: acme\nroles: {{core: {{renamed_from: cto}}}}\n{SETTINGS}",
    {MigratedStream.STREAM: "AGENT_CORE_TASKS", MigratedStream.TEMPORARY: "AGENT_CTO_TASKS"},
    MigratedStream.TEMPORARY,
    {MigratedStream.STREAM: "acme.agents.core.tasks", MigratedStream.TEMPORARY: "acme.agents.cto.tasks"},
    ("cto-worker", "core-worker"),
)


def stages_of(way: Way) -> list[MigrationStage]:
    """Return the stages of a migration that nothing happens to, in their order."""
    stages, following = list[MigrationStage](), (way.begins,)
    while following[0] is not None and following[0] not in stages:
        stages.append(following[0])
        following = TRANSITIONS[stages[-1]].leads_to  # type: ignore[assignment]
    return stages


class Arrival(NamedTuple):
    """How a stage is reached: on this way the tool dies at `killed_at`, and the stream S is lost if that is another stage."""

    way: Way
    killed_at: MigrationStage


def arrivals() -> dict[MigrationStage, Arrival]:
    """Stage -> how it is reached, as the table says."""
    found = dict[MigrationStage, Arrival]()
    for way in (REPLACE, RENAME):
        for stage in stages_of(way):
            found.setdefault(stage, Arrival(way, stage))
            if (lost := TRANSITIONS[stage].without_stream) is not None:
                found.setdefault(lost, Arrival(way, stage))
    return found


ARRIVALS = arrivals()


class Migrated(NamedTuple):
    """One migration that has come to a stage, with the names of all messages that were acknowledged to a publisher."""

    scenario: Scenario
    way: Way
    stage: MigrationStage
    config: dict[str, Any]  # of the source, before
    messages: list[str]

    @property
    def row(self) -> Transition:
        return TRANSITIONS[self.stage]

    def publish(self, holder: MigratedStream) -> bool:
        """Return whether a message that is published to the holder's subject is stored; it is in the list then."""
        name = f"m-{len(self.messages)}"
        try:
            answer = self.scenario.api.ask(self.way.subjects[holder], name.encode()).json
        except RuntimeError:  # nobody listens, and the publisher knows
            return False
        assert "seq" in answer, answer
        self.messages.append(name)
        return True

    def stored_in(self, holder: MigratedStream) -> list[str]:
        """Return the messages that the holder has, in order."""
        return stored(self.scenario, self.way.streams[holder])

    def exists(self, holder: MigratedStream) -> bool:
        return self.way.streams[holder] in self.scenario.refs()

    def apply(self, manifest: str) -> list[Outcome]:
        return self.scenario.apply(self.scenario.request(manifest, prune=True))

    def apply_until_done(self, manifest: str) -> None:
        """A second apply may be needed where the first one has gone the other way."""
        for _ in range(3):
            outcomes = self.apply(manifest)
            assert [each.problem for each in outcomes if each.status is not ResultStatus.SUCCEEDED] == []
            if not self.scenario.plan(self.scenario.request(manifest, prune=True)):
                return
        pytest.fail("it is never in sync")

    def assert_complete(self, manifest: str) -> None:
        """The stream of the manifest has every message in order, the worker gets what it has not finished, and no more is left."""
        is_before = manifest == self.way.before
        stream = self.way.streams[self.way.source if is_before else MigratedStream.STREAM]
        assert stored(self.scenario, stream) == self.messages
        worker, left = f"{stream}/{self.way.workers[not is_before]}", self.messages[DONE:]
        assert worked(self.scenario, worker, len(left)) == left
        assert nothing_comes(self.scenario.api, worker)
        assert [ref for ref in self.scenario.refs() if "cyborg-infra-" in ref] == []


def stored(scenario: Scenario, stream: str) -> list[str]:
    """Return the payloads of a stream in order, without those of end markers and message ids, which are empty."""
    state, found = scenario.info(stream)["state"], list[str]()
    for sequence in range(state["first_seq"], state["last_seq"] + 1):
        answer = scenario.api.request(f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": sequence})
        if data := answer.get("message", {}).get("data"):
            found.append(base64.b64decode(data).decode())
    return found


def worked(scenario: Scenario, ref: str, count: int) -> list[str]:
    """Return the next so many messages that the worker is handed, each acknowledged."""
    found = list[str]()
    for _ in range(count):
        message = fetch(scenario.api, ref)
        scenario.api.ask(message.reply, b"+ACK")
        found.append(message.data.decode())
    return found


def killed_at(monkeypatch: pytest.MonkeyPatch, way: Way, *stages: MigrationStage) -> list[MigrationStage]:
    """The tool dies as soon as the migration comes to one of these stages; returns where it did, filled then."""
    found = list[MigrationStage]()
    for stage in stages:
        row = TRANSITIONS[stage]

        async def die(migration: Migration, seen: StreamPair, row: Transition = row) -> None:
            if migration.ref.stream == way.streams[MigratedStream.STREAM]:
                found.append(seen.stage)
                raise Killed
            await row.forward(migration, seen)

        monkeypatch.setitem(TABLE, stage, row._replace(forward=die, unneeded=None))
    return found


def reach(scenario: Scenario, stage: MigrationStage) -> Migrated:
    """Return a migration that has come to the stage, and whose tool is dead."""
    way, last = ARRIVALS[stage]
    scenario.converge(way.before)
    source = way.streams[way.source]
    migrated = Migrated(scenario, way, stage, scenario.config(source), [])
    for _ in range(6):
        assert migrated.publish(way.source)
    assert worked(scenario, f"{source}/{way.workers[0]}", DONE) == migrated.messages[:DONE]
    with pytest.MonkeyPatch.context() as patched:
        killed_at(patched, way, last)
        with pytest.raises(Killed):
            migrated.apply(way.after)
    if last is not stage:
        assert eventually(lambda: migrated.stored_in(migrated.row.messages_in) == migrated.messages)
        scenario.ask(f"STREAM.DELETE.{way.streams[MigratedStream.STREAM]}")
    return migrated


@pytest.mark.parametrize("stage", MigrationStage)
def test_a_stage_is_as_the_table_says_and_leads_where_it_says_without_a_loss(
    scenario: Scenario, stage: MigrationStage
) -> None:
    migrated = reach(scenario, stage)
    row, way = migrated.row, migrated.way

    assert migrated.stored_in(row.messages_in) == migrated.messages
    assert {holder for holder in MigratedStream if migrated.publish(holder)} == takers(row, way)
    if row.publishes_to is not None:
        assert migrated.stored_in(row.publishes_to)[-1] == migrated.messages[-1]
    if row.consumers is not ConsumersAt.RECORDED:
        info = scenario.info(f"{way.streams[way.source]}/{way.workers[0]}")
        served = not info.get("paused") and info["config"]["filter_subject"] == way.subjects[way.source]
        assert served is (row.consumers is ConsumersAt.SERVED)
    if row.consumers is not ConsumersAt.SERVED:
        journal = json.loads(scenario.config(way.streams[MigratedStream.TEMPORARY])["metadata"][JOURNAL_KEY])
        assert journal["positions"][way.workers[0]] == DONE + 1

    with pytest.MonkeyPatch.context() as patched:
        arrived = killed_at(patched, way, *(each for each in MigrationStage if each is not stage))
        with suppress(Killed):
            migrated.apply(way.after)
    assert (arrived[0] if arrived else None) is row.leads_to[0]

    migrated.apply_until_done(way.after)
    assert migrated.publish(MigratedStream.STREAM)
    migrated.assert_complete(way.after)


def takers(row: Transition, way: Way) -> set[MigratedStream]:
    """Return the holders whose subjects are taken in: of a stream that is replaced they are the same."""
    if row.publishes_to is None:
        return set()
    return {holder for holder in MigratedStream if way.subjects[holder] == way.subjects[row.publishes_to]}


@pytest.mark.parametrize("stage", MigrationStage)
def test_a_fault_goes_back_where_the_table_has_a_way_back_and_stays_elsewhere(
    scenario: Scenario, stage: MigrationStage
) -> None:
    migrated = reach(scenario, stage)
    row, way = migrated.row, migrated.way

    async def refuse(_migration: Migration, _seen: StreamPair) -> NoReturn:
        raise ServerFault(Problem("api-error", "the server would not"))

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(TABLE, stage, row._replace(forward=refuse, unneeded=None))
        outcomes = migrated.apply(way.after)
    assert ResultStatus.FAILED in {outcome.status for outcome in outcomes}
    if isinstance(row.undo, str):
        assert migrated.stored_in(row.messages_in) == migrated.messages
    else:
        assert scenario.config(way.streams[way.source]) == migrated.config
        assert migrated.publish(way.source)
        assert not migrated.exists(next(holder for holder in MigratedStream if holder is not way.source))
        info = scenario.info(f"{way.streams[way.source]}/{way.workers[0]}")
        assert not info.get("paused")
        assert info["config"]["filter_subject"] == way.subjects[way.source]

    migrated.apply_until_done(way.after)
    migrated.assert_complete(way.after)


@pytest.mark.parametrize("stage", [stage for stage in MigrationStage if stage in stages_of(REPLACE)])
def test_a_manifest_that_goes_back_loses_nothing_at_any_stage(
    scenario: Scenario, stage: MigrationStage
) -> None:
    """Where the stream may stay it is put back at once; elsewhere the migration ends, and another one leads back.

    An open target is completed by the manifest alone that it was created for: the other one is refused, and says so.
    """
    migrated = reach(scenario, stage)
    created = (
        migrated.exists(MigratedStream.STREAM)
        and scenario.info(migrated.way.streams[MigratedStream.STREAM])["created"]
    )
    try:
        migrated.apply(migrated.way.before)
        problems: tuple[Problem, ...] = ()
    except PlanRefused as refused:  # before it writes anything
        problems = refused.problems
    is_refused = "changed-meanwhile" in {problem.code for problem in problems}
    assert is_refused is (
        migrated.row.messages_in is MigratedStream.STREAM and isinstance(migrated.row.undo, str)
    )
    if is_refused:
        migrated.apply_until_done(migrated.way.after)
    migrated.apply_until_done(migrated.way.before)
    if migrated.row.unneeded is not None:
        assert scenario.info(migrated.way.streams[MigratedStream.STREAM])["created"] == created
    migrated.assert_complete(migrated.way.before)
