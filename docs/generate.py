# ruff: noqa: INP001 - docs is no package
"""Writes what the code says elsewhere: blocks of the manifest's schema, docs/reference/, names for type checkers, an example.

`python docs/generate.py` rewrites the files; with `--check` it writes nothing and exits 1 if one is stale.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.desired.rules import OWN_RULES
from cyborg_infra.core.identity.permissions import identities
from cyborg_infra.core.lint.lint import UNNEEDED_IGNORE_CODE
from cyborg_infra.core.lint.rules import EVERY_LINT, Lint, LintOfAll
from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.messages import IDENTIFYING_MEMBERS, STORED_KINDS, WEAK_MEMBERS, schema_of
from cyborg_infra.manifest.schema import read_schema
from cyborg_infra.model import units
from cyborg_infra.model.buckets import BUCKET_SETTINGS, BUCKET_USERS, DEFAULTS, BucketSetting
from cyborg_infra.model.changes import Action, HazardName
from cyborg_infra.model.constraints import CONSTRAINTS
from cyborg_infra.model.fields import FIELDS, UNMANAGED, Field, Kind, Unit
from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.monitor import Observation
from cyborg_infra.model.organisation import ADMISSION, Alerts
from cyborg_infra.model.server_versions import LEVELS
from cyborg_infra.model.status import ALARMS, MONITOR_ALARMS, STATES, Condition, DeadLetterSummary, OrgStatus
from cyborg_infra.model.task_lifecycle import INITIAL_STATUS, STATUS_CHANGES, TaskStatus, next_statuses
from cyborg_infra.model.wording import Option, worded
from cyborg_infra.render import diagram
from cyborg_infra.render.command_line import spoken
from cyborg_infra.render.prometheus import PREFIX, Metric, observation_metrics, status_metrics
from cyborg_infra.render.server_config import permissions

ROOT = Path(__file__).resolve().parent.parent
INT64 = {"minimum": -units.MAX_INT64, "maximum": units.MAX_INT64}

Schema = dict[str, Any]

# What a value looks like in the manifest. A number is as good as its digits where text is wanted.
_TYPES: Mapping[Unit, Schema] = {
    Unit.SIZE: {"$ref": "#/$defs/size"},
    Unit.DURATION: {"$ref": "#/$defs/duration"},
    Unit.DURATIONS: {"type": "array", "items": {"$ref": "#/$defs/duration"}},
    Unit.COUNT: {"type": "integer", **INT64},
    Unit.FLAG: {"type": "boolean"},
    Unit.TEXT: {"type": ["string", "integer"], "maxLength": 4096},
    Unit.CHOICE: {"type": "string"},
    Unit.SUBJECT: {"$ref": "#/$defs/subject"},
    Unit.SUBJECTS: {"type": "array", "items": {"$ref": "#/$defs/subject"}, "uniqueItems": True},
    Unit.NAMES: {"type": "array", "items": {"type": "string", "minLength": 1}},
    Unit.TIME: {"$ref": "#/$defs/time"},
    Unit.OBJECT: {"type": "object", "additionalProperties": False},
    Unit.OBJECTS: {"type": "array"},
    Unit.METADATA: {"$ref": "#/$defs/metadata"},
}
# The members of objects: what each is, and an example.
_PARTS: Mapping[str, tuple[str, Any]] = {
    "cluster": ("Name of the cluster.", "eu-west"),
    "tags": ("Tags that a server must have, all of them.", ["ssd"]),
    "name": ("Name of the stream that messages come from.", "AGENT_CTO_TASKS"),
    "opt_start_seq": ("The first sequence number that is copied.", 1000),
    "opt_start_time": ("The earliest time that is copied, by RFC 3339.", "2026-01-31T00:00:00Z"),
    "filter_subject": ("The subjects that are copied.", "genbrain.agents.*.tasks"),
    "external": ("Where the stream is if it is in another account or domain.", {"api": "$JS.hub.API"}),
    "subject_transforms": (
        "Which subjects are copied, and under which name they are stored.",
        [{"src": "orders.*", "dest": "copied.{{wildcard(1)}}"}],
    ),
    "src": ("The subjects that are meant.", "orders.*"),
    "dest": ("The subject that becomes of them; {{wildcard(1)}} is what the first * stood for.", "stored.>"),
    "headers_only": ("Publish headers without the body.", True),
    "inactive_threshold": ("Longest that a consumer may go unused before the server deletes it.", "24h"),
    "max_ack_pending": ("Most messages being worked on at once over all workers of a consumer.", 100),
}
# Without these the server would have nothing to do.
_REQUIRED_PARTS = ("name", "src", "dest")


def org_schema() -> str:
    """schemas/org.schema.json, with streams, consumers, buckets, alarms and lint.ignore as the tables have them."""
    schema = json.loads((ROOT / "schemas/org.schema.json").read_text(encoding="utf-8"))
    parts = schema["$defs"]
    for kind, fields in FIELDS.items():
        parts[kind.value]["properties"] = {field.name: _property(field) for field in fields.values()}
    quiet = parts["organisation_alerts"]["properties"]["quiet"]["properties"]
    quiet["urgent"]["items"]["enum"] = [str(alarm) for alarm in (*ALARMS, *MONITOR_ALARMS)]
    parts["lint"]["properties"]["ignore"]["properties"] = {lint.code: _ignored(lint) for lint in EVERY_LINT}
    parts["tasks"]["properties"] = {ADMISSION: {"$ref": f"#/$defs/{ADMISSION}"}} | _same_as("stream", parts)
    users = {name: parts["bucket"]["properties"][name] for name in BUCKET_USERS}
    parts["bucket"]["properties"] = users | {
        word: _property(_narrowed(setting)) for word, setting in BUCKET_SETTINGS.items()
    }
    settings = _same_as("bucket", parts)
    parts["bucket_overrides"]["properties"] = {word: settings[word] for word in BUCKET_SETTINGS}
    item = schema["properties"]["key_value"]["items"]
    item["properties"] = {"name": item["properties"]["name"]} | _same_as("bucket", parts)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def status_schema() -> str:
    """schemas/status.schema.json, with the states of a queue and the codes of alarms as their table has them."""
    schema = json.loads((ROOT / "schemas/status.schema.json").read_text(encoding="utf-8"))
    schema["$defs"]["state"] = _conditions(STATES)
    schema["properties"]["alarms"]["items"]["properties"]["code"] = _conditions(ALARMS)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def plan_schema() -> str:
    """schemas/plan.schema.json, with the names of hazards and actions as the model has them."""
    schema = json.loads((ROOT / "schemas/plan.schema.json").read_text(encoding="utf-8"))
    names = [str(name) for name in HazardName]
    schema["properties"]["allow"]["items"]["enum"] = names
    schema["$defs"]["hazard"]["properties"]["name"]["enum"] = names
    actions, summary = [str(action) for action in Action], schema["properties"]["summary"]
    schema["$defs"]["change"]["properties"]["action"]["enum"] = actions
    summary["required"] = [*actions, "unchanged"]
    others = {name: summary["properties"][name] for name in ("unchanged", "renamed")}
    summary["properties"] = {action: {"type": "integer", "minimum": 0} for action in actions} | others
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def apply_schema() -> str:
    """schemas/apply.schema.json, with the actions as the model has them."""
    schema = json.loads((ROOT / "schemas/apply.schema.json").read_text(encoding="utf-8"))
    schema["$defs"]["outcome"]["properties"]["action"]["enum"] = [str(action) for action in Action]
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _conditions(rows: Iterable[Condition]) -> Schema:
    return {
        "enum": [str(row) for row in rows],
        "description": " ".join(f"{row}: {row.means}" for row in rows),
    }


def _ignored(lint: Lint | LintOfAll) -> Schema:
    """Return a warning as the schema describes it: what it is about, and that ignoring it takes a reason."""
    return {
        "description": f"Why this is right here: {lint.about.replace('`', '')}.",
        "type": "string",
        "pattern": "\\S",
        "patternErrorMessage": "must say why",
        "examples": ["agents here answer in seconds"],
    }


def _same_as(part: str, parts: Mapping[str, Schema]) -> Schema:
    """Return the properties of another part of the schema, by reference."""
    return {name: {"$ref": f"#/$defs/{part}/properties/{name}"} for name in parts[part]["properties"]}


def _narrowed(setting: BucketSetting) -> Field:
    """Return a bucket's setting as a row of the table."""
    field = FIELDS[Kind.STREAM][setting.field]
    return field._replace(
        doc=setting.doc,
        example=setting.example,
        default=DEFAULTS.get(field.name, field.default),
        least=setting.least if setting.least is not None else field.least,
        most=setting.most if setting.most is not None else field.most,
    )


