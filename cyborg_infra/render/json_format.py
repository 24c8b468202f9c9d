"""Values as JSON: complete, in wire form, each with a schema in schemas/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cyborg_infra.model.buckets import bucket_stream
from cyborg_infra.model.changes import Action, Change, FieldChange, Hazard
from cyborg_infra.model.dead_letters import DeadLetter
from cyborg_infra.model.fields import FIELDS
from cyborg_infra.model.last_applied import AppliedRecord
from cyborg_infra.model.messages import MessageKind, OrgMessage
from cyborg_infra.model.naming import Subject
from cyborg_infra.model.organisation import BROADCAST_ACK, LAG, LETTERS, LETTERS_WITHIN, Org
from cyborg_infra.model.plan import Outcome, Plan
from cyborg_infra.model.problems import CyborgError, Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState, LiveResource, Resource, digest_of
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.status import BroadcastReceipt, OrgStatus
from cyborg_infra.render.change_lines import allowances
from cyborg_infra.render.command_line import in_command_line_words, spoken

SCHEMA_VERSION = 1
"""Goes up when a reader of the last version would misread this one; an added member does not count."""


def plan(plan: Plan) -> dict[str, Any]:
    """Return the whole plan (plan.schema.json). `drift` prints the same."""
    return {
        "schema_version": SCHEMA_VERSION,
        "org": plan.org,
        "environment": plan.environment,
        "server": _server(plan.server_info) if plan.server_info else None,
        "targets": list(plan.targets),
        "prune": plan.prune,
        "present": plan.has_live_resources,
        "applied": _applied(plan.server_info.applied_record)
        if plan.server_info and plan.server_info.applied_record
        else None,
        "in_sync": not plan,
        "applicable": not plan.blocking_problems,
        "allow": allowances(plan),
        "summary": {action.value: plan.count(action) for action in Action}
        | {"unchanged": plan.unchanged_count, "renamed": plan.rename_count},
        "changes": [_change(change) for change in plan.changes],
        "orphans": [_resource(orphan) for orphan in plan.orphans],
        "problems": [_problem(problem) for problem in plan.problems],
        "hazards": [_hazard(hazard) for hazard in plan.plan_hazards],
        "reserves": [found._asdict() for found in plan.reserves],
        "waits": [_names(ref) | {"ref": str(ref), "working": count} for ref, count in plan.waits.items()],
        "notes": [spoken(note) for note in plan.notes],
    }


def saved(plan_: Plan) -> dict[str, Any]:
    """Return a plan to keep (saved-plan.schema.json): what it wants, and the state that it holds for.

    `base` and `server` tell whether it is stale, `digest` whether the file is as it was written; `desired` is what it leads to, wire form; `plan` is for readers.
    """
    content = {
        "type": "saved-plan",  # first: `apply` knows the file by its first bytes
        "schema_version": SCHEMA_VERSION,
        "org": plan_.org,
        "environment": plan_.environment,
        "targets": list(plan_.targets),
        "prune": plan_.prune,
        "server": _server(plan_.server_info) if plan_.server_info else None,
        "base": {str(ref): digest for ref, digest in sorted(plan_.live_digests.items())},
        "desired": [
            _names(resource.ref) | {"config": _json(resource.config), "left_open": sorted(resource.left_open)}
            for resource in plan_.desired.resources.values()
        ],
        "plan": plan(plan_),
    }
    return content | {"digest": digest_of(content)}


def show(org: Org, subjects: Sequence[Subject], state: DesiredState) -> dict[str, Any]:
    """Return the namespace, the streams and the consumers (show.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "org": org.name,
        "description": org.description,
        "environment": org.environment,
        "roles": [
            {
                "name": role.name,
                "description": role.description,
                "renamed_from": role.renamed_from or None,
                "reports_to": role.reports_to or None,
                "assigns": list(org.members(role.assigns)),
            }
            for role in org.roles
        ],
        "groups": [{"name": group.name, "members": list(group.members)} for group in org.groups],
        "subjects": [
            subject._asdict() | {"publishers": list(subject.publishers), "readers": list(subject.readers)}
            for subject in subjects
        ],
        "streams": [_resource(stream) for stream in state.streams()],
        "consumers": [_resource(consumer) for consumer in state.consumers()],
        "key_value": [
            {
                "bucket": bucket.name,
                "stream": bucket_stream(bucket.name),
                "task_state": bucket.task_state,
                "readers": list(org.members(bucket.readers)),
                "writers": list(org.members(bucket.writers)),
                "watchers": list(org.members(bucket.watchers)),
            }
            for bucket in org.buckets
        ],
    }


