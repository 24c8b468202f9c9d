"""Predictions: what `validate` and `plan` say that a server takes is what it takes, refuses and keeps; drawn cases.

Each case is one to three settings of a role's tasks and worker, wanted one after the other. For each, three things
have to agree with a real server: what we call applicable, it takes; what we refuse, it refuses, but for the few codes
that are our own (`core.desired.rules.OWN_RULES`); and what it has taken needs no further change.

Run at length: `make fuzz`. The seed is printed; `--seed` makes the same cases again, `--case N` one of them alone.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from cyborg_infra.core.desired.expand import expand, expand_unchecked
from cyborg_infra.core.desired.rules import OWN_RULES
from cyborg_infra.core.planning.diff import diff
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.live.api import decode
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.execute.change import merge_config
from cyborg_infra.manifest.field_values import from_wire
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.changes import Action, Change
from cyborg_infra.model.channels import ConsumerKind, StreamKind
from cyborg_infra.model.constraints import CONSTRAINTS, Constraint, ServerContext, full_config, violations
from cyborg_infra.model.fields import FIELDS, Config, Kind
from cyborg_infra.model.organisation import Org, Overrides, Role
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.problems import ManifestInvalid, Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, LiveResource, LiveState, Resource
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import Version, level_of
from tests.predictions.cases import (
    BASE,
    ORG,
    ORIGINS,
    SECTIONS,
    Case,
    Draw,
    Setting,
    role_of,
    smaller,
    stream_of,
)
from tests.support.scenario import Scenario
from tests.support.servers import NEWEST, OLDEST, server_binary

STORE = "jetstream: {{store_dir: {}, max_file_store: 1000TB, max_memory_store: 1000TB}}"
"""So much that no drawn size is too large: how much a server has, it does not tell."""


ALL = (OLDEST, "2.11.11", "2.12.8", "2.12.12", "2.14.6", NEWEST)
"""Versions of which no two hold the same rules."""
ENOUGH = 5000  # so many cases break every rule
IGNORED = "changes nothing"
"""In a reason for a replace: an update would be answered with OK."""


class Miss(NamedTuple):
    """A case that we were wrong about."""

    case: Case
    number: int
    why: str

    def __str__(self) -> str:
        manifests = "\n".join(f"  {manifest(self.number, setting)}" for setting in self.case)
        return f"case {self.number}: {self.why}\n{manifests}"


class Tally(NamedTuple):
    """How many settings were tried, and how they ended."""

    taken: int = 0
    refused: int = 0
    ours: int = 0

    def plus(self, word: str) -> Tally:
        return self._replace(**{word: getattr(self, word) + 1})


class Wrong(Exception):
    """A prediction that does not hold."""


def manifest(number: int, setting: Setting) -> str:
    """Return the manifest of one setting, in JSON, which YAML is."""
    role = {
        SECTIONS[kind]: {name: from_wire(FIELDS[kind][name], value) for name, value in fields.items()}
        for kind, fields in setting.items()
        if fields
    }
    return json.dumps({"org": ORG, "roles": {role_of(number): role}}, ensure_ascii=False)


def by_hand(number: int, setting: Setting) -> Org:
    """Return the same organisation, whatever a manifest's form has against it."""
    role = role_of(number)
    layer = Overrides(
        roles={
            role: {
                StreamKind.TASKS: setting[Kind.STREAM],
                ConsumerKind.WORKER: setting[Kind.CONSUMER],
            }
        }
    )
    return Org(name=ORG, roles=(Role(role),), layers=(layer,))


def refs(number: int) -> tuple[Ref, Ref]:
    """Return the stream and the consumer of a case."""
    return Ref(stream_of(number)), Ref(stream_of(number), f"{role_of(number)}-worker")


