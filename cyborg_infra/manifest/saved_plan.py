"""Load a saved plan. Its changes are not loaded: they are planned again and compared.

A file can be written by anybody, its digest too: what is read from it is what `plan --out` could have written, or it is
refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, assert_never

from cyborg_infra import files
from cyborg_infra.manifest import schema
from cyborg_infra.model.changes import (
    Action,
    Adopt,
    Blocked,
    Cause,
    Change,
    Create,
    Delete,
    FieldChange,
    Hazard,
    HazardName,
    Migrate,
    PossibleChange,
    Replace,
    Update,
)
from cyborg_infra.model.channels import is_kind
from cyborg_infra.model.counting import Share
from cyborg_infra.model.fields import FIELDS, Field, Kind, Unit
from cyborg_infra.model.json_shapes import Check, config_of
from cyborg_infra.model.last_applied import AppliedRecord
from cyborg_infra.model.metadata_keys import APPLIED_KEY, KIND_KEY, OWNER_KEY
from cyborg_infra.model.plan import Plan, Reservation
from cyborg_infra.model.problems import PlanStale, Problem, SourcePosition
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import (
    ConsumerCounts,
    DesiredResource,
    DesiredState,
    LiveResource,
    Resource,
    StreamCounts,
    digest_of,
)
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import Version
from cyborg_infra.model.subjects import is_name, is_pattern, is_token
from cyborg_infra.model.wording import Option, worded

MARKER = b'"type": "saved-plan"'
"""The first member of the file, so that it is known by its first bytes whatever it is called."""

MAX_PLAN_BYTES = 1024**3  # bytes; a plan of 10,000 roles from nothing takes a tenth of it


def _always_present(kind: Kind) -> Iterator[str]:
    """Yield the fields that every desired configuration has, whatever its server's version is."""
    yield from ("name", "metadata")
    for field in FIELDS[kind].values():
        if field.since == 0 and field.default not in (None, "", ()):
            yield field.name


_SCHEMA = "saved-plan.schema.json"
_SHOWN = "plan.schema.json"  # of what the file has for readers, and for what it announced
_CONFIG: Mapping[Kind, Check] = {kind: config_of(kind, tuple(_always_present(kind))) for kind in Kind}

_BOTH, _NEW, _OLD = (True, True), (False, True), (True, False)