def _property(field: Field) -> Schema:
    """Return one field as the schema describes it."""
    found: Schema = {"description": _description(field), **_type(field)}
    if field.default is not None:
        found["default"] = _written(field.unit, field.default)
    return found | {"examples": [field.example]}


def _description(field: Field) -> str:
    since = f" Since nats-server {LEVELS[field.since]}." if field.since else ""
    return f"{field.doc} Unit: {field.unit.value}.{since}"


def _type(field: Field) -> Schema:
    found = dict(_TYPES[field.unit])
    if field.least is not None:
        found["minimum"] = field.least
    if field.most is not None:
        found["maximum"] = field.most
    if field.choices:
        found["enum"] = list(field.choices)
    if field.parts:
        needed = {"required": [name for name in field.parts if name in _REQUIRED_PARTS]}
        parts: Schema = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: _part(name, unit) for name, unit in field.parts.items()},
        }
        if field.unit is Unit.OBJECT:  # an empty one says that there is none
            found |= parts | {"if": {"minProperties": 1}, "then": needed}
        else:
            found["items"] = parts | needed
    return found


def _part(name: str, unit: Unit) -> Schema:
    """Return a member of an object; one that is an object itself is described by hand under its own name."""
    doc, example = _PARTS[name]
    nested = unit in (Unit.OBJECT, Unit.OBJECTS)
    found: Schema = {"$ref": f"#/$defs/{name}"} if nested else dict(_TYPES[unit])
    if name == "name":
        found["minLength"] = 1
    return {"description": f"{doc} Unit: {unit.value}.", **found, "examples": [example]}


