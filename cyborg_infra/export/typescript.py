"""For agents in TypeScript: one module of constants and types, which `tsc --strict` takes as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cyborg_infra.export.constants import ConsumerNames, OrgNames, org_names
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

FILE = "messaging.ts"


def write(given: ExportInput) -> Export:
    """Return the module."""
    names = org_names(given)
    parts = [
        f"// {given.headline}\n",
        _CLASSES,
        *(f"export const {name} = {_json(value)} as const;\n" for name, value in _tables(names).items()),
        _TYPES,
        *map(_declared, message_types(given.schemas)),
    ]
    return Export({FILE: "\n".join(parts)})


_CLASSES = """\
/** A durable consumer, to bind to; ackWait is seconds until a message that is held comes again. */
export interface Consumer {
  readonly stream: string;
  readonly name: string;
  readonly ackWait: number;
  readonly maxDeliver: number;
}
"""

_TYPES = """\
export type RoleName = keyof typeof ROLES;
export type Channel = keyof typeof EVERY_ROLE;
export type OrgChannel = keyof typeof SUBJECTS;
export type GroupName = keyof typeof GROUPS;
export type GroupChannel = [GroupName] extends [never] ? never : keyof (typeof GROUPS)[GroupName]["subjects"];
export type OrgConsumerKind = keyof typeof CONSUMERS;
export type EventName = keyof typeof EVENTS;
export type Stream = (typeof STREAMS)[number];
export type Bucket = (typeof BUCKETS)[number];
"""


def _tables(names: OrgNames) -> Mapping[str, Any]:
    return {
        "ORG": names.org,
        "ROLES": {
            name: {
                "name": name,
                "inboxPrefix": role.inbox_prefix,
                "subjects": role.subjects,
                "consumers": _consumers(role.consumers),
            }
            for name, role in names.roles.items()
        },
        "EVERY_ROLE": names.every_role,
        "SUBJECTS": names.subjects,
        "GROUPS": {
            name: {"members": list(group.members), "subjects": group.subjects}
            for name, group in names.groups.items()
        },
        "CONSUMERS": _consumers(names.consumers),
        "EVENTS": names.events,
        "STREAMS": list(names.streams),
        "BUCKETS": list(names.buckets),
    }


def _consumers(consumers: Mapping[str, ConsumerNames]) -> Mapping[str, Any]:
    return {
        kind: {
            "stream": consumer.stream,
            "name": consumer.name,
            "ackWait": consumer.ack_wait,
            "maxDeliver": consumer.max_deliver,
        }
        for kind, consumer in consumers.items()
    }


def _declared(declared: Declared) -> str:
    match declared:
        case Variants(name, doc, records):
            return f"{_doc(doc, '')}export type {name} = {' | '.join(records)};\n"
        case Record(name, doc, members):
            inner = "".join(
                f"{_doc(each.doc, '  ')}  {_key(each.name)}{'' if each.required else '?'}: {_type(each.type)};\n"
                for each in members
            )
            return f"{_doc(doc, '')}export interface {name} {{\n{inner}}}\n"


_SIMPLE = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
    "any": "unknown",
}


def _type(type_: Type) -> str:
    match type_:
        case Simple(name):
            return _SIMPLE[name]
        case Choice(values):
            return " | ".join(map(json.dumps, values))
        case ListOf(item):
            inner = _type(item)
            return f"({inner})[]" if " | " in inner else f"{inner}[]"
        case MapOf(item):
            return f"Record<string, {_type(item)}>"
        case OneOf(options):
            return " | ".join(map(_type, options))
        case Named(name):
            return name


def _key(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else json.dumps(name)


def _doc(doc: str, indent: str) -> str:
    return f"{indent}/** {doc.replace('*/', '* /')} */\n" if doc else ""


def _json(value: Any) -> str:
    return json.dumps(value, indent=2)