def _sides(action: Action) -> tuple[tuple[bool, bool], ...]:
    """Return which of before and after a change may have."""
    match action:
        case Action.CREATE:
            return (_NEW,)
        case Action.ADOPT | Action.UPDATE | Action.REPLACE:
            return (_BOTH,)
        case Action.DELETE:
            return (_OLD,)
        case Action.IMPOSSIBLE:
            return (_BOTH, _NEW, _OLD)
        case _:
            assert_never(action)


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Return whether the file is a saved plan and not a manifest, by its first bytes."""
    return files.begins_with_member(path, MARKER)


def load_saved(path: str | os.PathLike[str]) -> Plan:
    """Return what the plan was asked for (`desired`, `targets`, `prune`), the state that it holds for, and what it announced.

    Of its changes it has those that cost something: what is applied may cost no more. Raises PlanStale for a file that
    is damaged, edited, or of another version of cyborg-infra.
    """
    data = _read(path)
    shown = data["plan"]
    return replace(
        _decode_request(data),
        changes=tuple(_change(row) for row in shown["changes"] if row["hazards"]),
        plan_hazards=tuple(map(_hazard, shown["hazards"])),
    )


def load_changes(path: str | os.PathLike[str]) -> Plan:
    """Return the plan as it was shown when it was saved, with its changes: for readers. Raises as `load_saved` does."""
    data = _read(path)
    shown = data["plan"]
    return replace(
        _decode_request(data),
        changes=tuple(map(_change, shown["changes"])),
        orphans=tuple(_resource(row, row["config"], row["counts"]) for row in shown["orphans"]),
        problems=tuple(map(_problem, shown["problems"])),
        notes=tuple(shown["notes"]),
        server_info=_with_applied_record(_facts(shown["server"]), shown.get("applied")),
        has_live_resources=shown.get("present", True),
        reserves=tuple(Reservation(**row) for row in shown.get("reserves", ())),
        waits={_ref(row): row["working"] for row in shown.get("waits", ())},
        unchanged_count=shown["summary"]["unchanged"],
        plan_hazards=tuple(map(_hazard, shown["hazards"])),
    )


def _with_applied_record(
    server_info: ServerInfo | None, applied: Mapping[str, Any] | None
) -> ServerInfo | None:
    """Return the server info with the applied record, as far as a plan shows it."""
    if server_info is None or applied is None:
        return server_info
    known = AppliedRecord(
        applied["version"], applied["environment"], applied["complete"], None, applied["at"]
    )
    return server_info._replace(applied_record=known)


def _decode_request(data: Mapping[str, Any]) -> Plan:
    return Plan(
        org=data["org"],
        live_digests={_parsed(ref): digest for ref, digest in data["base"].items()},
        desired=DesiredState({_ref(row): _desired(row) for row in data["desired"]}),
        server_info=_facts(data["server"]),
        environment=data["environment"],
        targets=tuple(data["targets"]),
        prune=data["prune"],
    )


def _read(path: str | os.PathLike[str]) -> Any:
    where = SourcePosition(str(path), 1, 1)
    try:
        data = files.parse_json(files.read_bytes(path, MAX_PLAN_BYTES))
    except files.Unreadable as error:
        raise _refusal(f"the saved plan cannot be read: {error}", where) from None
    _refuse_unless_whole(data, where)
    if fault := _misfit(data, _SCHEMA) or _misfit(data["plan"], _SHOWN) or next(_faults(data), ""):
        raise _refusal(f"this is no plan that this version of cyborg-infra can apply ({fault})", where)
    return data


def _change(row: Mapping[str, Any]) -> Change:
    """Return the change as it was shown. How it is carried out is saved only for a stream that gets another name."""
    action, hazards, needs = (
        Action(row["action"]),
        tuple(map(_hazard, row["hazards"])),
        tuple(map(_parsed, row["needs"])),
    )
    possible = _possible_change(row, action)
    if action is Action.IMPOSSIBLE:
        return Blocked(possible, tuple(map(_problem, row["problems"])), hazards=hazards, depends_on=needs)
    return replace(possible, hazards=hazards, depends_on=needs)


def _possible_change(row: Mapping[str, Any], action: Action) -> PossibleChange:
    place = _parsed(row["renamed_from"]) if row["renamed_from"] else _ref(row)
    before = None if row["before"] is None else LiveResource(place, row["before"])
    after = None if row["after"] is None else DesiredResource(_ref(row), row["after"])
    fields = tuple(FieldChange(*(each[part] for part in FieldChange._fields)) for each in row["fields"])
    cause, reason = Cause(row["cause"]), row["reason"] or ""
    if after is None:
        if before is None:
            raise ValueError("a change has a before or an after: `_faults` has looked")
        return Delete(before, cause=cause, reason=reason)
    if before is None:
        return Create(after, cause=cause, reason=reason)
    if action is Action.REPLACE and row.get("renames") is True and not after.ref.consumer:
        return Replace(before, after, fields, cause=cause, reason=reason, method=Migrate(before.ref))
    differing: Mapping[Action, type[Adopt | Update | Replace]] = {
        Action.ADOPT: Adopt,
        Action.REPLACE: Replace,
    }
    return differing.get(action, Update)(before, after, fields, cause=cause, reason=reason)


def _resource(
    row: Mapping[str, Any], config: Mapping[str, Any], counts: Mapping[str, Any] | None
) -> LiveResource:
    of_kind = ConsumerCounts if row["consumer"] else StreamCounts
    return LiveResource(_ref(row), config, counts=None if counts is None else of_kind(**counts))


def _desired(row: Mapping[str, Any]) -> DesiredResource:
    return DesiredResource(_ref(row), row["config"], left_open=frozenset(row.get("left_open", ())))


def _hazard(row: Mapping[str, Any]) -> Hazard:
    share = row.get("unfinished")  # absent from plans of earlier versions
    return Hazard(
        HazardName(row["name"]),
        row["reason"],
        row["count"],
        row["bytes"],
        row["exact"],
        unfinished=Share(**share) if share else None,
    )


def _problem(row: Mapping[str, Any]) -> Problem:
    return Problem(
        row["code"], row["message"], SourcePosition(**row["where"]) if row["where"] else None, row["hint"]
    )


def _refusal(message: str, where: SourcePosition) -> PlanStale:
    return PlanStale(
        Problem("saved-plan", message, where, worded("make a new one with plan {}", Option("out")))
    )


def _refuse_unless_whole(data: Any, where: SourcePosition) -> None:
    """Raise PlanStale if the file is not what was written. Whatever is nested for ever ends here as well."""
    content = {key: value for key, value in data.items() if key != "digest"} if isinstance(data, dict) else {}
    try:
        digest = digest_of(content)
    except TypeError:  # more than 254 levels
        raise _refusal("the saved plan cannot be read: it is nested too deeply", where) from None
    if content and "digest" in data and digest != data["digest"]:
        raise _refusal("the saved plan is not what was written: it was edited or is damaged", where)


def _misfit(data: Any, name: str) -> str:
    """Return why the data does not fit the schema of this name; empty if it does."""
    if schema.accepts(name, data):
        return ""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema.read_schema(name)).iter_errors(data))
    if error is None:
        return "the file"
    place = "/".join(str(part) for part in error.absolute_path)
    return f"{place or 'the file'}: {error.message}"[:200]


def _faults(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a schema cannot say. Only of data that fits the schema."""
    if not (is_token(data["org"]) and is_name(data["org"])):
        yield f"org: {data['org'][:64]!r} is no organisation"
    if data["server"] is not None:
        try:
            Version.parse(data["server"]["version"])
        except ValueError as error:
            yield f"server/version: {error}"
    refs = [_ref(row) for row in data["desired"]]
    for ref in (*refs, *map(_parsed, data["base"])):
        if not (is_name(ref.stream) and (not ref.consumer or is_name(ref.consumer))):
            yield f"{str(ref)[:64]!r} is no name of a stream or consumer"
    streams = {ref.stream for ref in refs if not ref.consumer}
    if len(set(refs)) != len(refs) or not streams >= {ref.stream for ref in refs}:
        yield "desired: each stream and consumer has to be there once, and each consumer's stream"
    yield from _change_faults(data["plan"]["changes"])
    for ref, row in zip(refs, data["desired"], strict=True):
        if fault := _config_fault(ref, row["config"], data["org"]):
            yield f"{ref}: {fault}"


