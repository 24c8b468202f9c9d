"""The library, in a program that has an event loop, signal handlers and threads of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cyborg_infra
from cyborg_infra import Account, Outcome, Plan, ResultStatus
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.nats_client import OnMessage
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.interception import ApiRequest
from cyborg_infra.model.buckets import LEASE_BUCKET, bucket_stream
from tests.support.cli import SMALL, SMALL_COUNT
from tests.support.faults import Faults, Send
from tests.support.scenario import Scenario, published

ORG = cyborg_infra.loads(SMALL)
ONE = cyborg_infra.loads("org: acme\nroles: [cto]\n")
DONE = ResultStatus.SUCCEEDED


def run(url: str, law: Callable[[Account], Awaitable[None]]) -> None:
    """Run a function with an account, in an event loop that is the test's own."""

    async def main() -> None:
        async with cyborg_infra.connect(url) as account:
            await law(account)

    asyncio.run(main())


def process_state() -> list[Any]:
    """Return what belongs to the process that a library runs in, or to its event loop."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    logs = [(log.level, *log.filters, *log.handlers) for log in map(logging.getLogger, ("", "asyncio"))]
    return [*handlers, *logs, gc.isenabled(), gc.get_threshold(), threading.active_count()]


def test_plan_apply_and_status_go_by_one_connection_in_a_running_loop(any_server: EmbeddedServer) -> None:
    async def law(account: Account) -> None:
        plan, again = await asyncio.gather(account.plan(ORG), account.plan(ORG))
        assert plan == again
        assert len(plan.changes) == SMALL_COUNT
        heard = list[Outcome]()
        outcomes = await account.apply(plan, on_outcome=heard.append)
        assert heard == outcomes
        assert {outcome.status for outcome in outcomes} == {DONE}
        status, only = await asyncio.gather(account.status(ORG), account.status(ORG, roles=["cto"]))
        assert [role.name for role in status.roles] == ["cto", "backend"]
        assert [role.name for role in only.roles] == ["cto"]
        nothing = await account.plan(ORG)
        assert not nothing
        assert await account.apply(nothing) == []

    async def main() -> None:
        before = process_state()
        async with cyborg_infra.connect(any_server.url) as account:
            await law(account)
            assert process_state() == before
        assert process_state() == before

    asyncio.run(main())


def test_nothing_is_applied_that_is_not_allowed_stale_or_somebody_elses_turn(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    async def law(account: Account) -> None:
        await account.apply(await account.plan(ORG))
        with Scenario(server.url, tmp_path) as scene:
            published("acme.agents.backend.tasks", 1)(scene)
        plan = await account.plan(ONE, prune=True)
        with pytest.raises(cyborg_infra.PlanRefused, match="deletes-messages"):
            await account.apply(plan)
        with pytest.raises(ValueError, match="'delete-messages' is not a valid HazardName"):
            await account.apply(plan, allow={"delete-messages"})
        with pytest.raises(ValueError, match=r"allow=\['deletes-messages'\]"):  # not its letters
            await account.apply(plan, allow="deletes-messages")
        allowed = {hazard.name for hazard in plan.hazards}
        ends = await asyncio.gather(
            account.apply(plan, allow=allowed), account.apply(plan, allow=allowed), return_exceptions=True
        )
        (refused,) = [end for end in ends if isinstance(end, BaseException)]
        assert isinstance(refused, cyborg_infra.LeaseHeld)
        with pytest.raises(cyborg_infra.PlanStale, match=r"^the plan is stale"):  # nobody has saved it
            await account.apply(plan, allow=allowed)
        assert not await account.plan(ONE, prune=True)

    run(server.url, law)


@pytest.mark.parametrize("url", ["", " ", ","])
def test_an_empty_url_is_no_default_server(url: str) -> None:
    """It is a variable that is not set, and the default is somebody's own machine."""
    with pytest.raises(cyborg_infra.UsageInvalid, match="no URL in it"):
        asyncio.run(cyborg_infra.connect(url).__aenter__())