class Bench:
    """A server of one version with a small organisation on it, on which cases are tried under names of their own."""

    def __init__(self, version: str, directory: Path) -> None:
        self.version = Version.parse(version)
        store = STORE.format(json.dumps(str(directory / version / "store")))
        self._server = EmbeddedServer(
            directory / version, config=store, jetstream=False, binary=server_binary(version)
        ).start()
        try:
            self.scene = Scenario(self._server.url, directory)
            self._around, self.facts = self._furnished()
        except BaseException:
            self._server.kill()
            raise

    def _furnished(self) -> tuple[LiveState, ServerInfo]:
        """Return what is there for all cases."""
        for name, config in ORIGINS.items():
            self.scene.ask(f"STREAM.CREATE.{name}", {"name": name, **config})
        manifest = json.dumps({"org": ORG, "roles": [BASE]})
        self.scene.converge(manifest)
        found = self.scene.plan(self.scene.request(manifest)).live
        assert found is not None
        assert found.server_info is not None
        return found, found.server_info

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.scene.close()
        self._server.kill()

    @property
    def level(self) -> int:
        return level_of(self.version)

    def wrong(self, case: Case, number: int) -> str | None:
        """Return what we were wrong about, in words; None if all was as predicted."""
        try:
            for _ in self.tried(case, number):
                pass
        except Wrong as found:
            return str(found)
        return None

    def tried(self, case: Case, number: int) -> Iterator[str]:
        """Yield how each setting ended: taken, refused, ours. Raises Wrong for what was not as predicted."""
        try:
            for setting in case:
                yield self._tried(setting, number)
        finally:
            self._request(f"STREAM.DELETE.{stream_of(number)}")

    def _tried(self, setting: Setting, number: int) -> str:
        live = self._live(number)
        plan, problems = self._predicted(setting, number, live)
        if plan is not None and not problems:
            for change in self._own(plan, number):
                self._do(change)
            self._settled(setting, number)
            return "taken"
        if all(problem.code in OWN_RULES for problem in problems):
            return "ours"
        draft = expand_unchecked(by_hand(number, setting), self.level)
        took = [self._takes(draft.resources[ref], live) for ref in refs(number)]
        if all(took):
            told = "; ".join(f"[{problem.code}] {problem}" for problem in problems)
            raise Wrong(f"refused by us, and taken by {self.version}: {told}")
        return "refused"

    def _predicted(self, setting: Setting, number: int, live: LiveState) -> tuple[Plan | None, list[Problem]]:
        """Return the plan, or none; and all that we have against it."""
        try:
            org = loads(manifest(number, setting))
            desired = expand(org, self.level)
        except ManifestInvalid as error:
            return None, list(error.problems)
        plan = make_plan(live, desired, owner=ORG, org=org)
        own = [problem for change in self._own(plan, number) for problem in change.problems]
        return plan, [*own, *plan.problems]

    def _settled(self, setting: Setting, number: int) -> None:
        """Nothing is left to do, and nothing to say against it."""
        plan, problems = self._predicted(setting, number, self._live(number))
        assert plan is not None
        if problems:
            raise Wrong(f"taken by {self.version}, and refused by us after that: {problems}")
        for change in self._own(plan, number):
            raise Wrong(
                f"{self.version} has taken it, and {change.ref} is still to be changed: {change.fields}"
            )

    def _do(self, change: Change) -> None:
        """One change of a plan, as apply does it, but at once."""
        after = change.after
        assert after is not None
        if change.action is Action.REPLACE:
            assert change.before is not None
            forced = [field for field in change.fields if field.reason and IGNORED not in field.reason]
            if forced and self._holds(self._update(change.before, after), after):
                raise Wrong(
                    f"{change.ref} need not be replaced for {forced}: {self.version} changes it in place"
                )
            self._delete(change.ref)
        update = change.action in (Action.UPDATE, Action.ADOPT) and change.before is not None
        answer = self._update(change.before, after) if update and change.before else self._create(after)
        if "error" in answer:
            raise Wrong(
                f"planned as {change.action} of {change.ref}, and refused by {self.version}: {answer['error']}"
            )
        if not self._holds(answer, after):
            held = LiveResource(after.ref, answer["config"])
            fields = diff(held, after, self.version)
            raise Wrong(
                f"planned as {change.action} of {change.ref}, and {self.version} did not keep {fields}"
            )

    def _takes(self, wanted: DesiredResource, live: LiveState) -> bool:
        """Return whether the server takes and keeps it, in place or, where that needs it, anew."""
        before = live.resources.get(wanted.ref)
        if before is not None:
            reasons = [field.reason for field in diff(before, wanted, self.version) if field.reason]
            taken = self._holds(self._update(before, wanted), wanted)
            if not any(IGNORED in reason for reason in reasons) and (taken or not reasons):
                return taken
            self._delete(wanted.ref)
        return self._holds(self._create(wanted), wanted)

    def _holds(self, answer: Config, wanted: Resource) -> bool:
        return (
            "error" not in answer
            and Resource(wanted.ref, answer["config"]).normalised() == wanted.normalised()
        )

    def _create(self, wanted: Resource) -> Config:
        return self._put("CREATE", "create", wanted, wanted.config)

    def _update(self, before: Resource, wanted: Resource) -> Config:
        return self._put(
            "UPDATE", "update", wanted, merge_config(wanted.ref.kind, before.config, wanted.config)
        )

    def _put(self, verb: str, action: str, wanted: Resource, config: Config) -> Config:
        stream, consumer = wanted.ref
        if not consumer:
            return self._request(f"STREAM.{verb}.{stream}", config)
        body = {"stream_name": stream, "config": config, "action": action}
        return self._request(f"CONSUMER.CREATE.{stream}.{consumer}", body)

    def _delete(self, ref: Ref) -> None:
        self._request(
            f"CONSUMER.DELETE.{ref.stream}.{ref.consumer}" if ref.consumer else f"STREAM.DELETE.{ref}"
        )

    def _request(self, verb: str, body: object = None) -> Config:
        return self.scene.api.request(f"$JS.API.{verb}", body)

    def _own(self, plan: Plan, number: int) -> list[Change]:
        return [change for change in plan.changes if change.ref.stream == stream_of(number)]

    def _live(self, number: int) -> LiveState:
        """Return what is there: the organisation around, and of this case what the server says."""
        found = dict(self._around.resources)
        for ref in refs(number):
            verb = f"CONSUMER.INFO.{ref.stream}.{ref.consumer}" if ref.consumer else f"STREAM.INFO.{ref}"
            answer = self._request(verb)
            if "error" not in answer:
                found[ref] = decode.decode_resource(ref, answer)
        return LiveState(found, self.facts)


