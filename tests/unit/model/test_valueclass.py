"""What values are made of is what Python has under these names."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import typing
from dataclasses import field
from typing import Any

import pytest

from cyborg_infra.model.valueclass import NamedTuple, valueclass


class Ours(NamedTuple):
    """A place."""

    line: int
    column: int = 1
    file: str | None = None

    @property
    def written(self) -> str:
        return f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return self.written

    @classmethod
    def first(cls) -> Ours:
        return cls(1)


class Theirs(typing.NamedTuple):
    """A place."""

    line: int
    column: int = 1
    file: str | None = None


class Nothing(NamedTuple):
    """It has no field."""


def test_a_named_tuple_is_as_that_of_typing() -> None:
    ours, theirs = Ours(3, file="org.yaml"), Theirs(3, file="org.yaml")
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert tuple(ours) == tuple(theirs)
    assert hash(ours) == hash(theirs)
    assert (Ours._fields, Ours._field_defaults) == (Theirs._fields, Theirs._field_defaults)
    assert (Ours.__mro__[1:], Ours.__module__, Ours.__qualname__) == (Theirs.__mro__[1:], __name__, "Ours")
    assert (Ours.__doc__, Ours.__match_args__) == (Theirs.__doc__, Theirs.__match_args__)
    assert typing.get_type_hints(Ours) == typing.get_type_hints(Theirs)
    assert ours._replace(line=4) == (4, 1, "org.yaml")
    assert pickle.loads(pickle.dumps(ours)) == copy.copy(ours) == ours  # noqa: S301 - our own
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'line'"):
        Ours()  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        ours.line = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        ours.other = 5  # type: ignore[attr-defined]


def test_it_has_what_its_class_says_besides() -> None:
    assert str(Ours(3, file="org.yaml")) == Ours(3, file="org.yaml").written == "org.yaml:3"
    assert Ours.first() == (1, 1, None)


def test_one_without_fields_is_an_empty_tuple() -> None:
    assert Nothing() == ()
    assert repr(Nothing()) == "Nothing()"


@pytest.mark.parametrize("decorator", [valueclass, dataclasses.dataclass])
def test_a_valueclass_is_made_as_a_dataclass_is(decorator: Any) -> None:
    @decorator(frozen=True, slots=True)
    class Base:
        first: int = field(default=1, kw_only=True)

    @decorator(frozen=True, slots=True)
    class Value(Base):
        name: str
        made: list[int] = field(default_factory=list)
        told: str = "no"
        kept: str = field(default="kept", init=False)
        each: list[int] = field(default_factory=list, init=False)
        upper: str = field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "upper", self.name.upper())

    kind: Any = Value
    one, other = kind("a"), kind("a", [1], told="yes", first=2)
    assert (one.name, one.made, one.told, one.first, one.kept, one.each) == ("a", [], "no", 1, "kept", [])
    assert (other.made, other.told, other.first, other.upper) == ([1], "yes", 2, "A")
    assert one.made is not kind("b").made
    assert dataclasses.replace(one, name="b").upper == "B"
    said = inspect.signature(kind).replace(return_annotation=None)
    factory = "<class 'list'>" if decorator is valueclass else "<factory>"
    assert str(said) == (
        f"(name: 'str', made: 'list[int]' = {factory}, told: 'str' = 'no', *, first: 'int' = 1) -> None"
    )
    with pytest.raises(TypeError, match=r"Value.__init__\(\) missing 1 required positional argument: 'name'"):
        kind()
