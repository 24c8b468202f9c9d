"""The commands as whole processes beside their floors: starting, creating, comparing, printing, checking."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks.figures import Figure, total, values_of
from benchmarks.measure import Run, by_turns, run
from benchmarks.nodes import Workplace
from benchmarks.organisation import Organisation

LARGE = (1000, 10_000)
"""Sizes with targets for what grows."""

APPLY, NO_CHANGE = "apply from nothing", "no change"

_COUNT = "import json, sys; print(len(json.load(open(sys.argv[1]))['changes']))"


def starting(place: Workplace, roles: int, repeats: int) -> Iterator[Figure]:
    """Small commands, where starting is the whole cost, beside Python with the imports they cannot do without."""
    part = "start-up"
    organisation = Organisation(place.home, roles)
    bare, local, remote = "python -c pass", "python -c 'import typer, yaml'", "python -c 'import nats, yaml'"
    with place.server() as server:
        organisation.floor("create", server.url)
        works: dict[str, Callable[[], Run]] = {
            bare: partial(organisation.python, "pass"),
            local: partial(organisation.python, "import typer, yaml"),
            "validate": partial(organisation.command, "validate"),
            "show": partial(organisation.command, "show"),
            remote: partial(organisation.python, "import nats, yaml"),
            "plan, no change": partial(organisation.command, "plan", "--detailed-exitcode", url=server.url),
        }
        by_turns(1, works)  # byte code is compiled, files are in memory
        taken = by_turns(repeats, works)
    walls = {name: times(runs, 1000) for name, runs in taken.items()}
    yield Figure(part, bare, roles, "ms", walls[bare])
    for name, floor in (("validate", local), ("show", local), ("plan, no change", remote)):
        yield Figure(part, name, roles, "ms", walls[name], floor, walls[floor], 1.6)
        yield Figure(part, f"{name}: peak memory", roles, "MB", peaks(taken[name]))


def creating(place: Workplace, roles: int, repeats: int) -> Iterator[Figure]:
    """Yield `apply` to an empty server, beside the same requests bare; each time a new server."""
    organisation = Organisation(place.home, roles)

    def bare() -> Run:
        with place.server() as server:
            return organisation.floor("create", server.url)

    taken = by_turns(repeats, {"bare create": bare, "apply": partial(applied, place, organisation)})
    ours, floor = taken["apply"], times(taken["bare create"])
    yield Figure(
        APPLY, "apply", roles, "s", times(ours), "bare create", floor, 1.25 if roles in LARGE else None
    )
    yield Figure(APPLY, "apply: processor time", roles, "s", tuple(each.cpu for each in ours))
    yield Figure(APPLY, "apply: peak memory", roles, "MB", peaks(ours))


def comparing(place: Workplace, roles: int, repeats: int) -> Iterator[Figure]:
    """Yield `plan` and a second `apply` where nothing is to be done, beside what cannot be left out of a plan.

    The organisation was made by the floor: a plan that finds it in order shows that both make the same.
    """
    organisation = Organisation(place.home, roles)
    read, load, start = "bare read", "C YAML load of the manifest", "python -c 'import nats, typer, yaml'"
    with place.server() as server:
        organisation.floor("create", server.url)
        taken = by_turns(
            repeats,
            {
                "plan": partial(organisation.command, "plan", "--detailed-exitcode", url=server.url),
                "second apply": partial(organisation.command, "apply", "--yes", url=server.url),
                read: partial(organisation.floor, "read", server.url),
                load: organisation.loading,
                start: partial(organisation.python, "import nats, typer, yaml"),
            },
        )
    plans, applies = taken["plan"], taken["second apply"]
    parts = {name: times(taken[name]) for name in (read, load, start)}
    sums = total(*parts.values())
    yield Figure(
        NO_CHANGE,
        "plan",
        roles,
        "s",
        times(plans),
        "sum of its floors",
        sums,
        1.5 if roles in LARGE else None,
    )
    for name, values in parts.items():
        yield Figure(NO_CHANGE, f"floor: {name}", roles, "s", values)
    yield Figure(NO_CHANGE, "plan: processor time", roles, "s", tuple(each.cpu for each in plans))
    yield Figure(
        NO_CHANGE,
        "plan: peak memory",
        roles,
        "MB",
        peaks(plans),
        target=300 if roles == max(LARGE) else None,
    )
    yield Figure(NO_CHANGE, "second apply", roles, "s", times(applies), "plan", times(plans), 1.1)


def printing(place: Workplace, roles: int, repeats: int, figures: Sequence[Figure]) -> Iterator[Figure]:
    """Yield the plan of everything as text and as JSON, which has every change; beside what `apply` took."""
    part = "plan of everything"
    organisation = Organisation(place.home, roles)
    paths = {name: place.home / f"plan.{name}" for name in ("text", "json")}
    with place.server() as server:
        taken = by_turns(
            repeats,
            {
                name: partial(organisation.command, "plan", "--format", name, url=server.url, output=path)
                for name, path in paths.items()
            },
        )
    applied = values_of(figures, APPLY, "apply", roles)
    for name, path in paths.items():
        yield Figure(part, name, roles, "s", times(taken[name]), "apply", applied, 1.0)
        yield Figure(part, f"{name}: peak memory", roles, "MB", peaks(taken[name]))
        yield Figure(part, f"{name}: size", roles, "MB", (path.stat().st_size / 1e6,))
    count = place.home / "count"
    run((sys.executable, "-c", _COUNT, str(paths["json"])), place.home, output=count)
    missing = organisation.size - int(count.read_text(encoding="ascii"))
    yield Figure(
        part, f"changes that are not in the JSON, of {organisation.size:,}", roles, "", (missing,), target=0
    )


def checking(place: Workplace, roles: int, repeats: int) -> Iterator[Figure]:
    """Yield `validate` in processor seconds, and whether twice the roles take twice as long."""
    part = "validate"
    commands = {size: Organisation(place.home, size).command for size in (roles, 2 * roles)}
    taken = by_turns(
        repeats, {f"{size:,} roles": partial(command, "validate") for size, command in commands.items()}
    )
    (small, once), (_, twice) = ((name, tuple(each.cpu for each in runs)) for name, runs in taken.items())
    yield Figure(part, "processor time", roles, "s", once, target=1.5 if roles == max(LARGE) else None)
    yield Figure(part, "processor time", 2 * roles, "s", twice, small, once, 2.2)
    yield Figure(part, "peak memory", roles, "MB", peaks(taken[small]))


def applied(place: Workplace, organisation: Organisation) -> Run:
    """Return `apply` to a new server."""
    with place.server() as server:
        return organisation.command("apply", "--yes", url=server.url)


def times(runs: Sequence[Run], factor: int = 1) -> tuple[float, ...]:
    """Wall seconds, or what `factor` makes of them."""
    return tuple(each.seconds * factor for each in runs)


def peaks(runs: Sequence[Run]) -> tuple[float, ...]:
    """Megabytes."""
    return tuple(each.peak / 1e6 for each in runs)
