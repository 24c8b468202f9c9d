"""Chaos: a living organisation is changed at random while agents work and things break; nothing may be lost.

A publisher with message ids and a worker for each role run all the time; workers refuse some tasks for now or for
good, work on some at length, and crash with some in hand. Random manifests are applied, roles come and go and get
other names, the tool dies at random steps or stands still, its clock is wrong, servers are killed and come back,
connections are cut.
In the end every acknowledged publish was worked on exactly once, or is a dead letter, or is still pending, and the
plan is empty.

Run at length: `make chaos`. The seed of a round is printed; `--seed` makes the same choices of manifests and faults
again, given the same options. Timing is the machine's: what a fault meets under way may be something else.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from cyborg_infra.live import timing
from cyborg_infra.model.changes import Action, Change, Hazard, HazardName
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.plan import Outcome, Plan, ResultStatus
from cyborg_infra.model.problems import CyborgError, PlanRefused, Problem
from cyborg_infra.model.server_versions import Version, forgets_updated_streams
from cyborg_infra.operations import provision
from tests.chaos.faults import Killed, Servers, broken, moment, skewed
from tests.chaos.ledger import ELECTION, Desk, Letters, Report, connected, stands_still, unaccounted
from tests.chaos.manifests import (
    MOST_GUESTS,
    Place,
    Step,
    Wish,
    changed,
    first,
    manifest,
    new_role,
    renamed,
    step,
    stream_of,
)
from tests.support.servers import NEWEST, OLDEST
from tests.support.traffic import eventually

DRAIN = 2.0  # seconds; shorter than ack_wait, so that some replaces give up and are tried again
LOCK = 15.0  # seconds to wait for another tool
STANDSTILL = 70.0  # seconds; longer than a lease lives, and than a pause outlives a drain
SKEWS = (0.0, 0.0, -7200.0, 7200.0)  # seconds that the tool's clock is ahead of the server's
ENDS = 20  # applies at most until the last manifest holds
PLANS = 5  # at most until one can be made; each waits for an election by itself
NAMES = {
    Action.CREATE: "created",
    Action.ADOPT: "adopted",
    Action.UPDATE: "updated",
    Action.DELETE: "deleted",
}


class ApplyResult(NamedTuple):
    """How an apply went: `succeeded` or what kept it from that. `kinds`: what its plan would change; `wrote`: it has made some of it."""

    wish: Wish
    kinds: frozenset[str]
    word: str
    problems: Sequence[Problem] = ()
    wrote: bool = False

    @property
    def succeeded(self) -> bool:
        return self.word == "held"


class Chaos:
    """One organisation, and what is done to it."""

    def __init__(self, seed: int, directory: Path, place: Place) -> None:
        self.place, self.seed = place, seed
        self._directory = directory
        self._files = itertools.count()
        self._wish = first()
        self._desks: dict[str, Desk] = {}
        self._left: list[Desk] = []  # of roles that are gone
        self._drained: set[str] = set()  # streams that may go: all they hold is accounted for
        kind = "servers are killed" if place.mortal else "no server is killed"
        where = f"{'a cluster of ' if place.replicas > 1 else ''}{place.version}"
        where += f", the tool's clock {place.skew:+g} s" if place.skew else ""
        self.report = Report(
            f"seed {seed} on {where}, {kind}", election=ELECTION if place.replicas > 1 else 0
        )

    def run(self, seconds: float) -> Report:
        """Return the report, after so many seconds of change, and a last apply without a fault."""

        def play() -> None:
            end = time.monotonic() + seconds
            for number in itertools.count():
                if time.monotonic() >= end:
                    break
                self._step(step(self.seed, number, self.place))

        return self._played(play)

    def follow(self, steps: Sequence[Step]) -> Report:
        """Return the report, after each of the steps has brought what it is to bring, however long that takes."""

        def play() -> None:
            for next_step in steps:
                self._insist(next_step)

        return self._played(play)

    def _played(self, play: Callable[[], None]) -> Report:
        with Servers(self.place, self._directory) as self.servers:
            self.report.crashes, self.report.emptied = self.servers.crashes, self.servers.emptied
            flags = provision.Flags(server=self.servers.urls, no_context=True, timeout="2s")
            self._target = provision.resolve(flags, {})
            self._connect = connected(self.servers.urls)
            self._letters = Letters(self._connect)
            with skewed(self.place.skew), contextlib.ExitStack() as self._staff:
                self._converge()
                play()
                self.servers.heal()
                self._converge()
                self._close()
        return self.report

    def _insist(self, next_step: Step) -> None:
        """A step, taken again until such a change was begun; each time it comes to its end, whatever breaks."""
        for _ in range(ENDS):
            self._begun = frozenset()
            self._step(next_step)
            begun = self._begun
            self._converge()
            if next_step.brings in begun:
                self.report.brought.add(next_step.brings)
                return
        self.report.faulty.append(f"{ENDS} times, and nothing {next_step.brings}")

    def _step(self, next_step: Step) -> None:
        """One deed, with its fault."""
        self._note(f"{next_step.deed}, {next_step.fault}")
        guests = [role for role in self._desks if role.startswith("guest")]
        if next_step.again and self._behind:
            self._disturbed(self._wish, next_step)
        elif next_step.deed == "add" and len(guests) < MOST_GUESTS:
            wish = copy.deepcopy(self._wish)
            wish["roles"][f"guest{next(self._files)}"] = new_role()
            self._disturbed(wish, next_step)
        elif next_step.deed == "remove" and guests:
            self._remove(guests[0], next_step)
        elif next_step.deed == "both":
            self._both(next_step)
        elif next_step.deed == "rename" and not self._behind:
            self._rename(next_step)
        else:
            self._disturbed(changed(self._wish, self.place, next_step.chance, next_step.brings), next_step)

    _behind = False  # whether the last apply was interrupted
    _begun: frozenset[str] = frozenset()  # the kinds of change in what is wished for now
    _deaf_since = 0.0  # when DEAD_LETTERS began to get another name, which it may not have yet

    def _disturbed(self, request: Wish, next_step: Step) -> ApplyResult:
        """Return one apply into which something breaks."""
        ended = self._apply(request, next_step)
        self._settle(ended)
        return ended

    def _settle(self, ended: ApplyResult) -> None:
        """What was begun is what is wished for now; who is in a wish that holds is at work."""
        self._note(f"so ended an apply: {ended.word} {[problem.message for problem in ended.problems]}")
        self.report.later.update([ended.word] if ended.word not in ("held", "refused") else [])
        if ended.word in (
            "tool killed",
            "not begun",
            "connection-lost",
            "lease",
        ):  # it would expire after a minute
            with mock.patch.object(timing, "LEASE_VACANCY_SHARE", 0):  # whoever had it is dead
                provision.unlock(self._wanted(ended.wish), self._target)
        if ended.word in ("refused", "not begun", "changed-meanwhile", "stale", "lease"):
            return
        self._wish, self._behind, self._begun = ended.wish, not ended.succeeded, ended.kinds
        if ended.succeeded:
            self._staff_of(ended.wish)

    def _staff_of(self, request: Wish) -> None:
        """Everybody in a wish that holds is at work under the present name, and nobody else."""
        before, self._desks = self._desks, {}
        for role, body in request["roles"].items():
            desk = before.pop(role, None) or before.pop(body.get("renamed_from", ""), None)
            if desk is None:
                desk = self._staff.enter_context(Desk(self.servers.urls, request, role))
            desk.moved(request, role)
            self._desks[role] = desk
        self._left += before.values()
        if self._deaf_since:
            self.report.deaf.append((self._deaf_since, time.monotonic()))
            self._deaf_since = 0.0

    def _rename(self, next_step: Step) -> None:
        """A role is called otherwise, or every stream is; or a role's former name is dropped, which its publisher knows."""
        wish = renamed(self._wish, next_step.chance, surely=bool(next_step.brings))
        for role, body in wish["roles"].items():
            before = role if role in self._desks else body["renamed_from"]
            self._desks[before].hire(stream_of(wish, role), role)
            if "renamed_from" not in body:
                self._desks[role].tell()
        prefix = self._wish["prefix"]
        if wish["prefix"] != prefix:
            self._deaf_since = time.monotonic()
        self._disturbed(wish, next_step)
        if self._wish["prefix"] == prefix:  # it was not begun, or concerns a role
            self._deaf_since = 0.0

    def _remove(self, role: str, next_step: Step) -> None:
        """A role goes: refused while messages wait, and allowed once all of them are accounted for."""
        wish = copy.deepcopy(self._wish)
        wish["roles"].pop(role, None)
        desk, start = self._desks[role], time.monotonic()
        ended = self._apply(wish)
        if ended.word == "refused":
            counted = [problem.code for problem in ended.problems]
            if not set(HazardName) & set(counted):
                self.report.faulty.append(f"removing {role} was refused for {counted}")
            desk.publisher.stop()
            if not eventually(lambda: not self._missing([desk]), 20):
                return  # its consumer waits for another apply
            self._drained.update(desk.streams)
            ended = self._apply(wish, next_step)
        self.report.deaf.append((start, time.monotonic()))
        self._settle(ended)

    def _both(self, next_step: Step) -> None:
        """Two tools at once: what is there afterwards is what one of them wanted, or has begun to make of what the other one did."""
        wishes = [changed(self._wish, self.place, next_step.chance) for _ in range(2)]
        ends: list[ApplyResult] = []
        threads = [
            threading.Thread(target=lambda wish=wish: ends.append(self._apply(wish))) for wish in wishes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.report.faults["two tools at once"] += 1
        held = [ended for ended in ends if ended.succeeded]
        half = [ended for ended in ends if ended.wrote and not ended.succeeded]
        if held and not half and all(self._holds(ended.wish) is False for ended in held):
            self.report.faulty.append("two tools at once left a mixture")
        for ended in [*(ended for ended in ends if not ended.succeeded), *held]:
            self._settle(ended)

    def _apply(self, request: Wish, next_step: Step | None = None) -> ApplyResult:
        """Return one apply. It may cost an event that nobody publishes, and repeat what it announces; messages never."""
        costly, kinds = False, frozenset[str]()
        try:
            wanted = self._wanted(request)
            plan = provision.plan(wanted, self._target)
            kinds = frozenset(map(_kind, plan.changes))
            self._announce(plan.changes)
            allowed = self._allowed(plan)
            costly = bool({hazard.name for hazard in plan.hazards} - set(allowed))
            with contextlib.ExitStack() as stack:
                if next_step:
                    crash = lambda: self.servers.crash(next_step.victim)  # noqa: E731
                    broken_at = broken(next_step, moment(next_step, plan), crash, self.place.standstill)
                    happened = stack.enter_context(broken_at)
                    stack.callback(lambda: self.report.faults.update([next_step.fault] if happened else []))
                self.report.applied += 1
                outcomes = provision.apply(
                    provision.ApplyRequest(
                        plan, allow=allowed, drain_timeout=DRAIN, lock_timeout=LOCK, on_outcome=self._tell
                    ),
                    self._target,
                )
        except Killed:
            return ApplyResult(request, kinds, "not begun" if costly else "tool killed")
        except PlanRefused as refused:
            self.report.applied -= 1
            self.report.refused += 1
            return ApplyResult(request, kinds, "refused", refused.problems)
        except CyborgError as error:
            return ApplyResult(
                request, kinds, "not begun" if costly else error.problems[0].code, error.problems
            )
        problems = [outcome.problem for outcome in outcomes if outcome.problem]
        wrote = any(outcome.status is not ResultStatus.NOT_REACHED for outcome in outcomes)
        return ApplyResult(request, kinds, problems[0].code if problems else "held", problems, wrote)

    def _wanted(self, request: Wish) -> provision.PlanRequest:
        path = self._directory / f"org{next(self._files)}.yaml"
        path.write_text(manifest(request, self.place), encoding="utf-8")
        return provision.load_request(str(path), prune=True)

    def _holds(self, request: Wish) -> bool | None:
        """Return whether the plan is empty; None, which is a fault, if none can be made, though asked for as often as anybody would."""
        for _ in range(PLANS):
            try:
                return not provision.plan(self._wanted(request), self._target)
            except CyborgError as error:
                self._note(f"no plan: {error}")
                problem = error
        self.report.faulty.append(f"{PLANS} times no plan could be made: {problem}")
        return None

    def _tell(self, outcome: Outcome) -> None:
        change = outcome.change
        self._note(f"{change.action} {change.ref} {outcome.status}: {outcome.problem or change.reason}")
        self._announce([change])
        if outcome.status is ResultStatus.SUCCEEDED:
            self.report.changes[_kind(change)] += 1

    def _note(self, what: str) -> None:
        self.report.log.append((time.monotonic(), what))

    def _announce(self, changes: Sequence[Change]) -> None:
        for change in changes:
            for hazard in change.hazards:
                if hazard.name is HazardName.REPEATS_WORK:
                    self.report.announced[change.ref.stream] += hazard.count

    def _allowed(self, plan: Plan) -> list[HazardName]:
        """Return what this plan may cost. A name is allowed for all of it, or not at all."""
        found = {hazard.name for hazard in plan.hazards}
        costly = {
            hazard.name
            for change in plan.changes
            for hazard in change.hazards
            if not self._is_accounted(change, hazard)
        }
        return sorted(found - costly)

    def _is_accounted(self, change: Change, hazard: Hazard) -> bool:
        """Return whether the books know already of all that it costs."""
        fields = {field.field for field in change.fields}
        match hazard.name:
            case HazardName.DELETES_MESSAGES:
                waited = change.preserves_messages or "no consumer waits" not in hazard.reason
                worked = (
                    "retention" in fields
                    and waited
                    and (change.preserves_messages or change.action is Action.UPDATE)
                )
                return worked or change.ref.stream in self._drained
            case HazardName.RESETS_PROGRESS:  # given up, and dead letters then
                return "max_deliver" in fields or change.ref.stream in self._drained
        return True

    def _converge(self) -> None:
        """The wish holds, and everybody in it is at work."""
        for _ in range(ENDS):
            ended = self._apply(self._wish)
            self._settle(ended)
            if ended.succeeded:
                break
        if self._holds(self._wish) is False:
            self.report.faulty.append(f"the last manifest does not hold: {ended.word}, {ended.problems}")

    def _missing(self, desks: Sequence[Desk]) -> set[str]:
        self._letters.read()
        return {name for desk in desks for name in unaccounted(desk, self._letters)}

    def _close(self) -> None:
        """Everybody goes home; what is pending then, others work off, to see that it was all there."""
        desks = list(self._desks.values())
        for desk in desks:
            desk.publisher.stop()
        for desk in desks:
            desk.dismiss()
        pending = self._missing(desks)
        for role, desk in self._desks.items():
            desk.moved(self._wish, role)
        eventually(lambda: not self._missing(desks), 300)  # ten thousand wait for a worker after a standstill
        for desk in desks:
            desk.dismiss()
        standing = {desk.role for desk in desks if stands_still(self._connect, desk)}
        self.report.audit([*desks, *self._left], self._letters, pending, standing)


def _kind(change: Change) -> str:
    """Return what the report calls it."""
    what = "stream" if change.ref.kind is Kind.STREAM else "consumer"
    replaced = f"{what} {'renamed' if change.current_ref != change.ref else 'replaced'}"
    return NAMES.get(change.action, replaced)


def place_of(seed: int, version: str = "", *, cluster: bool = False) -> Place:
    """Return where the round of a seed is played: the places take turns, a version and a cluster narrow them."""
    skew = random.Random(seed).choice(SKEWS)  # noqa: S311 - not for secrets

    def place(found: str, *, mortal: bool, replicas: int = 1) -> Place:
        return Place(found, mortal, replicas, STANDSTILL, skew)

    if cluster:
        clustered = place(version or NEWEST, mortal=True, replicas=3)
        return replace(clustered, mortal=not forgets_updated_streams(Version.parse(clustered.version)))
    versions = [version] if version else [NEWEST, OLDEST]
    single = [place(found, mortal=mortal) for mortal in (False, True) for found in versions]
    turns = single if version else [*single, place(NEWEST, mortal=True, replicas=3)]
    return turns[seed % len(turns)]


def main() -> None:
    """Run until the time is over; exits 1 at the first loss or repetition."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=600, help="in all")
    parser.add_argument("--round", type=float, default=30, help="seconds of one organisation")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; then one more each")
    parser.add_argument("--version", default="", help="of the server; else newest and oldest by turns")
    parser.add_argument(
        "--cluster", action="store_true", help="only; else single servers and a cluster by turns"
    )
    parser.add_argument(
        "--story", action="store_true", help="tell what happened in every round, not only in a bad one"
    )
    given = parser.parse_args()
    first_seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    end = time.monotonic() + given.seconds
    for seed in itertools.count(first_seed):
        if time.monotonic() >= end:
            break
        place = place_of(seed, given.version, cluster=given.cluster)
        with tempfile.TemporaryDirectory() as directory:
            chaos = Chaos(seed, Path(directory), place)
            sys.stdout.write(f"{chaos.report.title}: begins\n")
            sys.stdout.flush()
            try:
                report = chaos.run(given.round)
            except BaseException:
                sys.stdout.write(f"{chaos.report.story}\n{chaos.report.title}: ended by an error\n")
                raise
        sys.stdout.write(f"{report.story}\n{report}\n" if given.story else f"{report}\n")
        sys.stdout.flush()
        if not report.kept:
            sys.exit(f"{report.story}\n{report.failures}")
