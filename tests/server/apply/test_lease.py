"""One writer at a time: the lease of an organisation."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live import timing
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import NoReply
from cyborg_infra.live.connection.reconnecting import open_connection
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.interception import ApiRequest, WireRequest
from cyborg_infra.live.records import lease as leases
from cyborg_infra.live.records.lease import LeaseHeld, LeaseLost, lease, read_holder, unlock
from cyborg_infra.model.plan import Outcome
from cyborg_infra.model.problems import CyborgError
from cyborg_infra.model.ref import Ref
from cyborg_infra.operations import provision
from tests.support.cli import SMALL
from tests.support.faults import Faults, Send, SendWire
from tests.support.scenario import EVERY_HAZARD, READS, Scenario

STREAM = {"name": "S", "subjects": ["s"], "retention": "limits", "storage": "file"}

LIFE = {
    "LEASE_LIFETIME_SECONDS": 60,
    "LEASE_FRESH_SHARE": 1 / 360,
    "LEASE_VACANCY_SHARE": 1 / 240,
    "LEASE_MAX_RENEWALS": 1200,
}
Two = Callable[[JetStream, JetStream], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def _short_lives(faults: Faults) -> None:
    """It is renewed every 50 ms and taken for fresh for 170; it does not run out while a busy machine lets nobody renew it."""
    faults.waits(**LIFE, LEASE_POLL_SECONDS=0.05)


@pytest.fixture
def two(any_server: Any) -> Callable[[Two], None]:
    """Run a function with two clients of one account."""
    target = provision.resolve(provision.Flags(server=any_server.url, no_context=True), {})

    def run(law: Two) -> None:
        async def main() -> None:
            async with open_connection(target) as one, open_connection(target) as other:
                await law(JetStream(one, target), JetStream(other, target))

        asyncio.run(main())

    return run


def test_a_lease_that_is_held_is_refused_with_its_holder(two: Callable[[Two], None]) -> None:
    async def law(one: JetStream, other: JetStream) -> None:
        async with lease(one, "g", wait=0):
            with pytest.raises(
                LeaseHeld, match=r"being applied to by .*@.* since .*, until .* unless renewed"
            ):
                async with lease(other, "g", wait=0):
                    pytest.fail("two holders")
            async with lease(other, "another", wait=0):
                pass

    two(law)


def test_a_lease_is_free_after_its_block_even_if_it_was_renewed(two: Callable[[Two], None]) -> None:
    async def law(one: JetStream, other: JetStream) -> None:
        async with lease(one, "g", wait=0) as held:
            first = await leases._read_record(other, "g")  # noqa: SLF001 - the number that a renewal changes
            while await leases._read_record(other, "g") == first:  # noqa: SLF001 - as above
                pass
            assert await read_holder(other, "g") is not None
            await held.request("STREAM.CREATE.S", STREAM, doing="creating")
        assert await read_holder(other, "g") is None

    two(law)


def test_who_waits_gets_the_lease_when_it_is_free(two: Callable[[Two], None]) -> None:
    async def law(one: JetStream, other: JetStream) -> None:
        order = []

        async def wait() -> None:
            async with lease(other, "g", wait=20):
                order.append("other")

        async with lease(one, "g", wait=0):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.3)
            order.append("one")
        await waiting
        assert order == ["one", "other"]

    two(law)


def test_an_abandoned_lease_expires(two: Callable[[Two], None], faults: Faults) -> None:
    faults.waits(LEASE_LIFETIME_SECONDS=2)

    async def law(one: JetStream, other: JetStream) -> None:
        await leases._bucket(one)  # noqa: SLF001 - whoever died after taking it
        dead = leases._holder("a dead one", datetime.now(UTC))  # noqa: SLF001 - as above
        assert await leases._put(one, "g", dead, expected=0, doing="dying")  # noqa: SLF001 - as above
        async with lease(other, "g", wait=20):
            held = await read_holder(one, "g")
            assert held is not None
            assert held.holder != "a dead one"

    two(law)


def test_who_lost_the_lease_writes_nothing_more_and_reads(two: Callable[[Two], None]) -> None:
    async def law(one: JetStream, other: JetStream) -> None:
        async with lease(one, "g", wait=0) as held:
            assert (freed := await unlock(other, "g")) is not None
            assert await read_holder(other, "g") is None
            with pytest.raises(
                LeaseLost,
                match=r"no longer ours: it is with `cyborg-infra unlock` of .*; nothing was written",
            ):
                await held.request("STREAM.CREATE.S", STREAM, doing="creating")
            async with lease(other, "g", wait=0):
                with pytest.raises(LeaseLost):
                    await held.publish("s", {}, {}, doing="publishing")
                with pytest.raises(LeaseLost):
                    await held.publish_to("s", b"", (), doing="storing", stream="S")
                assert await held.info(Ref("S")) is None
                assert (found := await read_holder(one, "g")) is not None
                assert found.since >= freed.since
            assert await unlock(other, "g") is None

    two(law)


def test_a_lease_is_not_free_before_its_holder_had_to_ask(two: Callable[[Two], None]) -> None:
    async def law(one: JetStream, other: JetStream) -> None:
        async with lease(one, "g", wait=0):
            freeing = asyncio.create_task(unlock(other, "g", lambda _: away.set()))
            away = asyncio.Event()
            await away.wait()
            with pytest.raises(LeaseHeld, match="by `cyborg-infra unlock` of "):
                async with lease(other, "g", wait=0):
                    pytest.fail("two holders")
            await freeing

    two(law)


def test_a_server_that_does_not_tell_whose_the_lease_is_gets_no_write(
    two: Callable[[Two], None], faults: Faults
) -> None:
    async def unanswered(request: WireRequest, send: SendWire) -> bytes:
        if request.subject.startswith("$KV."):
            raise NoReply(request.subject, 1)
        return await send(request)

    async def law(one: JetStream, other: JetStream) -> None:
        async with lease(one, "g", wait=0) as held:
            with faults.context() as patched:
                patched.intercept_wire(unanswered)
                patched.waits(RETRY_INTERVAL_SECONDS=0.01, ELECTION_TIMEOUT_SECONDS=0.0)
                await asyncio.sleep(0.3)
                with pytest.raises(NoReply):
                    await held.request("STREAM.CREATE.S", STREAM, doing="creating")
            assert await other.info(Ref("S")) is None
            await held.request("STREAM.CREATE.S", STREAM, doing="creating")

    two(law)


BEFORE = "org: g\nroles: [a, b]\n"
FIRST = "org: g\nroles: [a, b, c]\nstreams: {tasks: {description: FIRST}}\nconsumers: {worker: {max_waiting: 64}}\n"
SECOND = "org: g\nroles: [a, b]\nstreams: {tasks: {description: SECOND}}\n"
LARGE = f"org: g\nroles: [{', '.join(f'r{number}' for number in range(40))}]\n"


@dataclass
class Standing:
    """An apply whose whole event loop stands still right before one of its writes, as by SIGSTOP, until `go_on`."""

    number: int
    apply: Callable[[], list[Outcome]]
    outcomes: list[Outcome] = field(default_factory=list)
    writes: int = 0
    thread: threading.Thread = field(init=False)
    stands: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> bool:
        """Return whether it has come to that write; else it is over."""
        self.thread = threading.Thread(target=self._applied)
        self.thread.start()
        while self.thread.is_alive() and not self.stands.wait(0.01):
            pass
        return self.stands.is_set()

    def _applied(self) -> None:
        with suppress(CyborgError):  # of what comes before the first change
            self.outcomes.extend(self.apply())

    def before(self, verb: str) -> None:
        if threading.current_thread() is self.thread and not verb.startswith(READS):
            self.writes += 1
            if self.writes == self.number:
                self.stands.set()
                self.go_on.wait()


@pytest.mark.parametrize("first", [2, 3, 4])  # the first of all makes the bucket, without the lease
def test_an_apply_that_stood_still_at_any_write_changes_nothing_of_what_came_after_it(
    first: int, server: EmbeddedServer, tmp_path: Path, faults: Faults
) -> None:
    standing, told = [Standing(0, list)], set[str]()

    async def stopping(request: ApiRequest, send: Send) -> dict[str, Any]:
        verb = request.verb
        standing[-1].before(verb)
        return await send(request)

    with Scenario(server.url, tmp_path) as scene:
        for number in itertools.count(first, 3):
            scene.converge(BEFORE, prune=True)
            wish = scene.request(FIRST)
            plan = scene.plan(wish)
            apply = partial(
                provision.apply,
                provision.ApplyRequest(plan, allow=EVERY_HAZARD, drain_timeout=0.2, lock_timeout=5),
                scene.target,
            )
            standing.append(found := Standing(number, apply))
            with faults.context() as patched:
                patched.intercept(stopping)
                if found.begin():
                    assert provision.unlock(wish, scene.target)
                    scene.converge(SECOND, prune=True)
                    after = everything(scene)
                    found.go_on.set()
                found.thread.join()
            if not found.stands.is_set():
                break
            told |= {each.problem.code for each in found.outcomes if each.problem}
            assert after == everything(scene)
        assert found.writes > 12
        assert "lease-lost" in told


def everything(scenario: Scenario) -> dict[str, Any]:
    """Return all but the lease's bucket, and the rest of a pause that ends by itself."""
    found = scenario.everything(lambda ref: not ref.startswith("KV_"))
    return {ref: {**info, "pause_remaining": None} for ref, info in found.items()}


