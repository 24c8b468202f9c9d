"""One server, what is on it before a plan, and the product's calls on it; reads and prepares with the raw client alone."""

from __future__ import annotations

import contextlib
import json
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.metadata_keys import START_KEY
from cyborg_infra.model.plan import Outcome, Plan, ResultStatus
from cyborg_infra.model.ref import REHEARSAL_PREFIX
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.operations import provision
from tests.support.nats_client import Api

MEMORY = "KV_cyborg-infra-applied"
AT_ONCE = 4  # a worker may have five, and one may be open already
PATIENCE = 60  # seconds
READ_REPEATS = 5
DRAIN = 0.2  # seconds; nobody in these tests acknowledges while a consumer waits for it
EVERY_HAZARD = tuple(HazardName)
READS = (
    "INFO",
    "STREAM.INFO.",
    "STREAM.LIST",
    "STREAM.NAMES",
    "STREAM.MSG.GET.",
    "CONSUMER.INFO.",
    "CONSUMER.LIST.",
)
# What a server leaves out of its answer, or fills in, for a field that says nothing.
SAYS_NOTHING: tuple[object, ...] = (None, "", 0, False, [], {}, "none", "default")


class Request(NamedTuple):
    """One request to the JetStream API: `STREAM.UPDATE.X` and its body."""

    verb: str
    body: Any

    @property
    def writes(self) -> bool:
        """Whether it may change anything for anybody: what is tried beside it is deleted at once."""
        return not self.verb.startswith(READS) and REHEARSAL_PREFIX not in self.verb


class Scenario:
    """A connection of our own to a server, and the way that the command line goes to it."""

    def __init__(self, url: str, directory: Path, *, answers_all: bool = True) -> None:
        """Open it. `answers_all`: a single server that is silent is only slow; one whose disk is full never answers some requests."""
        self.url = url
        self.api = Api(url)
        # In a cluster some answers never come, and then others are asked.
        patience = f"{PATIENCE}s" if answers_all and "cluster" not in self.api.info else ""
        flags = provision.Flags(server=url, no_context=True, timeout=patience)
        self.target = provision.resolve(flags, {})
        self.directory = directory

    def close(self) -> None:
        """The connection is closed."""
        self.api.close()

    def reconnect(self) -> None:
        """After a restart of the server."""
        self.close()
        self.api = Api(self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(
        self, manifest: str, env: str | None = None, *, prune: bool = False, targets: Sequence[str] = ()
    ) -> provision.PlanRequest:
        """Return what this manifest asks for, by way of a file."""
        path = self.directory / "org.yaml"
        path.write_text(manifest, encoding="utf-8")
        return provision.load_request(str(path), env, prune=prune, targets=targets)

    def plan(self, request: provision.PlanRequest) -> Plan:
        return provision.plan(request, self.target)

    def apply(
        self, request: provision.PlanRequest, plan: Plan | None = None, allow: Sequence[str] = EVERY_HAZARD
    ) -> list[Outcome]:
        return provision.apply(
            provision.ApplyRequest(plan or self.plan(request), allow=allow, drain_timeout=DRAIN), self.target
        )

    def converge(self, manifest: str, env: str | None = None, *, prune: bool = False) -> None:
        """The server holds what the manifest says; every change was done."""
        outcomes = self.apply(self.request(manifest, env, prune=prune))
        missed = [
            f"{each.change.ref}: {each.problem}"
            for each in outcomes
            if each.status is not ResultStatus.SUCCEEDED
        ]
        assert not missed, missed

    @contextlib.contextmanager
    def requests(self) -> Iterator[list[Request]]:
        """Return every request to the JetStream API of the account during the block, whoever made it; filled at its end.

        Without those that are about its memory.
        """
        collected: list[Request] = []
        subscription = self.api.subscribe("$JS.API.>")
        yield collected
        collected += [
            Request(message.subject.removeprefix("$JS.API."), json.loads(message.data or b"null"))
            for message in subscription.all()
            # The server makes requests as well, for sources and mirrors.
            if message.reply.startswith("_INBOX.") and not message.subject.endswith(MEMORY)
        ]

    def clear(self) -> None:
        """Every stream is deleted, and with it what it held.

        One that is deleted soon after another of its name may leave its files behind, and the next one of that name
        takes them up (2.10 to 2.15): so they are emptied first.
        """
        for name in self.ask("STREAM.NAMES")["streams"] or ():
            self.api.request(f"$JS.API.STREAM.PURGE.{name}")  # some may not be
            self.ask(f"STREAM.DELETE.{name}")

    def ask(self, verb: str, body: object = None) -> dict[str, Any]:
        """Return the answer to an API request that has to work.

        A cluster that elects a leader loses what it is asked meanwhile: what reads asks again.
        """
        repeats = READ_REPEATS if "cluster" in self.api.info and verb.startswith(READS) else 0
        for _ in range(repeats):
            with contextlib.suppress(queue.Empty):
                answer = self.api.request(f"$JS.API.{verb}", body)
                break
        else:
            answer = self.api.request(f"$JS.API.{verb}", body)
        assert "error" not in answer, answer
        return answer

    def info(self, ref: str) -> dict[str, Any]:
        """Return the server's own words on a stream, or a consumer as `STREAM/consumer`."""
        stream, _, consumer = ref.partition("/")
        return self.ask(f"CONSUMER.INFO.{stream}.{consumer}" if consumer else f"STREAM.INFO.{stream}")

    def config(self, ref: str) -> dict[str, Any]:
        """Return its configuration as the server holds it."""
        found: dict[str, Any] = self.info(ref)["config"]
        return found

    def refs(self) -> list[str]:
        """Return the names of everything in the account but its memory, which every apply writes to."""
        streams = [name for name in self.ask("STREAM.NAMES")["streams"] or () if name != MEMORY]
        consumers = [
            f"{stream}/{name}"
            for stream in streams
            for name in self.ask(f"CONSUMER.NAMES.{stream}")["consumers"] or ()
        ]
        return [*streams, *consumers]

    def everything(self, among: Callable[[str], bool] = lambda _: True) -> dict[str, Any]:
        """Return all that the server says of every stream and consumer, without the time at which it says so."""
        found = {ref: self.info(ref) for ref in self.refs() if among(ref)}
        return {
            ref: {key: value for key, value in info.items() if key not in ("ts", "type")}
            for ref, info in found.items()
        }

    def differences(self, desired: DesiredState) -> dict[str, tuple[object, object]]:
        """Return `ref field` -> (wanted, held) for every field that the server does not hold as wanted."""
        return {
            f"{ref} {name}": (wanted, held.get(name))
            for ref, resource in desired.resources.items()
            for held in [self.config(str(ref))]
            for name, wanted in resource.config.items()
            if not _elsewhere(name, held) and _plain(name, wanted) != _plain(name, held.get(name))
        }


def _elsewhere(name: str, held: Mapping[str, Any]) -> bool:
    """Return whether the field says something else than the wish by design.

    A mirror answers reads as its origin does; and before 2.14 a replaced consumer starts where the old one stood,
    with a note of the start that was asked for.
    """
    start = name in ("deliver_policy", "opt_start_seq", "opt_start_time")
    return (name == "mirror_direct" and "mirror" in held) or (start and START_KEY in held["metadata"])


def _plain(name: str, value: Any) -> Any:
    """Return a value without what means nothing: order of sets, members that are empty, the server's own labels."""
    if name in ("subjects", "filter_subjects"):
        return sorted(value or ()) or None
    if name == "metadata":
        written = ("_nats.", START_KEY)
        return {key: text for key, text in (value or {}).items() if not key.startswith(written)}
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if item not in SAYS_NOTHING} or None
    return None if value in SAYS_NOTHING else value