def test_an_account_is_of_its_block_and_of_its_event_loop(server: EmbeddedServer) -> None:
    """Elsewhere nobody would hear the answers: a call would wait for ever."""

    async def main() -> None:
        async with cyborg_infra.connect(server.url) as account:
            for call in (account.plan, account.status):
                with pytest.raises(RuntimeError, match="another event loop"):
                    await asyncio.to_thread(asyncio.run, call(ORG))
            plan = await account.plan(ORG)
            with pytest.raises(RuntimeError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, account.apply(plan))
            assert await asyncio.to_thread(cyborg_infra.plan, ORG, server.url) == plan
        with pytest.raises(RuntimeError, match=r"block of .* has ended"):
            await account.apply(plan)

    asyncio.run(main())


def test_an_argument_of_another_type_is_told_before_anything_is_done(server: EmbeddedServer) -> None:
    """Deep inside nobody knows what the caller has confused; and a wrong wait would fail in the middle of an apply."""
    plan: Any = cyborg_infra.plan
    with pytest.raises(TypeError, match="target is a URL, or what resolve returns, and not NoneType"):
        plan(ORG, None)

    async def law(account: Any) -> None:
        with pytest.raises(TypeError, match="org is what load and loads return, and not str"):
            await account.plan("org.yaml")
        with pytest.raises(TypeError, match="org is what load and loads return, and not str"):
            await account.status("org.yaml")
        with pytest.raises(ValueError, match=r"targets takes several names: targets=\['cto'\]"):
            await account.plan(ORG, targets="cto")
        with pytest.raises(ValueError, match=r"roles takes several names: roles=\['cto'\]"):
            await account.status(ORG, roles="cto")
        with pytest.raises(TypeError, match="plan is what plan returns, and not Org"):
            await account.apply(ORG)
        made = await account.plan(ORG)
        for parameter in ("drain_timeout", "lock_timeout"):
            with pytest.raises(TypeError, match=f"{parameter} is a number of seconds.* and not str"):
                await account.apply(made, **{parameter: "1m"})
        assert await account.plan(ORG) == made

    run(server.url, law)


def test_loops_in_threads_do_not_know_of_each_other(server: EmbeddedServer) -> None:
    orgs = [
        cyborg_infra.loads(f"org: o{number}\nnaming: {{stream_prefix: O{number}_}}\nroles: [cto]\n")
        for number in (1, 2)
    ]

    def converge(org: cyborg_infra.Org) -> Plan:
        cyborg_infra.apply(cyborg_infra.plan(org, server.url), server.url)
        assert cyborg_infra.status(org, server.url).roles
        return cyborg_infra.plan(org, server.url)

    with ThreadPoolExecutor(2) as threads:
        assert not any(threads.map(converge, orgs))


def test_a_plain_call_says_what_to_do_where_a_loop_runs(server: EmbeddedServer) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="use `async with cyborg_infra"):
            cyborg_infra.plan(ORG, server.url)

    asyncio.run(main())


class Held:
    """The first request that begins like this has been sent, and is answered only once it may be."""

    def __init__(self, verb: str, faults: Faults) -> None:
        self.asked, self.released = asyncio.Event(), asyncio.Event()

        async def call(request: ApiRequest, send: Send) -> dict[str, Any]:
            answer = await send(request)
            if request.verb.startswith(verb):
                self.asked.set()
                await self.released.wait()
            return answer

        faults.intercept(call)


@pytest.mark.parametrize("times", [1, 2])
def test_a_cancelled_apply_ends_in_order_and_the_next_one_goes_on(
    times: int, any_server: EmbeddedServer, faults: Faults
) -> None:
    async def law(account: Account) -> None:
        plan = await account.plan(ORG)
        held, heard = Held("STREAM.CREATE.AGENT_", faults), list[Outcome]()
        apply = asyncio.create_task(account.apply(plan, on_outcome=heard.append))
        await held.asked.wait()
        for _ in range(times):
            apply.cancel()
            await asyncio.sleep(0)
            assert not apply.done()  # a write is under way
        held.released.set()
        with pytest.raises(asyncio.CancelledError):
            await apply
        if times == 1:
            assert len(heard) == len(plan.changes)
            assert {outcome.status for outcome in heard} == {DONE, ResultStatus.NOT_REACHED}
        faults.undo()
        outcomes = await account.apply(await account.plan(ORG))  # the lease is free
        assert 0 < len(outcomes) < SMALL_COUNT
        assert {outcome.status for outcome in outcomes} == {DONE}
        assert not await account.plan(ORG)

    run(any_server.url, law)