def test_a_process_that_was_stopped_writes_nothing_when_it_goes_on(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    program = (
        f"import sys; from cyborg_infra.live import timing; vars(timing).update({LIFE})\n"
        "from cyborg_infra.cli.app import run_command_line; sys.exit(run_command_line(sys.argv[1:]))"
    )
    (tmp_path / "first.yaml").write_text(LARGE, encoding="utf-8")
    words = (sys.executable, "-c", program, "apply", "first.yaml", "--yes", "--no-context", "-s", server.url)
    with (
        Scenario(server.url, tmp_path) as scene,
        subprocess.Popen(
            words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stderr is not None
        process.stderr.readline()  # the first change is done
        process.send_signal(signal.SIGSTOP)
        wish = scene.request(SECOND, prune=True)
        assert provision.unlock(wish, scene.target)
        scene.converge(SECOND, prune=True)
        after = everything(scene)
        process.send_signal(signal.SIGCONT)
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 1
        assert "the lease of organisation g is no longer ours" in said
        assert after == everything(scene)


def test_an_apply_that_finds_the_lease_taken_changes_nothing(server: Any, tmp_path: Path) -> None:
    with Scenario(server.url, tmp_path) as scene:
        wish = scene.request(SMALL)
        plan = scene.plan(wish)

        async def hold() -> None:
            async with (
                open_connection(scene.target) as held,
                lease(JetStream(held, scene.target), wish.owner, wait=0),
            ):
                with pytest.raises(LeaseHeld):
                    await asyncio.to_thread(
                        provision.apply, provision.ApplyRequest(plan, lock_timeout=0), scene.target
                    )

        asyncio.run(hold())
        assert scene.refs() == ["KV_cyborg-infra"]
        assert provision.apply(provision.ApplyRequest(plan, lock_timeout=0), scene.target)
        assert not scene.plan(wish)


@pytest.mark.parametrize("different", [False, True], ids=["the same manifest", "different manifests"])
def test_of_eight_applies_at_once_the_state_is_what_one_of_them_asked_for(
    server: Any,
    tmp_path: Path,
    different: bool,  # noqa: FBT001 - pytest's
) -> None:
    """Never a mixture: whoever comes second waits for the lease, and finds its plan stale or nothing left to do."""
    manifests = []
    for number in range(8):
        minutes = number + 1 if different else 1
        text = f"org: g\nroles: [a, b, c]\nconsumers: {{worker: {{ack_wait: {minutes}h, max_waiting: {minutes}}}}}\n"
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        manifests.append(path)
    command = [
        sys.executable,
        "-m",
        "cyborg_infra",
        "apply",
        "--yes",
        "--lock-timeout",
        "2m",
        "-s",
        server.url,
    ]
    started = [
        subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for path in manifests
    ]
    ended = [(process.communicate()[0], process.returncode) for process in started]
    assert {code for _, code in ended} <= {0, 1}
    assert any(code == 0 for _, code in ended)
    assert [text for text, code in ended if code == 1 and "since the plan was made" not in text] == []
    target = provision.resolve(provision.Flags(server=server.url, no_context=True), {})
    assert [path for path in manifests if not provision.plan(provision.load_request(str(path)), target)]


BUCKET = {  # as nats-py and `nats kv add` make them
    "name": "KV_cyborg-infra",
    "subjects": ["$KV.cyborg-infra.>"],
    "max_msgs_per_subject": 1,
    "deny_delete": True,
    "allow_rollup_hdrs": True,
    "discard": "new",
    "retention": "limits",
    "storage": "file",
}
LEASE = b'{"holder": "colleague", "since": "a", "until": "b"}'


def _takes(scenario: Scenario, times: int = 2) -> None:
    async def take() -> None:
        async with open_connection(scenario.target) as connection:
            server = JetStream(connection, scenario.target)
            for _ in range(times):
                async with lease(server, "g", wait=0):
                    assert await read_holder(server, "g") is not None
                assert await read_holder(server, "g") is None
            assert await unlock(server, "g") is None

    asyncio.run(take())


@pytest.mark.parametrize("operation", ["DEL", "PURGE"])
def test_a_lease_that_was_deleted_as_a_key_is_held_by_nobody(operation: str, scenario: Scenario) -> None:
    _takes(scenario, 1)
    scenario.api.ask("$KV.cyborg-infra.g", LEASE)
    scenario.api.ask("$KV.cyborg-infra.g", headers={"KV-Operation": operation})
    _takes(scenario)


def test_whoever_may_still_write_is_waited_for_where_his_lease_was_deleted_as_a_key(
    scenario: Scenario, faults: Faults
) -> None:
    faults.waits(LEASE_LIFETIME_SECONDS=600, LEASE_VACANCY_SHARE=1 / 4)
    _takes(scenario, 1)
    scenario.api.ask("$KV.cyborg-infra.g", LEASE)
    scenario.api.ask("$KV.cyborg-infra.g", headers={"KV-Operation": "DEL"})

    async def seconds() -> float:
        async with open_connection(scenario.target) as connection:
            left = await leases._read_abandoned(JetStream(connection, scenario.target), "g")  # noqa: SLF001
            assert left is not None
            return left[1]

    assert 0 < asyncio.run(seconds()) <= timing.LEASE_VACANCY_SHARE * 600


@pytest.mark.parametrize(
    "record", [b"", b"hello", b"[]", b'{"holder": 5}', b"\xff", b"[" * 3000, b'{"holder": "a\x1b[2J"}']
)
def test_a_record_that_is_no_lease_is_held_by_somebody_until_it_is_freed(
    record: bytes, scenario: Scenario, faults: Faults
) -> None:
    """It may be one of a later version."""
    faults.waits(LEASE_LIFETIME_SECONDS=60)
    faults.waits(LEASE_VACANCY_SHARE=0.001)
    _takes(scenario, 1)
    scenario.api.ask("$KV.cyborg-infra.g", record)

    async def law() -> None:
        async with open_connection(scenario.target) as connection:
            server = JetStream(connection, scenario.target)
            with pytest.raises(
                LeaseHeld, match=r"is being applied to by somebody whose record is no lease since"
            ):
                async with lease(server, "g", wait=0):
                    pytest.fail("two holders")
            freed = await unlock(server, "g")
            assert freed is not None
            assert freed.holder == "somebody whose record is no lease"

    asyncio.run(law())
    _takes(scenario, 1)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"max_msgs_per_subject": 5},
        {"storage": "memory"},
        {"deny_delete": False, "max_msgs_per_subject": 64},
    ],
)
def test_a_bucket_that_somebody_else_has_made_serves(
    more: dict[str, Any], scenario: Scenario, faults: Faults
) -> None:
    """A lease in it is freed, and one that was abandoned ends, though its values are kept for ever."""
    faults.waits(LEASE_LIFETIME_SECONDS=0.2, LEASE_MAX_RENEWALS=20)
    scenario.ask("STREAM.CREATE.KV_cyborg-infra", BUCKET | more)
    _takes(scenario, 3)
    scenario.api.ask("$KV.cyborg-infra.g", LEASE)
    time.sleep(0.25)  # a lifetime here
    _takes(scenario)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"max_age": 500_000_000, "duplicate_window": 500_000_000}, "max_age"),
        ({"subjects": ["other.>"]}, "subjects"),
        ({"no_ack": True}, "no_ack"),
        ({"max_msg_size": 10}, "max_msg_size"),
        ({"retention": "interest"}, "retention"),
        ({"discard": "old", "max_msgs": 3}, "discard"),
    ],
)
def test_a_bucket_in_which_no_lease_holds_is_refused_with_the_way_out(
    more: dict[str, Any], named: str, scenario: Scenario
) -> None:
    scenario.ask("STREAM.CREATE.KV_cyborg-infra", BUCKET | more)
    with pytest.raises(LeaseHeld) as caught:
        _takes(scenario)
    (problem,) = caught.value.problems
    assert f"no lease holds with its {named}" in problem.message
    assert "nats stream rm KV_cyborg-infra" in str(problem.hint)
    scenario.ask("STREAM.DELETE.KV_cyborg-infra")
    _takes(scenario)
