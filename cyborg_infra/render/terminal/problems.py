"""Problems and warnings as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import CyborgError, Problem
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.render.command_line import in_command_line_words
from cyborg_infra.render.terminal.layout import Block, Page, line
from cyborg_infra.render.values import plural


def problems(error: CyborgError) -> Page:
    """Return every problem of the error, each `Error: place: message` with its hint beneath."""
    return Page(tuple(block for problem in error.problems for block in finding(problem)))


def warnings(found: Sequence[Problem], notes: Sequence[Problem] = ()) -> Page:
    """Return each `Warning: place: message [code]`, or `Note:`, with its hint beneath; by the code a manifest ignores it."""
    return Page(
        tuple(
            block
            for word, those in (("Warning", found), ("Note", notes))
            for each in those
            for block in finding(each._replace(message=f"{each.message} [{each.code}]"), word=word)
        )
    )


def valid(path: str, org: Org, state: DesiredState) -> Page:
    """Return the line about a valid manifest: its organisation and what it expands to."""
    sizes = (plural(len(org.roles), "role"), plural(len(state.streams()), "stream"))
    counts = f"{', '.join(sizes)} and {plural(len(state.consumers()), 'consumer')}"
    return Page((line(f"{path} is valid: organisation {org.name}{environment(org.environment)}, {counts}."),))


def environment(name: str | None) -> str:
    """Return the environment in brackets; empty for none."""
    return f" (environment {name})" if name else ""


def finding(problem: Problem, indent: int = 0, word: str = "Error") -> Iterator[Block]:
    """Yield one problem, `Error: place: message`, with its hint beneath."""
    problem = in_command_line_words(problem)
    where = f"{problem.where}: " if problem.where else ""
    label = (f"{word}: ", "bold red" if word == "Error" else "bold yellow")
    yield line(label, f"{where}{problem.message}", indent=indent, hang=len(label[0]))
    if problem.hint:
        yield line(problem.hint, indent=indent + len(label[0]), hang=0)
