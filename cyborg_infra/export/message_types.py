"""The types of an organisation's messages, from their JSON Schemas, for whichever language writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra.model.valueclass import NamedTuple

Schema = Mapping[str, Any]


class Simple(NamedTuple):
    """A type of JSON: string, integer, number, boolean, null, or any."""

    name: str


class Choice(NamedTuple):
    """One of these texts."""

    values: tuple[str, ...]


class ListOf(NamedTuple):
    """A list of one type."""

    item: Type


class MapOf(NamedTuple):
    """An object with whatever keys."""

    item: Type


class OneOf(NamedTuple):
    """One of several types."""

    options: tuple[Type, ...]


class Named(NamedTuple):
    """A record, by its name."""

    name: str


Type = Simple | Choice | ListOf | MapOf | OneOf | Named


class Member(NamedTuple):
    """A member of a record."""

    name: str
    type: Type
    required: bool
    doc: str


class Record(NamedTuple):
    """An object with members."""

    name: str
    doc: str
    members: tuple[Member, ...]


class Variants(NamedTuple):
    """A name for one of several records."""

    name: str
    doc: str
    records: tuple[str, ...]


Declared = Record | Variants


def message_types(schemas: Mapping[str, Schema]) -> Sequence[Declared]:
    """Return the records of all messages, each behind those that it names."""
    return [each for kind, schema in schemas.items() for each in _Reader(schema).declare(_pascal(kind))]


class _Reader:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._parts = schema.get("$defs", {})
        self._found: list[Declared] = []

    def declare(self, name: str) -> Sequence[Declared]:
        """Return the declarations of this message: one record, or one for each of its variants."""
        doc = self._schema.get("description", "")
        branches = [self._schema[word]["$ref"] for word in ("then", "else") if word in self._schema]
        variants = [
            self._record(f"{name}{_pascal(where.rpartition('/')[2])}", self._part(where), doc)
            for where in branches
        ]
        if variants and "else" in self._schema:
            self._found.append(Variants(name, doc, tuple(variants)))
        else:
            self._record(name, self._schema, doc)
        return self._found

    def _record(self, name: str, schema: Schema, doc: str) -> str:
        needed = schema.get("required", ())
        members = tuple(
            Member(
                word, self._type(f"{name}{_pascal(word)}", part), word in needed, part.get("description", "")
            )
            for word, part in schema.get("properties", {}).items()
        )
        self._found.append(Record(name, doc, members))
        return name

    def _part(self, where: str) -> Schema:
        part: Schema = self._parts[where.rpartition("/")[2]]
        return part

    def _type(self, name: str, schema: Schema) -> Type:
        if "$ref" in schema:
            schema = {
                **self._part(schema["$ref"]),
                **{key: value for key, value in schema.items() if key != "$ref"},
            }
        if "const" in schema:
            return Choice((schema["const"],))
        if "enum" in schema:
            return Choice(tuple(schema["enum"]))
        kinds = schema.get("type", "any")
        if isinstance(kinds, list):
            return OneOf(tuple(self._of_kind(name, kind, schema) for kind in kinds))
        return self._of_kind(name, kinds, schema)

    def _of_kind(self, name: str, kind: str, schema: Schema) -> Type:
        if kind == "array":
            return ListOf(self._type(name, schema.get("items", {})))
        if kind != "object":
            return Simple(kind)
        if schema.get("properties"):
            return Named(self._record(name, schema, schema.get("description", "")))
        rest = schema.get("additionalProperties", {})
        return MapOf(self._type(name, rest) if isinstance(rest, Mapping) else Simple("any"))


def _pascal(name: str) -> str:
    return "".join(_words(name))


def _words(name: str) -> Iterator[str]:
    for word in name.replace("-", " ").replace("_", " ").replace(".", " ").split():
        yield word[:1].upper() + word[1:]