Step = Callable[[Scenario], object]
"""Something that happened before the plan."""


def after_apply(manifest: str, env: str | None = None) -> Step:
    """Return an earlier apply of ours."""
    return lambda scene: scene.converge(manifest, env)


def stream(name: str, *subjects: str, **config: object) -> Step:
    """Made by hand."""
    body = {"name": name, "subjects": list(subjects), "retention": "limits", "storage": "file"} | config
    return lambda scene: scene.ask(f"STREAM.CREATE.{name}", body)


def consumer(ref: str, **config: object) -> Step:
    """Made by hand: durable, pull, explicit acknowledgement."""
    where, _, name = ref.partition("/")
    body = {"name": name, "durable_name": name, "ack_policy": "explicit"} | config
    return lambda scene: scene.ask(
        f"CONSUMER.CREATE.{where}.{name}", {"stream_name": where, "config": body, "action": "create"}
    )


def changed(ref: str, **fields: object) -> Step:
    """Changed by hand, the other fields as they were; None takes a field away."""

    def step(scenario: Scenario) -> None:
        config = {name: value for name, value in (scenario.config(ref) | fields).items() if value is not None}
        where, _, name = ref.partition("/")
        if name:
            body = {"stream_name": where, "config": config, "action": "update"}
            scenario.ask(f"CONSUMER.CREATE.{where}.{name}", body)
        else:
            scenario.ask(f"STREAM.UPDATE.{where}", config)

    return step


def with_metadata(ref: str, **labels: str | None) -> Step:
    """Return its marks of ownership changed by hand; None takes one away."""

    def step(scenario: Scenario) -> None:
        old: Mapping[str, str] = scenario.config(ref).get("metadata") or {}
        new = {**old, **{f"cyborg-infra.{key}": text for key, text in labels.items()}}
        changed(ref, metadata={key: text for key, text in new.items() if text is not None})(scenario)

    return step


def deleted(ref: str) -> Step:
    """Deleted by hand."""
    where, _, name = ref.partition("/")
    verb = f"CONSUMER.DELETE.{where}.{name}" if name else f"STREAM.DELETE.{where}"
    return lambda scene: scene.ask(verb)


def published(subject: str, count: int, size: int = 100) -> Step:
    """Return messages stored, each acknowledged."""

    def step(scenario: Scenario) -> None:
        for _ in range(count):
            assert "seq" in scenario.api.ask(subject, b"x" * size).json

    return step


def fetched(ref: str, count: int) -> Step:
    """Return messages handed out to a worker that says nothing about them."""
    return lambda scene: _pull(scene, ref, count)


def acked(ref: str, count: int) -> Step:
    """Return messages handed out and acknowledged, no more at once than a worker may have."""

    def step(scenario: Scenario) -> None:
        for done in range(0, count, AT_ONCE):
            for reply in _pull(scenario, ref, min(AT_ONCE, count - done)):
                scenario.api.ask(reply, b"+ACK")

    return step


def nacked(ref: str, count: int) -> Step:
    """Return messages handed out and refused, so that they come again at once."""

    def step(scenario: Scenario) -> None:
        for reply in _pull(scenario, ref, count):
            scenario.api.ask(reply, b"-NAK")

    return step


def _pull(scenario: Scenario, ref: str, count: int) -> list[str]:
    where, _, name = ref.partition("/")
    inbox = scenario.api.subscribe(f"pulled.{where}.{name}.{count}")
    body = json.dumps({"batch": count, "expires": 5_000_000_000}).encode()
    scenario.api.publish(f"$JS.API.CONSUMER.MSG.NEXT.{where}.{name}", body, reply=inbox.subject)
    return [inbox.next().reply for _ in range(count)]
