"""Texts that name an option or a command: the library says `timeout` where the command line says --timeout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from cyborg_infra.model.valueclass import NamedTuple

PROGRAM = "cyborg-infra"

_IN_LIBRARY = ("apply", "plan", "status")

_PARAMETERS = {
    "allow": "allow={{{!r}}}",
    "lock_timeout": "`lock_timeout`",  # in seconds
    "no_lock": "lock_timeout=None",
    "prune": "prune=True",
}
"""How the library says an option that is not a parameter of the same name with the same value."""


class Option(NamedTuple):
    """Something that a user may ask for, by the name of the parameter; `value` as the command line takes it."""

    name: str
    value: str = ""

    def __str__(self) -> str:
        if self.name in _PARAMETERS:
            return _PARAMETERS[self.name].format(str(self.value))
        return f"{self.name}={str(self.value)!r}" if self.value else f"`{self.name}`"


class Command(NamedTuple):
    """A command that a user may run, or call where the library has it."""

    words: str

    def __str__(self) -> str:
        return self.words if self.words in _IN_LIBRARY else f"{PROGRAM} {self.words}"


class Wording(str):
    """A text in the library's words, which knows the options and commands that it names.

    It is a `str`, so that whoever knows nothing of it says something true. `render` says it as the command line does.
    """

    __slots__ = ("parts",)

    parts: tuple[str | Option | Command, ...]

    def __new__(cls, *parts: str | Option | Command) -> Self:  # noqa: D102 - the class says it
        made = super().__new__(cls, "".join(str(part) for part in parts))
        made.parts = parts
        return made

    def __str__(self) -> str:
        return self  # `str` of it, and of an error that has it, still knows what it names

    def __getnewargs__(self) -> tuple[str | Option | Command, ...]:  # type: ignore[override] # for a copy
        return self.parts

    def in_words_of(self, say: Callable[[Option | Command], str]) -> str:
        """Return the text with its options and commands as `say` says them."""
        return "".join(part if isinstance(part, str) else say(part) for part in self.parts)


def worded(template: str, *arguments: object) -> Wording:
    """Return the template with an argument in the place of each `{}`, which may be an option, a command, or what has a wording as its text."""
    first, *others = template.split("{}")
    parts: list[str | Option | Command] = [first]
    for argument, text in zip(arguments, others, strict=True):
        if isinstance(argument, Option | Command):
            parts.append(argument)
        else:
            words = str(argument)
            parts += words.parts if isinstance(words, Wording) else (words,)
        parts.append(text)
    return Wording(*parts)


def first_few(names: Sequence[str], most: int) -> str:
    """Return the names in a text; of more than `most`, the first of them and how many there are besides: `ceo, cto and 12 more`."""
    besides = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{besides}"
