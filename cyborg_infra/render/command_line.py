"""How the command line says what the library says in its own words: `timeout` is --timeout."""

from __future__ import annotations

from cyborg_infra.model.problems import Problem
from cyborg_infra.model.wording import PROGRAM, Command, Option, Wording

_FLAGS = {"targets": "--target"}
"""Options that are not called after their parameter."""


def spoken(text: str) -> str:
    """Return a text with the options and commands that it names as they are typed."""
    return text.in_words_of(_typed) if isinstance(text, Wording) else text


def in_command_line_words(problem: Problem) -> Problem:
    """Return the problem with what is wrong and what to do as the command line says it."""
    hint = spoken(problem.hint) if problem.hint else problem.hint
    return problem._replace(message=spoken(problem.message), hint=hint)


def _typed(named: Option | Command) -> str:
    if isinstance(named, Command):
        return f"{PROGRAM} {named.words}"
    flag = _FLAGS.get(named.name) or f"--{named.name.replace('_', '-')}"
    return f"{flag} {named.value}" if named.value else flag
