"""What somebody else takes in the middle of an apply: streams, consumers, bytes. It says so, loses nothing, and goes on later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server.migrate.test_migration import (
    STREAM,
    SUBJECT,
    WORKER,
    Fault,
    apply_until_done,
    assert_books_balance,
    assert_in_sync,
    preload,
)
from tests.support.acceptance_cases import account
from tests.support.faults import Faults
from tests.support.scenario import Scenario, consumer, deleted, published, stream
from tests.support.servers import NEWEST, OLDEST, StartServer
from tests.support.traffic import Publisher, Worker, eventually

CONSUMERS = 3
LIMITS = account(f"max_streams: 7, max_consumers: {CONSUMERS}, max_file: 4MB")
SIZED = account("max_bytes_required: true, max_file: 80MB, max_mem: 25MB")
MOST = 10  # MB that a stream may have there if it shall be copied


def manifest(retention: str) -> str:
    """Four streams that reserve nothing, so that the account has room for two more and its memory."""
    return (
        "org: acme\nroles: [cto]\n"
        f"streams: {{tasks: {{retention: {retention}, max_bytes: -1}}, inboxes: {{max_bytes: -1}}}}\n"
        "consumers: {worker: {max_ack_pending: 20, ack_wait: 5s}}\n"
    )


@contextmanager
def agents(scenario: Scenario, wanted: str) -> Iterator[Publisher]:
    """Return one publishes and one works, during the block and after it; then the books balance and the manifest holds."""
    old = preload(scenario, 200)
    with Worker(scenario.url, WORKER) as worker:
        with Publisher(scenario.url, SUBJECT) as publisher:
            assert eventually(lambda: len(publisher.acknowledged) > 20)
            yield publisher
            seen = len(publisher.acknowledged)
            assert eventually(lambda: len(publisher.acknowledged) > seen + 20)
        assert_books_balance(scenario, old, publisher, worker)
    assert_in_sync(scenario, wanted)


def every_stream(scenario: Scenario) -> None:
    for number in range(2):
        stream(f"OTHER{number}", f"other.{number}")(scenario)


def every_consumer(scenario: Scenario) -> None:
    """All that the new stream may have, although it is a mirror as yet."""
    for number in range(CONSUMERS):
        consumer(f"{STREAM}/other{number}")(scenario)


NEW = f"STREAM.CREATE.{STREAM}"
"""Before the new stream is there."""


def every_byte(scenario: Scenario) -> None:
    stream("OTHER", "other")(scenario)
    for size in (50_000, 5_000, 500, 50):
        while "error" not in scenario.api.ask("other", b"x" * size).json:
            pass


def give_back(scenario: Scenario) -> None:
    for ref in scenario.refs():
        if "other" in ref.lower():
            deleted(ref)(scenario)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_streams_without_max_bytes_count_nothing_against_the_account_limit(
    start_server: StartServer, tmp_path: Path, version: str
) -> None:
    """Of which 2.10 says that they reserve less than nothing, which is nearly 2**64."""
    with Scenario(start_server(version=version, config=account("max_file: 10GB")).url, tmp_path) as scene:
        every_stream(scene)
        assert not scene.plan(scene.request("org: acme\nroles: [cto]\n")).blocking_problems


@pytest.mark.parametrize(
    ("step", "take", "said"),
    [
        (1, every_stream, "the account may have no more streams"),  # before the copy is made
        (NEW, every_stream, "the account may have no more streams"),  # the copy has all
        (9, every_consumer, "may have no more consumers"),  # before the new stream takes messages in
        (1, every_byte, "room for a second copy"),
        (NEW, every_byte, "the account has no resources left"),
    ],
)
def test_a_replace_survives_that_somebody_fills_the_account_meanwhile(
    start_server: StartServer,
    tmp_path: Path,
    faults: Faults,
    step: int | str,
    take: Callable[[Scenario], None],
    said: str,
) -> None:
    if said == "room for a second copy":  # in the others nothing stalls that is only slow
        faults.waits(COPY_STALL_TIMEOUT_SECONDS=4.0)
    with Scenario(start_server(config=LIMITS).url, tmp_path) as scene:
        before, after = "limits", "workqueue"
        if take is every_consumer:  # a workqueue needs no placeholders
            before, after = after, before
        scene.converge(manifest(before))
        wish = scene.request(manifest(after))
        with agents(scene, manifest(after)):
            with faults.context() as patched:
                Fault(patched, step, lambda: take(scene))
                problems = [outcome.problem for outcome in scene.apply(wish) if outcome.problem]
            assert [said in (problem.hint or "") for problem in problems] == [True], problems
            give_back(scene)
            apply_until_done(scene, wish)


def sized(role: str, tasks: str, *, most: int = MOST) -> str:
    """Return every stream has a max_bytes."""
    small = ", ".join(f"{kind}: {{max_bytes: 1MB}}" for kind in ("inboxes", "broadcasts", "dead_letters"))
    return (
        f"org: acme\nroles: [{role}]\n"
        f"streams: {{tasks: {{max_bytes: {most}MB, {tasks}}}, {small}}}\n"
        "consumers: {worker: {max_ack_pending: 20, ack_wait: 5s}}\n"
    )


@pytest.mark.parametrize("version", [NEWEST, OLDEST])
def test_where_every_stream_needs_a_max_bytes_a_copy_has_one_as_well(
    start_server: StartServer, tmp_path: Path, version: str
) -> None:
    """There and back, and under another name."""
    with Scenario(start_server(config=SIZED, version=version).url, tmp_path) as scene:
        scene.converge(sized("cto", "storage: file"))
        with agents(scene, sized("cto", "storage: file")):
            for storage in ("memory", "file"):
                apply_until_done(scene, scene.request(sized("cto", f"storage: {storage}")))
                assert scene.config(STREAM)["max_bytes"] == MOST * 1024 * 1024
        held = scene.info(STREAM)["state"]["messages"]
        scene.converge(sized("{name: core, renamed_from: cto}", "storage: file"))
        assert scene.info("AGENT_CORE_TASKS")["state"]["messages"] == held


@pytest.mark.parametrize(("tasks", "most"), [("storage: memory", MOST + 3), ("deny_delete: false", 2 * MOST)])
def test_where_a_copy_has_no_room_for_its_max_bytes_the_plan_says_so(
    start_server: StartServer, tmp_path: Path, tasks: str, most: int
) -> None:
    with Scenario(start_server(config=SIZED).url, tmp_path) as scene:
        scene.converge(sized("cto", "deny_delete: true", most=most))
        published(SUBJECT, 5)(scene)
        plan = scene.plan(scene.request(sized("cto", tasks, most=most)))
        (change,) = [change for change in plan.changes if str(change.ref) == STREAM]
        assert "the account requires a max_bytes, and has no room for a copy" in change.reason
        assert [(hazard.name, hazard.count) for hazard in plan.hazards] == [("deletes-messages", 5)]


@pytest.mark.parametrize("version", [NEWEST, OLDEST])
def test_a_migration_whose_copy_is_full_ends_without_losing_a_message(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults, version: str
) -> None:
    faults.waits(COPY_STALL_TIMEOUT_SECONDS=0.5)
    with Scenario(start_server(config=SIZED, version=version).url, tmp_path) as scene:
        scene.converge(sized("cto", "storage: file"))
        published(SUBJECT, 50)(scene)
        before = scene.config(STREAM)
        monkeypatch.setattr("cyborg_infra.live.execute.migrate.steps.copy_max_bytes", lambda *_: 3000)
        problems = [
            outcome.problem
            for outcome in scene.apply(scene.request(sized("cto", "storage: memory")))
            if outcome.problem
        ]
        assert [problem.code for problem in problems] == ["copy-stalled"]
        assert scene.config(STREAM) == before
        assert (scene.info(WORKER)["num_pending"], scene.info(WORKER).get("paused", False)) == (50, False)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_two_renames_with_room_for_one_are_done_one_after_the_other(
    start_server: StartServer, tmp_path: Path, version: str
) -> None:
    server = start_server(version=version, config=account("max_streams: 6"))
    with Scenario(server.url, tmp_path) as scenario:
        scenario.converge("org: b\nroles: [ceo]\n")
        published("b.agents.ceo.tasks", 3)(scenario)
        scenario.converge('org: b\nroles: [ceo]\nnaming: {streams: {tasks: "{ROLE}_W", inboxes: MAIL}}\n')
        assert scenario.info("CEO_W")["state"]["messages"] == 3
        assert {"AGENT_CEO_TASKS", "AGENT_INBOXES"}.isdisjoint(scenario.refs())