def of_each(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a command's answers about several manifests, in their order (several.schema.json)."""
    return {"schema_version": SCHEMA_VERSION, "answers": list(answers)}


def valid(
    org: Org, state: DesiredState, warnings: Sequence[Problem], notes: Sequence[Problem] = ()
) -> dict[str, Any]:
    """Return the answer about a valid manifest: what it expands to, its warnings and notes (validate.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "valid": True,
        "org": org.name,
        "environment": org.environment,
        "roles": len(org.roles),
        "streams": len(state.streams()),
        "consumers": len(state.consumers()),
        "warnings": [_problem(warning) for warning in warnings],
        "notes": [_problem(note) for note in notes],
    }


def checked(messages: Sequence[OrgMessage]) -> dict[str, Any]:
    """Return the answer about valid messages: how many there are of each type (message-check.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "valid": True,
        "messages": len(messages),
        "types": {kind.value: sum(each.kind is kind for each in messages) for kind in MessageKind},
    }


def applied(plan_: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return every change of the plan and how it ended (apply.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "org": plan_.org,
        "environment": plan_.environment,
        "server": _server(plan_.server_info) if plan_.server_info else None,
        "complete": all(each.status == "done" for each in outcomes),
        "outcomes": [
            _ref(each.change.ref)
            | {
                "action": each.change.action.value,
                "outcome": each.status.value,
                "problem": _problem(each.problem) if each.problem else None,
            }
            for each in outcomes
        ],
    }


def status(status: OrgStatus) -> dict[str, Any]:
    """Return how an organisation is doing (status.schema.json). Ages are in nanoseconds."""
    return {
        "schema_version": SCHEMA_VERSION,
        "org": status.org,
        "environment": status.environment,
        "server": _server(status.server_info) if status.server_info else None,
        "time": status.now,
        "thresholds": {
            "lag": status.alerts.of(LAG),
            "broadcast_ack": status.alerts.of(BROADCAST_ACK),
            "dead_letters": {
                "count": status.alerts.of(LETTERS),
                "within": status.alerts.of(LETTERS_WITHIN),
            },
        },
        "roles": [
            {
                "name": role.name,
                "state": role.state.value,
                "queues": [
                    asdict(queue) | _names(queue.ref) | {"ref": str(queue.ref)} for queue in role.queues
                ],
            }
            for role in status.roles
        ],
        "broadcasts": [
            {"seq": found.seq, "age": found.age, "group": found.group or None}
            | {answer.name.lower(): found.roles(answer) for answer in BroadcastReceipt}
            for found in status.broadcasts
        ],
        "dead_letters": {
            "count": status.dead_letters.count,
            "newest_age": status.dead_letters.newest_age,
            "newest": dead_letter(status.dead_letters.newest) if status.dead_letters.newest else None,
        },
        "streams": [asdict(stream) | {"ref": str(stream.ref)} for stream in status.streams],
        "unfinished": [
            {"ref": str(ref)} | _names(ref) | {"what": what.value} for ref, what in status.unfinished.items()
        ],
        "behind": [
            {
                "server": server,
                "streams": [str(ref) for ref in refs if not ref.consumer],
                "consumers": [str(ref) for ref in refs if ref.consumer],
            }
            for server, refs in status.behind.items()
        ],
        "alarms": [
            {"code": alarm.code, "message": spoken(alarm.message), "role": alarm.role, "about": alarm.about}
            for alarm in status.alarms
        ],
        "notes": [spoken(note) for note in status.notes],
    }


def dead_letter(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as data, without its message."""
    return {
        "number": letter.number,
        "time": letter.time,
        "type": letter.type.value,
        "stream": letter.stream or None,
        "sequence": letter.sequence or None,
        "consumer": letter.consumer or None,
        "role": letter.role or None,
        "reason": letter.reason or None,
    }


def problem_row(problem: Problem | None) -> dict[str, Any] | None:
    """Return a problem that has no place in a file, in the results of several."""
    if problem is None:
        return None
    said = in_command_line_words(problem)
    return {"code": said.code, "message": said.message, "hint": said.hint}


def problems(error: CyborgError) -> dict[str, Any]:
    """Return the problems of a command that failed (problems.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "error": type(error).__name__,
        "exit_code": error.exit_code,
        "problems": [_problem(problem) for problem in error.problems],
    }


def _names(ref: Ref) -> dict[str, Any]:
    return {"stream": ref.stream, "consumer": ref.consumer or None}


def _ref(ref: Ref) -> dict[str, Any]:
    return {"ref": str(ref), "kind": ref.kind.value} | _names(ref)


def _change(change: Change) -> dict[str, Any]:
    resource = change.after or change.before
    return _ref(change.ref) | {
        "role": resource.role if resource else None,
        "action": change.action.value,
        "renamed_from": str(change.current_ref) if change.current_ref != change.ref else None,
        "renames": change.is_rename,
        "cause": change.cause.value,
        "reason": change.reason or None,
        "fields": [_field(change, field) for field in change.fields],
        "hazards": [_hazard(hazard) for hazard in change.hazards],
        "problems": [_problem(problem) for problem in change.problems],
        "needs": [str(ref) for ref in change.depends_on],
        "before": _json(change.before.config) if change.before else None,
        "after": _json(change.after.config) if change.after else None,
    }


def _field(change: Change, field: FieldChange) -> dict[str, Any]:
    row = FIELDS[change.ref.kind].get(field.field.split(".")[0])
    return {
        "field": field.field,
        "unit": row.unit.value if row else None,
        "before": _json(field.before),
        "after": _json(field.after),
        "reason": field.reason,
    }


def _json(value: Any) -> Any:
    """Return the value in JSON's own types at every depth: a normalised one holds tuples."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return value


def _hazard(hazard: Hazard) -> dict[str, Any]:
    return {
        "name": hazard.name.value,
        "reason": hazard.reason,
        "count": hazard.count,
        "bytes": hazard.bytes,
        "exact": hazard.exact,
        "unfinished": hazard.unfinished._asdict() if hazard.unfinished else None,
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return in_command_line_words(problem)._asdict() | {
        "where": problem.where._asdict() if problem.where else None
    }


def _resource(resource: Resource) -> dict[str, Any]:
    counts = resource.counts if isinstance(resource, LiveResource) else None
    return _ref(resource.ref) | {
        "role": resource.role,
        "config": _json(resource.config),
        "counts": counts._asdict() if counts else None,
    }


def _applied(memory: AppliedRecord) -> dict[str, Any]:
    return {
        "at": memory.applied_at,
        "version": memory.version,
        "environment": memory.environment,
        "complete": memory.complete,
    }


def _server(server_info: ServerInfo) -> dict[str, Any]:
    return {
        "url": server_info.url,
        "source": spoken(server_info.source),
        "context": server_info.context,
        "name": server_info.server,
        "version": str(server_info.version),
        "level": server_info.level,
        "account": server_info.account,
        "cluster": server_info.cluster,
        "domain": server_info.domain,
    }
