"""Suggest the name that somebody may have meant, in time linear in names and words."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

MAX_COMPARISONS = 20_000  # of a word with a name; each takes some 10 us, so that all are over in a moment
_MAX_CHARS = 40  # characters of what is looked for beyond that


class NameIndex:
    """The names that there are, and the `former` ones with what they are now.

    The first words are compared with each of them; later ones are found by one wrong character.
    """

    def __init__(self, names: Iterable[str], former: Mapping[str, str] = MappingProxyType({})) -> None:
        self._all = dict.fromkeys(names)
        self._former = former
        self._names = list(self._all)
        self._left = MAX_COMPARISONS
        self._sorted: list[str] = []
        self._lacking: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._all

    def __len__(self) -> int:
        return len(self._names)

    def nearest(self, word: str) -> str | None:
        """Return the name that somebody who wrote `word` may have meant."""
        if word in self._former:
            return self._former[word]
        self._left -= len(self._names)
        return self._compared(word) if self._left >= 0 else self._found(word)

    def first(self, number: int) -> list[str]:
        """Return the first `number` names, in their order."""
        return self._names[:number]

    def _compared(self, word: str) -> str | None:
        from difflib import get_close_matches

        begun = [name for name in self._names if word and name.startswith(word)]
        close = begun or get_close_matches(word, self._names, n=1)
        return close[0] if close else None

    def _found(self, word: str) -> str | None:
        """Return a name that begins with the word, or differs in one character: missing, wrong, superfluous or swapped with its neighbour."""
        if not self._sorted:
            self._sorted = sorted(self._names)
            for name in self._names:
                for part in _lacking_one(name):
                    self._lacking.setdefault(part, name)
        place = bisect_left(self._sorted, word)
        if word and place < len(self._sorted) and self._sorted[place].startswith(word):
            return self._sorted[place]
        return next((self._lacking[part] for part in _lacking_one(word) if part in self._lacking), None)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that somebody who wrote `word` may have meant. For many words make a `NameIndex`."""
    return NameIndex(known).nearest(word)


def _lacking_one(word: str) -> Iterator[str]:
    """Yield the word, and the word without each of its characters."""
    if len(word) <= _MAX_CHARS:
        yield word
        for place in range(len(word)):
            yield word[:place] + word[place + 1 :]