def _change_faults(changes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in changes:
        if (row["before"] is not None, row["after"] is not None) not in _sides(Action(row["action"])):
            yield f"changes: {str(_ref(row))[:64]!r} has not what there is of {row['action']!r}"


def _config_fault(ref: Ref, config: dict[str, Any], org: str) -> str:
    """Return why this is no configuration that a manifest expands to, or nothing."""
    if (misfit := _CONFIG[ref.kind](config)) is not None:
        return str(misfit)
    if config["name"] != ref.name or config.get("durable_name", ref.name) != ref.name:
        return "its configuration has another name"
    labels = config["metadata"]
    if labels.get(OWNER_KEY) != org or not is_kind(
        labels.get(KIND_KEY, ""), consumer=ref.kind is Kind.CONSUMER
    ):
        return f"its configuration is not marked as one of {org}"
    if labels.get(APPLIED_KEY) != Resource(ref, config).digest():
        return "its configuration has another digest than it says"
    table = FIELDS[ref.kind]
    for key, value in config.items():
        if key in ("name", "durable_name"):
            continue
        if key not in table:
            return f"{key[:64]!r} is no field"
        if fault := _value_fault(table[key], value):
            return f"{key} {fault}"
    return ""


def _value_fault(field: Field, value: Any) -> str:
    if field.choices is not None and value not in field.choices:
        return f"is none of {', '.join(field.choices)}"
    if field.unit is Unit.SUBJECT and value and not is_pattern(value):
        return "is no subject"
    if field.unit is Unit.SUBJECTS and not all(map(is_pattern, value)):
        return "has what is no subject"
    if field.least is not None and value < field.least:
        return f"is less than {field.least}"
    if field.most is not None and value > field.most:
        return f"is more than {field.most}"
    return ""


def _ref(row: Mapping[str, Any]) -> Ref:
    return Ref(row["stream"], row["consumer"] or "")


def _parsed(text: str) -> Ref:
    stream, _, consumer = text.partition("/")
    return Ref(stream, consumer)


def _facts(server: Mapping[str, Any] | None) -> ServerInfo | None:
    if server is None:
        return None
    return ServerInfo(
        Version.parse(server["version"]),
        server["level"],
        server=server["name"],
        url=server["url"],
        account=server["account"],
        cluster=server["cluster"],
        domain=server["domain"],
        context=server["context"],
        source=server["source"],
    )