def _written(unit: Unit, value: Any) -> Any:
    """Return a wire value as a manifest would write it."""
    if unit is Unit.DURATION:
        return units.format_duration(value) if value else 0
    return list(value) if isinstance(value, tuple) else value


def fields_reference() -> str:
    """docs/reference/fields.md: every field that a manifest may set."""
    tables = [line for kind in Kind for line in _fields_table(kind)]
    return "\n".join([_FIELDS_HEAD, *tables, _ADMISSION, *_buckets_table()]) + "\n"


def constraints_reference() -> str:
    """docs/reference/constraints.md: what servers refuse about a configuration, and what is refused besides."""
    rows = "".join(
        f"| {row.concerns.value} | {_escaped(row.says)} | {_escaped(row.instead)} | "
        f"{'; '.join(filter(None, map(str, row.versions))) or 'all'} | {row.error} | `{row.code}` |\n"
        for row in CONSTRAINTS
    )
    ours = "".join(f"| `{code}` | {_escaped(why)} |\n" for code, why in OWN_RULES.items())
    return _CONSTRAINTS_HEAD.format(rows=rows, ours=ours)


_CONSTRAINTS_HEAD = """\
# What servers refuse

The rules of nats-server about the configuration of a stream or consumer. Generated from
`cyborg_infra/model/constraints.py`. `validate` refuses what no supported server takes, `plan` what the server that is
planned for does not take; `make fuzz` holds both to what servers of five versions do. What may be changed on a living
stream or consumer is in [the fields](fields.md).

| about | rule | instead | nats-server | err_code | code |
|---|---|---|---|---|---|
{rows}
## Refused although servers take it

Few things are refused that a server would take. All other refusals are the server's own.

| code | why |
|---|---|
{ours}
A value that its field's unit cannot have (`bad-value`), such as a subject with a blank, is refused everywhere, also where
a server does not look at it.
"""