def shrunk(bench: Bench, miss: Miss) -> Miss:
    """Return the smallest case near it that we are wrong about as well."""
    while True:
        for case in smaller(miss.case):
            if why := bench.wrong(case, miss.number):
                miss = Miss(case, miss.number, why)
                break
        else:
            return miss


def misses(bench: Bench, seed: int, numbers: Iterator[int] | range) -> Iterator[Miss | Tally]:
    """Yield every case that we are wrong about, shrunk; the tally at the end."""
    tally = Tally()
    for number in numbers:
        case = Draw(seed, number).case()
        try:
            for word in bench.tried(case, number):
                tally = tally.plus(word)
        except Wrong as found:
            yield shrunk(bench, Miss(case, number, str(found)))
    yield tally


def unbroken(seed: int, numbers: range) -> list[Constraint]:
    """Return the rules that no setting of these cases breaks on any of the versions: they would be believed untried."""
    broken = set[Constraint]()
    streams = {name: full_config(Resource(Ref(name), config)) for name, config in ORIGINS.items()}
    for number in numbers:
        for setting in Draw(seed, number).case():
            state = expand_unchecked(by_hand(number, setting))
            stream, worker = (state.resources[ref] for ref in refs(number))
            for version in map(Version.parse, ALL):
                broken |= {
                    found.rule
                    for found in violations(stream, ServerContext(None, streams), version, new=True)
                }
                broken |= {
                    found.rule for found in violations(worker, ServerContext(stream, streams), version)
                }
    return [row for row in CONSTRAINTS if row not in broken and row.fields != ("name",)]


def say(text: str) -> None:
    """On the terminal, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Return the exit code: 0 if every prediction held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--servers", default=f"{NEWEST},{OLDEST}")
    parser.add_argument("--between", default="", help="versions besides the newest and the oldest")
    parser.add_argument("--most", type=int, default=10, help="stop after so many that do not hold")
    options = parser.parse_args(arguments)
    numbers = range(options.cases) if options.case is None else range(options.case, options.case + 1)
    wrong = 0
    for version in filter(None, f"{options.servers},{options.between}".split(",")):
        say(f"{version}: {len(numbers)} cases, --seed {options.seed}")
        began, here = time.monotonic(), 0
        with tempfile.TemporaryDirectory() as directory, Bench(version, Path(directory)) as bench:
            for found in misses(bench, options.seed, numbers):
                say(f"{version}: {found}")
                here += isinstance(found, Miss)
                if here >= options.most:
                    break
        say(f"{version}: {here} mispredicted, {time.monotonic() - began:.0f} s")
        wrong += here
    for row in unbroken(options.seed, numbers) if len(numbers) >= ENOUGH else ():
        say(f"no case breaks this rule: {row.says} ({row.error})")
        wrong += 1
    return 1 if wrong else 0
