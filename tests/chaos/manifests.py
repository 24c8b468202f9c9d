"""What chaos wishes for: a random walk of manifests and of faults, drawn from a seed alone."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass, replace
from typing import Any

ORG = "chaos"
ROLES = ("ceo", "cto", "dev")
MOST_GUESTS = 2
PREFIX = "P_"  # that the streams get, and lose again

Wish = dict[str, Any]
Knobs = dict[str, list[Any]]

STREAM_IN_PLACE: Knobs = {  # field -> its values, the default first
    "max_age": ["72h", "1h", "24h"],
    "max_msgs": [-1, 1_000_000],
    "compression": ["none", "s2"],
    "allow_direct": [True, False],
    "duplicate_window": ["2m", "5m"],
    "discard": ["old", "new"],
    "description": ["", "what is to be done"],
}
STREAM_REPLACED: Knobs = {
    "retention": ["limits", "workqueue", "interest"],
    "deny_delete": [False, True],
    "deny_purge": [False, True],
}
LOST_WITH_ITS_SERVER: Knobs = {"storage": ["file", "memory"]}
ACKNOWLEDGED_BEFORE_IT_IS_WRITTEN: Knobs = {"persist_mode": ["default", "async"]}  # one copy only, in files
WORKER_IN_PLACE: Knobs = {
    "ack_wait": ["3s", "4s", "5s"],
    "max_ack_pending": [100, 5, 20],
    "description": ["", "works", "thinks"],
}
WORKER_REPLACED: Knobs = {"max_waiting": [512, 64, 128]}
SURELY_REPLACED: Knobs = {"retention": ["limits", "workqueue"]}  # the others may be changed in place one way
PATIENCE: Knobs = {"max_deliver": [4, 3, 5]}  # lowered, it gives up what was tried so often already

PROMOTES_MIRRORS = (2, 12, 0)  # before, a stream that has messages cannot be replaced
LOSES_TTL = (2, 11, 2)
TELLS_OF_LOWERED_MAX_DELIVER = (2, 15, 1)  # before, the plan notes that such messages become no dead letters

FAULTS = ("tool killed", "server killed", "connection cut", "reply lost")
STANDSTILL = "tool stands still"


@dataclass(frozen=True)
class Place:
    """Where the organisation lives, and so what may be wished for there."""

    version: str
    mortal: bool  # servers are killed: nothing may be in memory alone
    replicas: int = 1
    standstill: float = 0.0  # seconds that the tool stands still, where that is one of the faults
    skew: float = 0.0  # seconds that its clock is ahead of the server's

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.split(".")))

    @property
    def faults(self) -> tuple[str, ...]:
        """What may break here."""
        found = tuple(fault for fault in FAULTS if self.mortal or fault != "server killed")
        return (*found, STANDSTILL) if self.standstill else found

    @property
    def stream_replaced(self) -> Knobs:
        """Settings of a stream that are changed by a new stream, with their values."""
        gentle = {} if self.mortal else LOST_WITH_ITS_SERVER
        if self.number >= PROMOTES_MIRRORS and not self.mortal and self.replicas == 1:
            gentle = gentle | ACKNOWLEDGED_BEFORE_IT_IS_WRITTEN
        if self.number >= LOSES_TTL:
            gentle = gentle | {"allow_msg_ttl": [False, True]}
        return STREAM_REPLACED | gentle

    @property
    def worker_in_place(self) -> Knobs:
        """Settings of a worker's consumer that can be changed, and whose plan says what becomes of the messages."""
        return WORKER_IN_PLACE | (PATIENCE if self.number >= TELLS_OF_LOWERED_MAX_DELIVER else {})


@dataclass(frozen=True)
class Step:
    """What is done next: `deed` to the organisation, while `fault` happens at a `moment` of the apply from 0 to 1."""

    deed: str  # change, add, remove, both, rename
    fault: str  # or none
    moment: float
    executed: bool  # whether what the tool asked for when it died still reached the server
    again: bool  # whether an apply that was interrupted is simply done again
    victim: float  # from 0 to 1: which server is killed
    chance: random.Random  # for the changes
    brings: str = ""  # the kind of change that comes of it for certain, as the report calls it


def step(seed: int, number: int, place: Place) -> Step:
    """Return the same for the same seed, whatever happened before."""
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - not for secrets
    deed = chance.choices(["change", "add", "remove", "both", "rename"], [7, 1.5, 1.5, 1, 2])[0]
    fault = chance.choice(place.faults) if chance.random() < 0.6 else "none"
    return _drawn(deed, fault, chance)