_FIELDS_HEAD = """\
# Fields

Every field of a stream or a consumer that a manifest may set, by JetStream's own names. Generated from
`cyborg_infra/model/fields.py`. The defaults are the server's; those of an organisation are in the schema.
"Changes in place" says whether a living stream or consumer takes another value; where it does not, the plan
replaces the resource or says why it cannot."""


_ADMISSION = """
## Admission of tasks

`admission: {max_pending: 5}`, under `streams.tasks` for all roles or under a role's `tasks`, is no JetStream field. It
stands for three: `retention: workqueue`, `discard: new` and `max_msgs: 5`. What a stream so configured holds is what
is unfinished, waiting or being worked on, and the server itself refuses the sixth: the publisher gets `maximum
messages exceeded` (err_code 10077) instead of an acknowledgement, and gets through after the next acknowledged task.

- One of the three fields set to something else at the same place or a narrower one is an error. A role's
  `admission: {}` lifts that of all roles.
- A task that used up its deliveries is unfinished: it keeps its place until it is taken out of the stream, or until
  `max_age` ends (72h by default). Five of them, and the role takes no more tasks.
- A publisher has to wait for the acknowledgement: one who does not, never hears of the refusal.
- A refused task may be sent again under the same `Nats-Msg-Id`, except where the stream has replicas and the server is
  older than 2.12: for the length of `duplicate_window`, 2.11 refuses it (10158), and 2.10 answers `duplicate` without
  having it. There a new try needs a new id. (Measured on 2.10.26, 2.11.11, 2.12.8, 2.14.6 and 2.15.1.)
- Switched on for a living stream it is a change of `retention`, so the stream is replaced. Where more is unfinished
  than is admitted, nothing is deleted; publishers are refused until it is less."""


def _buckets_table() -> Iterable[str]:
    yield "\n## Settings of a key-value bucket\n"
    yield "Under `key_value`, in the words of the NATS clients. Each stands for a field of the stream `KV_<name>`. The"
    yield "defaults are the organisation's; those that differ from the server's are what the clients set.\n"
    yield "| setting | stream field | unit | default | meaning | example |"
    yield "|---|---|---|---|---|---|"
    for word, setting in BUCKET_SETTINGS.items():
        field = _narrowed(setting)
        default = _code(_written(field.unit, field.default))
        cells = (f"`{word}`", f"`{field.name}`", _unit(field), default, field.doc, _code(field.example))
        yield f"| {' | '.join(cells)} |"


