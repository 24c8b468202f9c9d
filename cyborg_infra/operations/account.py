"""The library: plan, apply and status of an account, by one connection; `cyborg_infra` hands these names out.

Nothing here changes the process that it runs in: no signal handler, no setting of the garbage collector, no log.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import TypedDict, TypeVar, Unpack

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.live.api.jetstream import JetStream, connect_account
from cyborg_infra.live.connection.target import Flags, Target, resolve
from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.plan import Outcome, Plan, PlanRequest
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.status import OrgStatus
from cyborg_infra.operations import provision
from cyborg_infra.operations import status as statuses

_Result = TypeVar("_Result")


class ApplyKeywords(TypedDict, total=False):
    """The keyword arguments of `Account.apply`."""

    allow: Collection[str]
    drain_timeout: float
    lock_timeout: float | None
    on_outcome: Callable[[Outcome], None]
    on_wait: Callable[[str], None]
    on_warning: Callable[[str], None]


class Account:
    """The JetStream of one account, as `connect` gives it. Any number of calls, one after the other or at once.

    It is of the event loop and of the `async with` block that it was made in: elsewhere its calls raise RuntimeError.
    """

    def __init__(self, server: JetStream) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._is_closed = False

    def _connection(self) -> JetStream:
        """Return the open connection. Raises RuntimeError once it is closed, and in another event loop, which would hear no answers."""
        if self._is_closed:
            raise RuntimeError(
                "the connection is closed: its block of `async with cyborg_infra.connect` has ended"
            )
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "the account is of another event loop: use `cyborg_infra.connect` in this one as well"
            )
        return self._server

    async def plan(self, org: Org, *, prune: bool = False, targets: Sequence[str] = ()) -> Plan:
        """Return the plan from what the account holds now to what the organisation wants. Writes nothing.

        `prune` deletes what the organisation owns and its manifest no longer has. `targets` are roles: the plan is of
        these alone.

        Raises:
            UsageInvalid: there is no such role.
            ServerFault: the server did not do what was asked.
            SnapshotIncomplete: the account could not be read to the end.
        """
        _expect("org", org, Org, "what load and loads return")
        _expect_names("targets", targets)
        return await provision.plan_on(
            self._connection(), PlanRequest(org.name, expand(org), org, None, prune, tuple(targets))
        )

    async def apply(
        self,
        plan: Plan,
        *,
        allow: Collection[str] = (),
        drain_timeout: float = 60.0,
        lock_timeout: float | None = 0.0,
        on_outcome: Callable[[Outcome], None] = lambda _: None,
        on_wait: Callable[[str], None] = lambda _: None,
        on_warning: Callable[[str], None] = lambda _: None,
    ) -> list[Outcome]:
        """Apply a plan that `plan` has made. Returns one outcome per change, as they read back at the end.

        A change that fails is an outcome and raises nothing. Cancelled before anything is written, it ends at once;
        later what is under way finishes, nothing else starts, and then it raises CancelledError: the next plan goes on.
        A second cancellation does not wait for others either.

        Args:
            plan: The plan; nobody may have changed what it is about.
            allow: The hazards to accept, by their names.
            drain_timeout: Seconds to wait at most for the agents that work on the messages of a consumer to be replaced.
            lock_timeout: Seconds to wait for somebody else's apply of this organisation; None takes no lease.
            on_outcome: Hears of each change as it ends; what is read back later may still fail it.
            on_wait: Hears in words of what takes long.
            on_warning: Hears in words if the account cannot remember that it was applied.

        Raises:
            ValueError: a name in `allow` is no hazard's, or the plan is not from `plan`.
            PlanRefused: it cannot be done, or has a hazard that is not allowed. Nothing was written.
            PlanStale: the account is no longer as it was planned for. Nothing was written.
            LeaseHeld: somebody else applies. Nothing was written.
            LeaseLost: somebody took the lease away; of a change that is under way it is the outcome's problem.
            ServerFault: the server did not do what was asked.
            SnapshotIncomplete: the account could not be read to the end. Nothing was written.
        """
        _expect("plan", plan, Plan, "what plan returns")
        _expect("drain_timeout", drain_timeout, (int, float), "a number of seconds")
        _expect("lock_timeout", lock_timeout, (int, float, types.NoneType), "a number of seconds, or None")
        _expect_names("allow", allow)
        request = provision.ApplyRequest(
            plan,
            allow={HazardName(name) for name in allow},
            drain_timeout=drain_timeout,
            lock_timeout=lock_timeout,
            on_outcome=on_outcome,
            on_wait=on_wait,
            on_warning=on_warning,
        )
        if not plan and not provision.needs_record(plan):
            return []
        interrupt = provision.Interrupt()
        work = asyncio.create_task(provision.apply_on(self._connection(), request, interrupt))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not interrupt.request():
                work.cancel()
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError:
                work.cancel()
                await asyncio.wait([work])
            if not work.cancelled():
                work.exception()  # else Python says that nobody has asked
            raise

    async def status(self, org: Org, *, roles: Sequence[str] = ()) -> OrgStatus:
        """Return how the organisation is doing now, or these of its roles. Writes nothing.

        Raises:
            UsageInvalid: it has no such role.
            ServerFault: the account cannot be read.
        """
        _expect("org", org, Org, "what load and loads return")
        _expect_names("roles", roles)
        return await statuses.status_on(self._connection(), statuses.status_request(org, org.alerts, roles))


@contextlib.asynccontextmanager
async def connect(target: Target | str) -> AsyncIterator[Account]:
    """Connect to the account behind a target, or behind a URL and nothing else, for the time of the block.

    A connection that is lost is made anew by the next call.

    Raises:
        ConnectFailed: no server takes us.
        UsageInvalid: it is no URL; an empty one is not the default server.
    """
    if isinstance(target, str) and not target.strip():
        raise UsageInvalid(
            Problem("bad-url", "the target has no URL in it", None, "give one, such as nats://localhost:4222")
        )
    _expect("target", target, (str, Target), "a URL, or what resolve returns")
    where = resolve(Flags(server=target, no_context=True), {}) if isinstance(target, str) else target
    async with connect_account(where) as server:
        account = Account(server)
        try:
            yield account
        finally:
            account._is_closed = True  # noqa: SLF001 - the block is part of the class


def _expect(parameter: str, value: object, expected: type | tuple[type, ...], meaning: str) -> None:
    """Raise TypeError for an argument of another type, rather than fail over it deep inside or in the middle of an apply."""
    if not isinstance(value, expected):
        raise TypeError(f"{parameter} is {meaning}, and not {value.__class__.__qualname__}")


def _expect_names(parameter: str, names: Collection[str]) -> None:
    """Raise ValueError for one name where several are taken: it would be taken for its letters."""
    if isinstance(names, str):
        raise ValueError(f"{parameter} takes several names: {parameter}={[names]!r}")  # noqa: TRY004 - as for a wrong name


def plan(org: Org, target: Target | str, *, prune: bool = False, targets: Sequence[str] = ()) -> Plan:
    """Plan as `Account.plan` does, by a connection of its own, where no event loop runs.

    Raises:
        ConnectFailed: no server takes us; and what `Account.plan` raises.
    """
    return _run(target, lambda account: account.plan(org, prune=prune, targets=targets))


def apply(plan: Plan, target: Target | str, **keywords: Unpack[ApplyKeywords]) -> list[Outcome]:
    """Apply as `Account.apply`, by a connection of its own, where no event loop runs. Ctrl-C is a cancellation.

    It takes the same keyword arguments: `allow`, `drain_timeout`, `lock_timeout`, `on_outcome`, `on_wait` and `on_warning`.

    Raises:
        ConnectFailed: no server takes us; and what `Account.apply` raises.
    """
    return _run(target, lambda account: account.apply(plan, **keywords))


def status(org: Org, target: Target | str, *, roles: Sequence[str] = ()) -> OrgStatus:
    """Return the status as `Account.status` does, by a connection of its own, where no event loop runs.

    Raises:
        ConnectFailed: no server takes us; and what `Account.status` raises.
    """
    return _run(target, lambda account: account.status(org, roles=roles))


def _run(target: Target | str, call: Callable[[Account], Awaitable[_Result]]) -> _Result:

    async def main() -> _Result:
        async with connect(target) as account:
            return await call(account)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    raise RuntimeError("an event loop is running: use `async with cyborg_infra.connect(target) as account`")
