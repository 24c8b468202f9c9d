"""What values are made of is what Python has under these names."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from cyborg_infra.model.valueclass import NamedTuple


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