def _fields_table(kind: Kind) -> Iterable[str]:
    yield f"\n## Fields of a {kind.value}\n"
    yield "| field | unit | default | since | changes in place | meaning | example |"
    yield "|---|---|---|---|---|---|---|"
    for field in FIELDS[kind].values():
        cells = (
            f"`{field.name}`",
            _unit(field),
            _code(_written(field.unit, field.default)),
            str(LEVELS[field.since]),
            (field.update.__doc__ or "").strip(),
            field.doc,
            _code(field.example),
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


_FIELD_NAMES_HEAD = '''\
"""The names of settings by the type of their values, so that a type checker knows what `Resource.get` returns.

Written by `docs/generate.py` from the rows of `model.fields`.
"""

from __future__ import annotations

from typing import Literal

# fmt: off
'''

_FIELD_TYPES: Mapping[str, tuple[type | None, tuple[Unit, ...], str]] = {
    "NumberField": (
        int,
        (Unit.SIZE, Unit.DURATION, Unit.COUNT),
        "Counts, sizes in bytes and durations in nanoseconds.",
    ),
    "TextField": (
        str,
        (Unit.TEXT, Unit.CHOICE, Unit.SUBJECT, Unit.TIME),
        "Texts, choices, single subjects and times.",
    ),
    "FlagField": (bool, (Unit.FLAG,), "Flags."),
    "TextsField": (None, (Unit.SUBJECTS, Unit.NAMES), "Lists of subjects or names."),
    "NumbersField": (None, (Unit.DURATIONS,), "Lists of durations in nanoseconds."),
    "ObjectField": (None, (Unit.OBJECT,), "Objects."),
    "ObjectsField": (None, (Unit.OBJECTS,), "Lists of objects."),
}
"""The name of a type -> what unmanaged settings of it are, which units, and what it says. Metadata is read otherwise."""


def field_names() -> str:
    """cyborg_infra/model/field_names.py: the fields of the table by the type of their values."""
    return _FIELD_NAMES_HEAD + "".join(
        f'\n{name} = Literal[\n{_literals(plain, units)}]\n"""{doc}"""\n'
        for name, (plain, units, doc) in _FIELD_TYPES.items()
    )


def _literals(plain: type | None, units: tuple[Unit, ...]) -> str:
    managed = (field.name for table in FIELDS.values() for field in table.values() if field.unit in units)
    others = (name for name, absent in UNMANAGED.items() if type(absent) is plain)
    return "".join(f'    "{name}",\n' for name in dict.fromkeys((*managed, *others)))


def _unit(field: Field) -> str:
    choices = ", ".join(f"`{choice}`" for choice in field.choices or ())
    parts = ", ".join(f"`{part}`" for part in field.parts or ())
    return f"{field.unit.value}{': ' if choices or parts else ''}{choices}{parts}"


def _code(value: Any) -> str:
    if value in (None, "", []):
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def cli_reference() -> str:
    """docs/reference/cli.md: the help of every command, as it is on a terminal of 80 columns."""
    from cyborg_infra.cli.app import names

    words = ["", *(f" {name}" for name in names())]
    return _CLI_HEAD + "".join(f"\n## cyborg-infra{name}\n\n```text\n{_help(name)}```\n" for name in words)


_CLI_HEAD = """\
# Command line

What `--help` says. Exit codes: 0 done or in sync; 1 an error, wrong usage included; 2 there are differences
(`drift`, `plan --detailed-exitcode`) or alarms (`status --check`); 3 refused, because it could lose something that was not allowed by name,
or cannot be done. Data goes to stdout, talk to stderr.
"""


def _help(command: str) -> str:
    from cyborg_infra.cli.app import run_command_line

    shown = io.StringIO()
    os.environ["COLUMNS"] = "80"
    with contextlib.redirect_stdout(shown):
        run_command_line([*command.split(), "--help"])
    return "".join(f"{line.rstrip()}\n" for line in shown.getvalue().splitlines())


def example_file(name: str) -> str:
    """A file of examples/, as `cyborg-infra export python` writes it of the manifest there."""
    from cyborg_infra.cli.app import run_command_line

    manifest = str(ROOT / "examples/organisation.yaml")
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
        run_command_line(["export", "python", manifest, "--out", directory])
        return (Path(directory) / name).read_text(encoding="utf-8")


def messages_reference() -> str:
    """docs/reference/messages.md: the types of messages, how they are told apart, and the life of a task."""
    steps = "".join(f"    {step.before} --> {step.after}: {step.when}\n" for step in STATUS_CHANGES)
    ends = "".join(f"    {status} --> [*]\n" for status in TaskStatus if not next_statuses(status))
    rows = "".join(f"| `{step.before}` | `{step.after}` | {step.when} |\n" for step in STATUS_CHANGES)
    telling = "".join(f"| {kind} | {_telling(kind)} |\n" for kind in MessageKind)
    head = _MESSAGES_HEAD.format(first=INITIAL_STATUS, steps=steps, ends=ends, rows=rows, telling=telling)
    return head + "".join(part for kind in MessageKind for part in _message_section(kind))


_MESSAGES_HEAD = """\
# Messages

What agents send one another: JSON objects in UTF-8, with a schema each in `schemas/messages/`. Times are RFC 3339
in UTC, ids are strings. Members that are not named here are allowed.

`cyborg-infra message check FILE` holds messages to all of this, one object or one a line, and needs no server.
Every problem is reported with its line; a key given twice, a number that is not finite and half a character are
problems as well, because no two readers agree on them.

## The life of a task

The task itself is its first status, `{first}`. Every step after that is a status message, which names the status
before as well.

```mermaid
stateDiagram-v2
    [*] --> {first}: published
{steps}{ends}```

| from | to | when |
|---|---|---|
{rows}
`message check` holds the messages of one task, in the order they stand in, to this table. The first message of a
task may be any step of it. Only a task that was rejected is published again under its id, for another role.

## What tells the type

`--type` says it for all messages of the file. Without it a message tells its own type:

| type | by |
|---|---|
{telling}
A message that fits none of these, or several, is a problem: say the type with `--type`.
"""


def _telling(kind: MessageKind) -> str:
    if kind in WEAK_MEMBERS:
        return f"`{WEAK_MEMBERS[kind]}`, where there is no `task_id` and nothing else tells the type"
    members = (
        f"`{name}`" + (" of " + " or ".join(f"`{value}`" for value in values) if values else "")
        for name, values in IDENTIFYING_MEMBERS[kind].items()
    )
    kept = ", ".join(STORED_KINDS[:-1]) + f" or {STORED_KINDS[-1]}"
    also = f"; or what tells a {kept}, with a `reason`" if kind is MessageKind.DEAD_LETTER else ""
    return " and ".join(members) + also


def _message_section(kind: MessageKind) -> Iterable[str]:
    schema = read_schema(schema_of(kind))
    yield f"\n## {schema['title']}\n\n{_escaped(schema['description'])}\n\n"
    yield _members(schema, schema)
    for inner in schema.get("$defs", {}).values():
        if "properties" in inner:
            yield f"\n### {schema['title']}: {inner['title']}\n\n{inner['description']}\n\n"
            yield _members(schema, inner)
    for example in schema["examples"]:
        yield f"\n```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```\n"


def _members(schema: Schema, node: Schema) -> str:
    rows = "".join(
        f"| `{name}` | {_json_type(schema, member)} | {needed} | {_escaped(member['description'])} | "
        f"{', '.join(_code(example) for example in member['examples'])} |\n"
        for name, needed, member in _flat(node)
    )
    return "| member | type | required | meaning | example |\n|---|---|---|---|---|\n" + rows


def _flat(node: Schema, path: str = "") -> Iterable[tuple[str, str, Schema]]:
    """Return every member of an object, and of the objects in it."""
    for name, member in node["properties"].items():
        yield f"{path}{name}", "yes" if name in node.get("required", ()) else "", member
        if "properties" in member:
            yield from _flat(member, f"{path}{name}.")


def _json_type(schema: Schema, node: Schema) -> str:
    """Return the type of a member in words, as the schema has it."""
    if "$ref" in node:
        name = str(node["$ref"]).rpartition("/")[2]
        if name in ("id", "role", "time"):
            return name
        node = schema["$defs"][name]
    choices = node.get("enum") or [node["const"]] if "enum" in node or "const" in node else []
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    types = [node["type"]] if isinstance(node["type"], str) else node["type"]
    inner = node.get("items") or node.get("additionalProperties")
    return " or ".join(types) + (f" of {_json_type(schema, inner)}" if inner else "")


def problems_reference() -> str:
    """docs/reference/problems.md: what `--allow` takes, what `validate` warns of, and every problem's code and message."""
    hazards = "".join(f"| `{name}` | {_HAZARDS[name]} |\n" for name in HazardName)
    codes = {row.code: f"…: {row.says}" for row in reversed(CONSTRAINTS)}
    for path in sorted((ROOT / "cyborg_infra").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name("Problem"), args=[ast.Constant(str(code)), message, *_]):
                    codes.setdefault(code, _message(message))
    rows = "".join(f"| `{code}` | {_escaped(codes[code])} |\n" for code in sorted(codes))
    return _PROBLEMS_HEAD.format(
        hazards=hazards, unneeded=UNNEEDED_IGNORE_CODE, warnings=_warnings(), problems=rows
    )


def status_reference() -> str:
    """docs/reference/status.md: the words for how a queue is, and for what can be wrong."""
    rows = "".join(
        f"| `{row}` | {'yes' if row.is_state else ''} | {row.alarm} | {row.means} |\n" for row in Condition
    )
    return _STATUS_HEAD.format(monitor=", ".join(f"`{each}`" for each in MONITOR_ALARMS)) + rows


def metrics_reference() -> str:
    """docs/reference/metrics.md: what each metric is, of a status and of the monitor, by its HELP."""
    seen = OrgStatus("", None, None, "", Alerts(), (), (), DeadLetterSummary(0), (), {}, {}, ())
    of_status, of_monitor = status_metrics(seen), observation_metrics(Observation("", None), 0)
    return _METRICS_HEAD.format(
        status=_metric_rows(of_status),
        monitor=_metric_rows({name: found for name, found in of_monitor.items() if name not in of_status}),
    )


def _metric_rows(metrics: Mapping[str, Metric]) -> str:
    return "".join(
        f"| `{PREFIX}{name}` | {'counter' if name.endswith('_total') else 'gauge'} | {meaning.partition('. ')[0].rstrip('.')} |\n"
        for name, (meaning, _) in metrics.items()
    )


_METRICS_HEAD = """\
# Metrics

In Prometheus' format, each sample with the label `org`. Generated from `cyborg_infra/render/prometheus.py`; what the HELP of a metric
says besides are the [states and alarms](status.md). Those of a queue have
the labels `role` and `queue`, those of a stream `stream`. Ages are in seconds. What is not known has no sample.

## Of a status

`cyborg-infra status --format prometheus`, and the monitor.

| metric | type | meaning |
|---|---|---|
{status}
## Of the monitor alone

| metric | type | meaning |
|---|---|---|
{monitor}"""


def permissions_how_to() -> str:
    """docs/how-to/permissions.md, with the permissions of an example as they are derived. A block names its identity first."""
    org = loads("org: acme\nroles: [cto, backend]\n")
    found = {identity.name: identity for identity in identities(org, expand(org))}
    text = (ROOT / "docs/how-to/permissions.md").read_text(encoding="utf-8")
    return re.sub(
        r"(```text\n# (\w+)\n).*?```",
        lambda match: f"{match[1]}{permissions(found[match[2]])}\n```",
        text,
        flags=re.DOTALL,
    )


def watch_it_how_to() -> str:
    """docs/how-to/watch-it.md, with what to do about each alarm as its table has it."""
    rows = "".join(f"| `{row}` | {spoken(row.remedy)} |\n" for row in (*ALARMS, *MONITOR_ALARMS))
    text = (ROOT / "docs/how-to/watch-it.md").read_text(encoding="utf-8")
    return re.sub(
        r"(\| alarm \| what to do \|\n\|---\|---\|\n)(\|.*\n)*",
        lambda match: match[1] + rows,
        text,
    )


_STATUS_HEAD = """\
# States and alarms

The words of `cyborg-infra status`, one meaning each, in all its formats. Generated from
`cyborg_infra/model/status.py`. A queue is in the first state, by this order, that holds of it. What can be done about
an alarm is in [Watch a running organisation](../how-to/watch-it.md). What takes a plan, or somebody who
goes on looking, [the monitor](../how-to/monitor.md) alone tells: {monitor}.

| word | state of a queue | alarm | meaning |
|---|---|---|---|
"""


def _warnings() -> str:
    rows = [(f"`{lint.code}`", lint.about, lint.reason, lint.advice) for lint in EVERY_LINT]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


_HAZARDS = {
    "deletes-messages": "messages that are in a stream now would be gone; it says how many of them are unfinished: not acknowledged by everybody who reads them, or read by nobody",
    "resets-progress": "a consumer would start over: finished messages come again, or waiting ones are skipped",
    "stops-capture": "a subject that is still somebody's would no longer be stored; what is published on it is lost",
    "repeats-work": "work that is under way, or that is done already, would be handed out a second time",
    "mass-change": "so much of the organisation would go at once that a wrong manifest is the likelier explanation",
    "loses-redundancy": "fewer servers would have a copy of a stream, or of where a consumer stands",
    "environment-change": "the organisation was applied here from another environment of its manifest, or without one",
}
_PROBLEMS_HEAD = """\
# Hazards, warnings and problems

## Hazards

What a change may cost, computed from the live server, with a count. `apply` takes each by name, with
`--allow NAME`; there is no way to allow them all.

| hazard | meaning |
|---|---|
{hazards}
## Warnings

What `validate` says of settings that are legal and cost something; with `--strict` it then exits 1. A manifest
[ignores](../how-to/warnings.md) a warning by its code, and says why. An `ignore` that finds nothing is a warning
as well, `{unneeded}`, which cannot be ignored.

| code | setting | why | instead |
|---|---|---|---|
{warnings}
## Problems

The `code` of a problem in JSON output is stable; the message is for people. Some codes have several messages, of
which this is one; `…` is what differs.

| code | message |
|---|---|
{problems}"""


def _message(node: ast.expr) -> str:
    """Return the text of a message in the source, with an ellipsis for what is put into it."""
    match node:
        case ast.Constant(str(text)):
            return text
        case ast.Call(func=ast.Name("worded"), args=[ast.Constant(str(template)), *named]):
            return spoken(worded(template, *map(_argument, named)))
        case ast.JoinedStr(parts):
            return "".join(_message(part) for part in parts)
        case ast.BinOp(left, ast.Add(), right):
            return _message(left) + _message(right)
    return "…"


def _argument(node: ast.expr) -> Option | str:
    match node:
        case ast.Call(func=ast.Name("Option"), args=[ast.Constant(str(name))]):
            return Option(name)
    return "…"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
_HERE_DOCUMENT = re.compile(r"cat > \S+ <<'END'\n(.*?)\nEND\n", re.DOTALL)


_OF_A_MANIFEST = "\n  %% Organisation "  # tells a picture that `show` draws from one that somebody drew


def with_pictures(path: Path) -> str:
    """Return a document in which every picture of an organisation is of the manifest above it."""
    above = ""

    def drawn(block: re.Match[str]) -> str:
        nonlocal above
        language, text = block.groups()
        if language == "mermaid" and _OF_A_MANIFEST in text:
            return f"```mermaid\n{diagram.mermaid(diagram.draw(loads(above)))}```"
        written = [text] if language == "yaml" else _HERE_DOCUMENT.findall(text)
        above = next((each for each in reversed(written) if "roles:" in each), above)
        return block[0]

    return _BLOCK.sub(drawn, path.read_text(encoding="utf-8"))


def _with_pictures() -> Mapping[str, Callable[[], str]]:
    """Return the pages that have such a picture, and what each must contain."""
    pages = sorted((ROOT / "docs/how-to").glob("*.md"))
    drawn = [page for page in pages if _OF_A_MANIFEST in page.read_text(encoding="utf-8")]
    return {str(page.relative_to(ROOT)): partial(with_pictures, page) for page in drawn}


GENERATED: Mapping[str, Callable[[], str]] = {
    **_with_pictures(),
    "schemas/org.schema.json": org_schema,
    "schemas/plan.schema.json": plan_schema,
    "schemas/apply.schema.json": apply_schema,
    "schemas/status.schema.json": status_schema,
    "cyborg_infra/model/field_names.py": field_names,
    "docs/reference/fields.md": fields_reference,
    "docs/reference/constraints.md": constraints_reference,
    "docs/reference/cli.md": cli_reference,
    "docs/reference/messages.md": messages_reference,
    "docs/reference/problems.md": problems_reference,
    "docs/reference/status.md": status_reference,
    "docs/reference/metrics.md": metrics_reference,
    "docs/how-to/permissions.md": permissions_how_to,
    "docs/how-to/watch-it.md": watch_it_how_to,
    **{
        f"examples/{name}": partial(example_file, name)
        for name in (".cyborg-infra-python.json", "messaging.py")
    },
}
"""Each generated file and what it must contain; of pages with a picture, that the picture is true. A further reference is one function and one line here."""


def main(arguments: list[str]) -> int:
    """Write every stale file, or with --check only names them; returns the exit code."""
    check = arguments == ["--check"]
    stale = []
    for name, text in GENERATED.items():
        path = ROOT / name
        wanted = text()
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            stale.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(wanted, encoding="utf-8")
    for name in stale:
        sys.stderr.write(f"{name} {'is stale: run docs/generate.py' if check else 'written'}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
