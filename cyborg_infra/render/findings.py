"""What is found in a manifest, or wrong anywhere, in lines for people. Knows no plans: this much every command may have to say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.model.org import Org
from cyborg_infra.model.problems import CyborgError, Problem
from cyborg_infra.model.state import State
from cyborg_infra.render.layout import Block, Page, line
from cyborg_infra.render.values import plural


def problems(error: CyborgError) -> Page:
    """Every problem of the error, each `Error: place: message` with its hint beneath."""
    return Page(tuple(block for problem in error.problems for block in finding(problem)))


def warnings(found: Sequence[Problem]) -> Page:
    """Each `Warning: place: message [code]` with its hint beneath; the code is what a manifest ignores it by."""
    return Page(
        tuple(
            block
            for each in found
            for block in finding(each._replace(message=f"{each.message} [{each.code}]"), word="Warning")
        )
    )


def valid(path: str, org: Org, state: State) -> Page:
    """That the manifest holds, and what it comes to."""
    sizes = (plural(len(org.roles), "role"), plural(len(state.streams()), "stream"))
    counts = f"{', '.join(sizes)} and {plural(len(state.consumers()), 'consumer')}"
    return Page((line(f"{path} is valid: organisation {org.name}{environment(org.environment)}, {counts}."),))


def environment(name: str | None) -> str:
    """Which environment's settings hold, in brackets; empty for none."""
    return f" (environment {name})" if name else ""


def finding(problem: Problem, indent: int = 0, word: str = "Error") -> Iterator[Block]:
    """One problem, `Error: place: message`, with its hint beneath."""
    where = f"{problem.where}: " if problem.where else ""
    label = (f"{word}: ", "bold red" if word == "Error" else "bold yellow")
    yield line(label, f"{where}{problem.message}", indent=indent, hang=len(label[0]))
    if problem.hint:
        yield line(problem.hint, indent=indent + len(label[0]), hang=0)
