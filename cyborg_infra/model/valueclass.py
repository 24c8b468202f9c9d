"""`valueclass`: a frozen dataclass, but that only type checkers keep it from changing.

Python's own freezing sets each field by a call, so that one takes four times as long to make, and its class twice. And
it writes and compiles functions to compare, hash and print for each class; here all have the same three. It is for what
there are tens of thousands of, and for what every command imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["valueclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass as valueclass
else:
    from dataclasses import dataclass, fields

    def valueclass(*, frozen: bool, slots: bool) -> object:  # noqa: ARG001 - type checkers read it
        """Return as dataclass: equal, hashed and printed by its fields; by its words if it has some (`__str__`)."""

        def made(cls: type) -> type:
            cls.__eq__, cls.__hash__ = _is_equal, _hashed
            cls.__repr__ = _shown if cls.__str__ is object.__str__ else _told
            return dataclass(slots=slots, eq=False, repr=False)(cls)

        return made

    def _compared(value: Any) -> tuple[Any, ...]:
        return tuple(getattr(value, each.name) for each in fields(value) if each.compare)

    def _is_equal(self: Any, other: object) -> bool:
        return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented

    def _hashed(self: Any) -> int:
        return hash(_compared(self))

    def _shown(self: Any) -> str:
        shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"

    def _told(self: Any) -> str:
        return f"<{str(self).partition(chr(10))[0]}>"
