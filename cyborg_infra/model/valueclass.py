"""`valueclass` and `NamedTuple`: what values are made of, without what Python does for each class of them at every start.

A `valueclass` is a frozen dataclass, but that only type checkers keep it from changing. Python's own freezing sets each
field by a call, so that one takes four times as long to make, and its class twice. And it writes and compiles functions
to compare, hash and print for each class; here all have the same three. It is for what there are tens of thousands of,
and for what every command imports.

A `NamedTuple` is what `typing` has under this name, but that its annotations stay the text that they are: `typing`
compiles each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["NamedTuple", "valueclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass as valueclass
    from typing import NamedTuple  # noqa: TID251 - this is it
else:
    from collections import namedtuple
    from dataclasses import dataclass, fields

    class _Named(type):
        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            names = namespace.pop("__annotations__", {})
            defaults = [namespace.pop(each) for each in names if each in namespace]
            made = namedtuple(name, names, defaults=defaults)  # noqa: PYI024 - see above
            made.__annotations__ = made.__new__.__annotations__ = names
            for each, value in namespace.items():
                setattr(made, each, value)
            return made

    class NamedTuple(metaclass=_Named):
        """See above."""

    def valueclass(*, frozen: bool, slots: bool, init: bool = True) -> object:  # noqa: ARG001 - type checkers read it
        """Return as dataclass: equal, hashed and printed by its fields; by its words if it has some (`__str__`).

        Without `init` where there are values of its subclasses alone.
        """

        def made(cls: type) -> type:
            cls.__eq__, cls.__hash__ = _is_equal, _hashed
            cls.__repr__ = _shown if cls.__str__ is object.__str__ else _told
            return dataclass(slots=slots, init=init, eq=False, repr=False)(cls)

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
