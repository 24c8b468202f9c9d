"""`python -m benchmarks`: the table of what is measured at which size, and the run. Asserts nothing; people read it."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks import alternatives, commands, growth, machine, monitoring, peers, report, tools
from benchmarks.figures import Figure
from benchmarks.measure import CommandFailed, say
from benchmarks.nodes import Workplace, workplace
from cyborg_infra.model.problems import CyborgError

RESULTS = Path(__file__).parent / "results"


Case = tuple[str, Callable[[Workplace], Iterator[Figure]]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many roles each part has, and how often it is repeated there."""

    starting: Mapping[int, int] = field(default_factory=dict)
    checking: Mapping[int, int] = field(default_factory=dict)
    comparing: Mapping[int, int] = field(default_factory=dict)
    creating: Mapping[int, int] = field(default_factory=dict)
    printing: Mapping[int, int] = field(default_factory=dict)
    one_server: Mapping[int, int] = field(default_factory=dict)
    cluster: Mapping[int, int] = field(default_factory=dict)
    watching: Mapping[int, int] = field(default_factory=dict)
    rivalling: Mapping[int, int] = field(default_factory=dict)
    designs: Mapping[int, int] = field(default_factory=dict)


SOME = Sizes(
    starting={7: 11},
    checking={1000: 3},
    comparing={7: 5, 100: 5},
    creating={7: 5, 100: 3},
    printing={100: 3},
    one_server={100: 1},
    cluster={7: 1},
    watching={7: 3},
    rivalling={7: 1},
)
ALL = Sizes(
    starting={7: 25},
    checking={10_000: 3},
    comparing={7: 7, 100: 5, 1000: 7, 5000: 3, 10_000: 7},
    creating={7: 7, 100: 5, 1000: 5, 5000: 1, 10_000: 1},
    printing={10_000: 1},
    one_server={1000: 2, 5000: 1, 10_000: 1},
    cluster={100: 2, 1000: 1},
    watching={7: 5, 1000: 3, 10_000: 3},
    rivalling={7: 3, 100: 1},
    designs={1000: 1, 5000: 1},
)


def cases(sizes: Sizes, found: Sequence[tools.Peer], figures: Sequence[Figure]) -> Iterator[Case]:
    """Yield every part at every size, with its title; `figures` are those that were measured before."""
    parts: list[tuple[str, Mapping[int, int], Callable[..., Iterator[Figure]]]] = [
        ("start-up", sizes.starting, commands.starting),
        ("validate", sizes.checking, commands.checking),
        ("no change", sizes.comparing, commands.comparing),
        ("apply from nothing", sizes.creating, commands.creating),
        ("plan of everything", sizes.printing, partial(commands.printing, figures=figures)),
        ("one server", sizes.one_server, growth.on_one_server),
        ("a cluster of three", sizes.cluster, growth.on_a_cluster),
        (monitoring.PART, sizes.watching, monitoring.watching),
        *(
            (each.name, sizes.rivalling, partial(peers.rivalling, peer=each, figures=figures))
            for each in found
        ),
        ("alternatives", sizes.designs, alternatives.designs),
    ]
    for title, steps, part in parts:
        for roles, repeats in steps.items():
            yield f"{title}, {roles} roles", partial(part, roles=roles, repeats=repeats)


def measured(title: str, case: Callable[[], Iterator[Figure]], home: Path) -> Iterator[Figure]:
    """Yield the figures of a case; what fails leaves a hole that says why, and the run goes on."""
    say(title)
    try:
        yield from case()
    except (CommandFailed, CyborgError, OSError, RuntimeError, ValueError) as error:
        say(f"  FAILED: {error}")
        what, _, roles = title.rpartition(", ")
        yield Figure(
            what,
            "not measured to its end",
            int(roles.split()[0]),
            "",
            note=str(error).replace(f"{home}/", ""),
        )


def main() -> None:
    """Measures, writes the results and prints the Markdown. Whatever ends it, no server and no store is left."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the commands beside their floors."
    )
    parser.add_argument("--full", action="store_true", help="every size; a quarter of an hour on two cores")
    parser.add_argument("--only", default="", metavar="TEXT", help="only what has this in its title")
    parser.add_argument("--name", default="", metavar="NAME", help="of the files in benchmarks/results")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found, absent = tools.installed()
    figures: list[Figure] = []
    start = time.monotonic()
    try:
        with workplace() as place:
            about = machine.described(in_memory=place.in_memory) | {peer.name: peer.version for peer in found}
            name = options.name or ("full" if options.full else "short")
            text = ""
            for title, case in cases(ALL if options.full else SOME, found, figures):
                if options.only in title:
                    figures += measured(title, partial(case, place), place.home)
                    text = report.write(RESULTS, name, about, absent, figures)
    except KeyboardInterrupt:
        sys.exit("interrupted: the results are those of the parts that came to their end")
    say(f"{time.monotonic() - start:.0f} seconds")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
