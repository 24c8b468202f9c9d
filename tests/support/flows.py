"""Drawn streams that republish to one another, and what becomes of one message in them, by walking it from stream to stream."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource, State

Streams = Mapping[str, Mapping[str, Any]]
"""Name -> configuration as a server takes it."""

LONG = ".".join("b" + "a" * 199)
"""Where each lap takes a token away, as many laps are run as there are tokens."""

SUBJECTS = [
    f"{stream}.{rest}" for stream in ("s0", "s1", "s2", "s3") for rest in ("a", "b", "a.b", "b.a.z", LONG)
]
"""One that fits each of the drawn patterns, whichever it is."""

MANY = 60
"""So many copies of one message are no end: the longest way here that has one is a handful."""


def drawn(seed: int) -> Streams:
    """Return a few streams with transforms, sources and republish; each by itself such as a server takes it."""
    random = Random(seed)  # noqa: S311 - not for secrets
    names = [f"s{number}" for number in range(random.randint(2, 4))]
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        others = [other for other in names if other != name]
        subject = random.choice([f"{name}.>", f"{name}.>", f"{name}.*", f"{name}.a"])
        config: dict[str, Any] = {"name": name.upper(), "subjects": [subject]}
        stored = name
        if random.random() < 0.3:
            way = random.choice(
                [
                    (f"{name}.>", f"t{name}.>"),
                    (f"{name}.*", f"t{name}.{{{{wildcard(1)}}}}"),
                    (f"{name}.a", f"t{name}.b"),
                ]
            )
            config["subject_transform"] = dict(zip(("src", "dest"), way, strict=True))
            stored = random.choice([name, f"t{name}"])
        if found and random.random() < 0.3:
            config["sources"] = [{"name": random.choice(list(found)).upper()}]
            stored = random.choice([stored, config["sources"][0]["name"].lower()])
        if random.random() < 0.8:
            to = random.choice(others)
            way = random.choice(
                [
                    (f"{stored}.>", f"{to}.>"),
                    (f"{stored}.*", f"{to}.{{{{wildcard(1)}}}}"),
                    (f"{stored}.a", f"{to}.a"),
                    (f"{stored}.a", f"{to}.b"),
                    (f"{stored}.>", f"{to}.b.>"),
                    (f"{stored}.*.>", f"{to}.>"),
                    (">", f"{to}.x.>"),
                ]
            )
            config["republish"] = dict(zip(("src", "dest"), way, strict=True))
        found[name] = config
    return {config["name"]: config for config in found.values()}


def state(streams: Streams) -> State[Resource]:
    """Return the same, as the product has it."""
    return State({Ref(name): Resource(Ref(name), config) for name, config in streams.items()})


def walked(streams: Streams, subject: str, *, copies_travel: bool = True) -> Counter[tuple[str, str]]:
    """(stream, stored subject) -> how often the message is there in the end; MANY in all if there is none.

    `copies_travel` before 2.15, which stores nothing that says that it was copied from another stream (10227).
    """
    found: Counter[tuple[str, str]] = Counter()
    going = [(name, subject, False) for name in _capturing(streams, subject)]
    while going and found.total() < MANY:
        name, form, copied = going.pop()
        form = _made(streams[name].get("subject_transform"), form) or form
        found[name, form] += 1
        again = _made(streams[name].get("republish"), form)
        if again and (copies_travel or not copied):
            going += [(other, again, copied) for other in _capturing(streams, again)]
        going += [
            (other, form, True)
            for other, config in streams.items()
            if name in [origin["name"] for origin in config.get("sources", ())]
        ]
    return found


def _capturing(streams: Streams, subject: str) -> list[str]:
    return [
        name
        for name, config in streams.items()
        if any(_taken(wide, subject) is not None for wide in config["subjects"])
    ]


def _made(way: Mapping[str, str] | None, subject: str) -> str | None:
    """Return what the transform makes of one subject; None if it does not take it."""
    taken = _taken(way["src"], subject) if way else None
    if way is None or taken is None:
        return None
    filled = re.sub(r"\{\{wildcard\((\d)\)\}\}", lambda found: taken[int(found[1]) - 1], way["dest"])
    return filled.replace(">", taken[-1]) if taken else filled


def _taken(pattern: str, subject: str) -> list[str] | None:
    """Return what each wildcard stands for; None if it does not match."""
    found = re.fullmatch(re.escape(pattern).replace(r"\*", r"([^.]+)").replace(r">", r"(.+)"), subject)
    return list(found.groups()) if found else None
