"""For agents in Python: one module of constants and types, which `mypy --strict` takes as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from keyword import iskeyword

from cyborg_infra.export.constants import ConsumerNames, GroupNames, OrgNames, RoleNames, org_names
from cyborg_infra.export.exported import Export, ExportInput
from cyborg_infra.export.message_types import (
    Choice,
    Declared,
    ListOf,
    MapOf,
    Named,
    OneOf,
    Record,
    Simple,
    Type,
    Variants,
    message_types,
)

FILE = "messaging.py"
_BMP = 0xFFFF


def write(given: ExportInput) -> Export:
    """Return the module."""
    names = org_names(given)
    parts = [
        _HEAD.format(headline=_docstring_text(given.headline)),
        *(
            f"{name} = Literal[{', '.join(map(_text, words)) or _text('')}]\n"
            for name, words in _words(names).items()
        ),
        _CLASSES,
        f"ORG: Final = {_text(names.org)}\n",
        *_tables(names),
        _FIND,
        *map(_declared, message_types(given.schemas)),
    ]
    return Export({FILE: "\n".join(parts)})


_HEAD = '''\
# ruff: noqa
"""{headline}

Names that are not in the manifest are not in here: a type checker finds one that is wrong.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, NotRequired, TypeAlias, TypedDict
'''

_CLASSES = '''
class Consumer(NamedTuple):
    """A durable consumer, to bind to; `ack_wait` is seconds until a message that is held comes again."""

    stream: str
    name: str
    ack_wait: float
    max_deliver: int


class Role(NamedTuple):
    """A role: the prefix of its inboxes, what it is reached by, what it reads."""

    name: RoleName
    inbox_prefix: str
    subjects: Mapping[Channel, str]
    consumers: Mapping[ConsumerKind, Consumer]


class Group(NamedTuple):
    """Roles that are named together, and what all of them hear it by."""

    members: tuple[RoleName, ...]
    subjects: Mapping[GroupChannel, str]

'''

_FIND = '''
def find_role(name: str) -> Role:
    """Return the role of a name that comes from outside. Raises KeyError."""
    for known, role in ROLES.items():
        if known == name:
            return role
    raise KeyError(name)

'''


def _words(names: OrgNames) -> Mapping[str, Iterable[str]]:
    return {
        "RoleName": names.roles,
        "Channel": names.role_channels,
        "ConsumerKind": names.role_consumers,
        "OrgChannel": names.subjects,
        "GroupName": names.groups,
        "GroupChannel": names.group_channels,
        "OrgConsumerKind": names.consumers,
        "EventName": names.events,
        "Stream": names.streams,
        "Bucket": names.buckets,
    }


def _tables(names: OrgNames) -> Iterator[str]:
    yield _table("ROLES", "RoleName", "Role", {name: _role(name, role) for name, role in names.roles.items()})
    every = {name: _text(subject) for name, subject in names.every_role.items()}
    yield _table("EVERY_ROLE", "Channel", "str", every)
    subjects = {name: _text(subject) for name, subject in names.subjects.items()}
    yield _table("SUBJECTS", "OrgChannel", "str", subjects)
    groups = {name: _group(group) for name, group in names.groups.items()}
    yield _table("GROUPS", "GroupName", "Group", groups)
    consumers = {kind: _consumer(consumer) for kind, consumer in names.consumers.items()}
    yield _table("CONSUMERS", "OrgConsumerKind", "Consumer", consumers)
    yield _table(
        "EVENTS", "EventName", "str", {name: _text(subject) for name, subject in names.events.items()}
    )
    for name, type_, words in (("STREAMS", "Stream", names.streams), ("BUCKETS", "Bucket", names.buckets)):
        yield f"{name}: Final[tuple[{type_}, ...]] = {_tuple(words)}\n"


def _table(name: str, key: str, value: str, rows: Mapping[str, str]) -> str:
    inner = "".join(f"    {_text(word)}: {text},\n" for word, text in rows.items())
    return f"{name}: Final[Mapping[{key}, {value}]] = {{\n{inner}}}\n"


def _role(name: str, role: RoleNames) -> str:
    subjects = "".join(
        f"            {_text(key)}: {_text(subject)},\n" for key, subject in role.subjects.items()
    )
    consumers = "".join(
        f"            {_text(kind)}: {_consumer(consumer)},\n" for kind, consumer in role.consumers.items()
    )
    return (
        f"Role(\n        {_text(name)},\n        {_text(role.inbox_prefix)},\n"
        f"        {{\n{subjects}        }},\n        {{\n{consumers}        }},\n    )"
    )


def _group(group: GroupNames) -> str:
    subjects = ", ".join(f"{_text(key)}: {_text(subject)}" for key, subject in group.subjects.items())
    return f"Group({_tuple(group.members)}, {{{subjects}}})"


def _tuple(words: Iterable[str]) -> str:
    return f"({''.join(f'{_text(word)}, ' for word in words).rstrip()})"


def _consumer(consumer: ConsumerNames) -> str:
    return f"Consumer({_text(consumer.stream)}, {_text(consumer.name)}, {consumer.ack_wait!r}, {consumer.max_deliver})"


def _declared(declared: Declared) -> str:
    match declared:
        case Variants(name, doc, records):
            return f"\n{name}: TypeAlias = {' | '.join(records)}\n{_docstring(doc, '')}"
        case Record(name, doc, members):
            if any(not member.name.isidentifier() or iskeyword(member.name) for member in members):
                rows = ", ".join(
                    f"{_text(each.name)}: {_member(each.type, each.required)}" for each in members
                )
                return f'\n{name} = TypedDict("{name}", {{{rows}}})\n'
            inner = "".join(
                f"    {each.name}: {_member(each.type, each.required)}\n{_docstring(each.doc, '    ')}"
                for each in members
            )
            return f"\nclass {name}(TypedDict):\n{_docstring(doc, '    ')}\n{inner}"


def _member(type_: Type, required: bool) -> str:  # noqa: FBT001 - a member's own
    return _type(type_) if required else f"NotRequired[{_type(type_)}]"


_SIMPLE = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "any": "Any",
}


def _type(type_: Type) -> str:
    match type_:
        case Simple(name):
            return _SIMPLE[name]
        case Choice(values):
            return f"Literal[{', '.join(map(_text, values))}]"
        case ListOf(item):
            return f"list[{_type(item)}]"
        case MapOf(item):
            return f"dict[str, {_type(item)}]"
        case OneOf(options):
            return " | ".join(map(_type, options))
        case Named(name):
            return name


def _docstring(doc: str, indent: str) -> str:
    return f'{indent}"""{_docstring_text(doc)}"""\n' if doc else ""


def _docstring_text(doc: str) -> str:
    return doc.replace("\\", "\\\\").replace('"""', "'''")


def _text(value: str) -> str:
    """Return the text as a literal. JSON's halves of a surrogate pair would be two characters in Python."""
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(char: str) -> str:
    return f"\\U{ord(char):08x}" if ord(char) > _BMP else json.dumps(char)[1:-1]