def schedule(seed: int, place: Place) -> list[Step]:
    """Return a step for each kind of change that this place knows, and each fault; which meet, and in which order, is drawn."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    kinds = [kind for kind in SURE if place.number >= PROMOTES_MIRRORS or kind != "stream replaced"]
    faults = [*place.faults, *["none"] * len(kinds)][: len(kinds)]
    chance.shuffle(faults)
    steps = [
        replace(_drawn(SURE[kind][0], fault, chance), brings=kind)
        for kind, fault in zip(kinds, faults, strict=True)
    ]
    chance.shuffle(steps)
    steps.sort(key=lambda found: found.deed == "remove")  # who goes has come before
    return steps


def _drawn(deed: str, fault: str, chance: random.Random) -> Step:
    return Step(
        deed,
        fault,
        chance.random(),
        chance.random() < 0.5,
        chance.random() < 0.5,
        chance.random(),
        chance,
    )


def first() -> Wish:
    """Return the organisation as it begins."""
    return {"roles": {role: new_role() for role in ROLES}, "durable": False, "prefix": ""}


def new_role() -> dict[str, Any]:
    """Return a role as it begins. What a killed server has handed out and nobody has received comes again after ack_wait."""
    return {"tasks": {}, "worker": {"ack_wait": "3s", "max_ack_pending": 100, "max_deliver": 4}}


def manifest(request: Wish, place: Place) -> str:
    """Return the text of the manifest."""
    dev, cto = (role if role in request["roles"] else other_name(role) for role in ("dev", "cto"))
    events = {"deploy.complete": {"publishers": [dev], "subscribers": [cto], "durable": request["durable"]}}
    return json.dumps(
        {
            "org": ORG,
            "naming": {"stream_prefix": request["prefix"]},
            "defaults": {"replicas": place.replicas},
            "roles": request["roles"],
            "events": events,
        }
    )


def renamed(request: Wish, chance: random.Random, *, surely: bool = False) -> Wish:
    """Return a wish in which every stream, or one role, is called otherwise; or, unless it is to be `surely`, a role's former name is forgotten."""
    after = copy.deepcopy(request)
    role = chance.choice(list(after["roles"]))
    if chance.random() < 0.3:
        after["prefix"] = "" if after["prefix"] else PREFIX
    elif not surely and "renamed_from" in after["roles"][role] and chance.random() < 0.5:
        del after["roles"][role]["renamed_from"]
    else:
        after["roles"][other_name(role)] = {**after["roles"].pop(role), "renamed_from": role}
    return after


def other_name(role: str) -> str:
    """Return a role has two names, by turns."""
    return role.removesuffix("-two") if role.endswith("-two") else f"{role}-two"


def stream_of(request: Wish, role: str) -> str:
    """Return the name of the stream of a role's tasks."""
    return f"{request['prefix']}AGENT_{role.replace('-', '_').upper()}_TASKS"


def changed(request: Wish, place: Place, chance: random.Random, brings: str = "") -> Wish:
    """Return a wish that differs in one or two settings, of one role or of all; in one that `brings` this kind of change, if that is said."""
    after = copy.deepcopy(request)
    for _ in range(1 if brings else chance.randint(1, 2)):
        roles = list(after["roles"]) if chance.random() < 0.4 else [chance.choice(list(after["roles"]))]
        part, knobs = SURE[brings][1] if brings else _kind(place, chance)
        if not part:
            after["durable"] = not after["durable"]
            continue
        name = chance.choice(sorted(knobs))
        now = after["roles"][roles[0]][part].get(name, knobs[name][0])
        value = chance.choice([value for value in knobs[name] if value != now])
        for role in roles:
            settings = after["roles"][role][part]
            settings[name] = value
            if settings.get("storage") == "memory":
                settings.pop("persist_mode", None)
    return after


SURE: dict[str, tuple[str, tuple[str, Knobs]]] = {
    "created": ("add", ("", {})),
    "updated": ("change", ("worker", WORKER_IN_PLACE)),
    "consumer replaced": ("change", ("worker", WORKER_REPLACED)),
    "stream replaced": ("change", ("tasks", SURELY_REPLACED)),
    "stream renamed": ("rename", ("", {})),
    "deleted": ("remove", ("", {})),
}
"""Kinds of change, as the report calls them; by which deed each comes about, and by which settings of a role."""


def _kind(place: Place, chance: random.Random) -> tuple[str, Knobs]:
    """Return what is changed, and among which settings; no part at all is an event that becomes durable, or no longer."""
    kinds: list[tuple[str, Knobs]] = [
        ("tasks", STREAM_IN_PLACE),
        ("tasks", place.stream_replaced),
        ("worker", place.worker_in_place),
        ("worker", WORKER_REPLACED),
        ("", {}),
    ]
    replaces = 5 if place.number >= PROMOTES_MIRRORS else 1
    return chance.choices(kinds, [2, replaces, 2, 3, 1])[0]