def test_ctrl_c_in_a_plain_call_ends_it_in_order_and_the_next_one_goes_on(server: EmbeddedServer) -> None:
    handler, heard = signal.getsignal(signal.SIGINT), list[Outcome]()

    def interrupt(outcome: Outcome) -> None:
        if not heard:
            signal.raise_signal(signal.SIGINT)
        heard.append(outcome)

    plan = cyborg_infra.plan(ORG, server.url)
    with pytest.raises(KeyboardInterrupt):
        cyborg_infra.apply(plan, server.url, on_outcome=interrupt)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(heard) == len(plan.changes)
    assert {outcome.status for outcome in heard} == {DONE, ResultStatus.NOT_REACHED}
    cyborg_infra.apply(cyborg_infra.plan(ORG, server.url), server.url)
    assert not cyborg_infra.plan(ORG, server.url)


def test_an_apply_that_is_cancelled_while_it_waits_for_its_turn_ends_at_once(
    server: EmbeddedServer, faults: Faults
) -> None:
    async def law(account: Account) -> None:
        plan = await account.plan(ORG)
        writes = Held("STREAM.CREATE.AGENT_", faults)
        first = asyncio.create_task(account.apply(plan))
        await writes.asked.wait()
        reads = Held(f"STREAM.MSG.GET.{bucket_stream(LEASE_BUCKET)}", faults)
        second = asyncio.create_task(account.apply(plan, lock_timeout=600))
        await reads.asked.wait()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        reads.released.set()
        writes.released.set()
        assert {outcome.status for outcome in await first} == {DONE}

    run(server.url, law)


def test_a_listener_that_raises_ends_the_apply_in_order(server: EmbeddedServer, faults: Faults) -> None:
    """What is under way has ended before the lease is free, and nothing is written afterwards."""

    async def law(account: Account) -> None:
        heard = asyncio.Event()

        def fail(_outcome: Outcome) -> None:
            if held.asked.is_set():
                heard.set()
                raise ZeroDivisionError

        plan = await account.plan(ORG)
        held = Held("STREAM.CREATE.AGENT_CTO_TASKS", faults)
        apply = asyncio.create_task(account.apply(plan, on_outcome=fail))
        await heard.wait()
        for _ in range(3):
            await account.plan(ORG)
            assert not apply.done()
        held.released.set()
        with pytest.raises(ZeroDivisionError):
            await apply
        outcomes = await account.apply(await account.plan(ORG))
        assert {outcome.status for outcome in outcomes} == {DONE}
        assert not await account.plan(ORG)

    run(server.url, law)


def test_what_an_apply_listens_to_ends_with_it(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is used on, and what agents acknowledge would come by it for ever."""
    original, listening, heard = JetStream.subscribe, set[str](), set[str]()

    async def subscribe(js: JetStream, subject: str, on_message: OnMessage) -> Callable[[], Awaitable[None]]:
        end = await original(js, subject, on_message)
        listening.add(subject)
        heard.add(subject)

        async def ended() -> None:
            listening.discard(subject)
            await end()

        return ended

    async def law(account: Account) -> None:
        await account.apply(await account.plan(ORG))
        monkeypatch.setattr(JetStream, "subscribe", subscribe)
        plan = await account.plan(cyborg_infra.loads(SMALL + "streams: {tasks: {storage: memory}}\n"))
        outcomes = await account.apply(plan, allow=tuple(cyborg_infra.HazardName))
        assert {outcome.status for outcome in outcomes} == {DONE}
        assert heard
        assert not listening

    run(server.url, law)
