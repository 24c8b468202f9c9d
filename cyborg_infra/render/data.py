"""Values to JSON: complete, in wire form, with a schema in schemas/ for each. Formats nothing for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cyborg_infra.model.buckets import bucket_stream
from cyborg_infra.model.dead_letter import DeadLetter
from cyborg_infra.model.fields import FIELDS
from cyborg_infra.model.messages import Message, MessageKind
from cyborg_infra.model.namespace import Subject
from cyborg_infra.model.org import Org
from cyborg_infra.model.plan import Action, Change, FieldChange, Hazard, Outcome, Plan
from cyborg_infra.model.problems import CyborgError, Problem
from cyborg_infra.model.state import Facts, Ref, Resource, State, digest_of
from cyborg_infra.model.status import Answer, Status
from cyborg_infra.render.differences import allowances

SCHEMA_VERSION = 1
"""Goes up when a reader of the last version would misread this one; an added member does not count."""


def plan(plan: Plan) -> dict[str, Any]:
    """The whole plan (plan.schema.json). `drift` prints the same."""
    return {
        "schema_version": SCHEMA_VERSION,
        "org": plan.org,
        "environment": plan.environment,
        "server": _server(plan.facts) if plan.facts else None,
        "targets": list(plan.targets),
        "prune": plan.prune,
        "in_sync": not plan,
        "applicable": not plan.impossible,
        "allow": allowances(plan),
        "summary": {action.value: plan.count(action) for action in Action} | {"unchanged": plan.unchanged},
        "changes": [_change(change) for change in plan.changes],
        "orphans": [_resource(orphan) for orphan in plan.orphans],
        "problems": [_problem(problem) for problem in plan.problems],
        "hazards": [_hazard(hazard) for hazard in plan.whole],
        "notes": list(plan.notes),
    }


def saved(plan_: Plan) -> dict[str, Any]:
    """A plan to keep (saved-plan.schema.json): what it wants, and the state that it holds for.

    `base` and `server` tell whether it is stale, `digest` whether the file is as it was written; `desired` is what it leads to, wire form; `plan` is for readers.
    """
    content = {
        "type": "saved-plan",  # first: `apply` knows the file by its first bytes
        "schema_version": SCHEMA_VERSION,
        "org": plan_.org,
        "environment": plan_.environment,
        "targets": list(plan_.targets),
        "prune": plan_.prune,
        "server": _server(plan_.facts) if plan_.facts else None,
        "base": {str(ref): digest for ref, digest in sorted(plan_.base.items())},
        "desired": [
            _names(resource.ref) | {"config": _json(resource.config)}
            for resource in plan_.desired.resources.values()
        ],
        "plan": plan(plan_),
    }
    return content | {"digest": digest_of(content)}


def show(org: Org, subjects: Sequence[Subject], state: State) -> dict[str, Any]:
    """The namespace, the streams and the consumers (show.schema.json)."""
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
            }
            for role in org.roles
        ],
        "subjects": [
            subject._asdict() | {"publishers": list(subject.publishers), "readers": list(subject.readers)}
            for subject in subjects
        ],
        "streams": [_resource(stream) for stream in state.streams()],
        "consumers": [_resource(consumer) for consumer in state.consumers()],
        "key_value": [
            {"bucket": bucket.name, "stream": bucket_stream(bucket.name), "task_state": bucket.task_state}
            for bucket in org.buckets
        ],
    }


def valid(org: Org, state: State, warnings: Sequence[Problem]) -> dict[str, Any]:
    """That a manifest holds, what it comes to, and what it will cost (validate.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "valid": True,
        "org": org.name,
        "environment": org.environment,
        "roles": len(org.roles),
        "streams": len(state.streams()),
        "consumers": len(state.consumers()),
        "warnings": [_problem(warning) for warning in warnings],
    }


def checked(messages: Sequence[Message]) -> dict[str, Any]:
    """That messages hold, and how many there are of each type (message-check.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "valid": True,
        "messages": len(messages),
        "types": {kind.value: sum(each.kind is kind for each in messages) for kind in MessageKind},
    }


def applied(plan_: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Every change of the plan and how it ended (apply.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "org": plan_.org,
        "environment": plan_.environment,
        "server": _server(plan_.facts) if plan_.facts else None,
        "complete": all(each.done == "done" for each in outcomes),
        "outcomes": [
            _ref(each.change.ref)
            | {
                "action": each.change.action.value,
                "outcome": each.done.value,
                "problem": _problem(each.problem) if each.problem else None,
            }
            for each in outcomes
        ],
    }


def status(status: Status) -> dict[str, Any]:
    """How an organisation is doing (status.schema.json). Ages are in nanoseconds."""
    return {
        "schema_version": SCHEMA_VERSION,
        "org": status.org,
        "environment": status.environment,
        "server": _server(status.facts) if status.facts else None,
        "time": status.now,
        "thresholds": status.alerts._asdict(),
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
            {"seq": found.seq, "age": found.age}
            | {answer.name.lower(): found.roles(answer) for answer in Answer}
            for found in status.broadcasts
        ],
        "dead_letters": {
            "count": status.dead_letters.count,
            "newest_age": status.dead_letters.newest_age,
            "newest": _newest(status.dead_letters.newest),
        },
        "streams": [asdict(stream) | {"ref": str(stream.ref)} for stream in status.streams],
        "alarms": [asdict(alarm) for alarm in status.alarms],
        "notes": list(status.notes),
    }


def _newest(letter: DeadLetter | None) -> dict[str, Any] | None:
    """As `dlq list` has it, without the message."""
    if letter is None:
        return None
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


def problems(error: CyborgError) -> dict[str, Any]:
    """Why there is no answer (problems.schema.json)."""
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
        "renamed_from": str(change.place) if change.place != change.ref else None,
        "cause": change.cause.value,
        "reason": change.reason or None,
        "fields": [_field(change, field) for field in change.fields],
        "hazards": [_hazard(hazard) for hazard in change.hazards],
        "problems": [_problem(problem) for problem in change.problems],
        "needs": [str(ref) for ref in change.needs],
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
    """The value in JSON's own types, all the way down: a normalised one holds tuples."""
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
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return problem._asdict() | {"where": problem.where._asdict() if problem.where else None}


def _resource(resource: Resource) -> dict[str, Any]:
    return _ref(resource.ref) | {
        "role": resource.role,
        "config": _json(resource.config),
        "counts": resource.counts._asdict() if resource.counts else None,
    }


def _server(facts: Facts) -> dict[str, Any]:
    return {
        "url": facts.url,
        "source": facts.source,
        "context": facts.context,
        "name": facts.server,
        "version": str(facts.version),
        "level": facts.level,
        "account": facts.account,
        "cluster": facts.cluster,
        "domain": facts.domain,
    }
