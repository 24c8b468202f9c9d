"""What a reader is told of one change, field by field, before anybody chooses a format. Decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from cyborg_infra.model.canonical import SERVER_METADATA
from cyborg_infra.model.fields import FIELDS, Kind, Unit
from cyborg_infra.model.plan import Action, Cause, Change, Done, FieldChange, Hazard, Outcome, Plan
from cyborg_infra.model.state import MARKS, Facts, Resource
from cyborg_infra.render.values import both, plural, quoted

# How the difference of one label is named.
_LABEL = "metadata."

SYMBOLS = {
    Action.CREATE: "+",
    Action.ADOPT: "~",
    Action.UPDATE: "~",
    Action.REPLACE: "-/+",
    Action.DELETE: "-",
    Action.IMPOSSIBLE: "!",
}

VERBS = {
    Action.CREATE: "will be created",
    Action.ADOPT: "will be adopted",
    Action.UPDATE: "will be updated in-place",
    Action.REPLACE: "must be replaced",
    Action.DELETE: "will be destroyed",
    Action.IMPOSSIBLE: "cannot be changed as the manifest asks",
}

_CAUSES = {
    Cause.PENDING: "pending: changed in the manifest",
    Cause.DRIFT: "drift: changed on the server",
    Cause.BOTH: "pending and drift: changed in the manifest and on the server",
}


class Difference(NamedTuple):
    """One line about one field. Sets tell what came and what went, everything else before and after."""

    name: str
    before: str = ""
    after: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reason: str = ""

    @property
    def is_set(self) -> bool:
        """Whether the members are told instead of before and after."""
        return bool(self.added or self.removed)


def cause(change: Change) -> str:
    """Why live and desired differ, in words; empty where the action says it already."""
    if change.before is None:
        return "drift: missing on the server" if change.cause is Cause.DRIFT else ""
    if change.after is None or change.action is Action.ADOPT or (change.reason and not change.fields):
        return ""
    return _CAUSES[change.cause]


def differences(change: Change) -> list[Difference]:
    """Every field that changes, the ownership marks left out."""
    return [_difference(change, field) for field in change.fields if not _is_hidden(field.field)]


def _is_hidden(name: str) -> bool:
    label = name.removeprefix(_LABEL)
    return label != name and (label in MARKS or label.startswith(SERVER_METADATA))


def _difference(change: Change, field: FieldChange) -> Difference:
    kind, name = change.ref.kind, field.field
    row = FIELDS[kind].get(name)
    reason = field.reason or ""
    if reason and change.action is Action.REPLACE:
        reason = f"forces replacement: {reason}"
    if row and row.unit is Unit.SUBJECTS:
        before, after = set(field.before or ()), set(field.after or ())
        return Difference(
            name, added=tuple(sorted(after - before)), removed=tuple(sorted(before - after)), reason=reason
        )
    return Difference(name, both(kind, name, field.before), both(kind, name, field.after), reason=reason)


def marks(change: Change) -> str:
    """What happens to the ownership marks, where that is worth a line; otherwise empty."""
    if change.before is None or change.after is None or change.action is Action.REPLACE:
        return ""
    if change.before.owner != change.after.owner and change.after.owner:
        return f"marked as owned by {change.after.owner}"
    return "" if differences(change) or change.problems else "ownership marks renewed"


def settings(resource: Resource) -> list[tuple[str, str]]:
    """Every field that is not at the server's default, of a resource that is created; without those of `members`."""
    kind, found = resource.ref.kind, resource.canonical()
    told = []
    for name, field in FIELDS[kind].items():
        if name not in found:
            continue
        value, unit = found[name], field.unit
        if unit is Unit.METADATA:
            told += [(f"{_LABEL}{key}", quoted(text)) for key, text in value.items()]
        elif unit is Unit.SUBJECT:
            told.insert(0, (name, both(kind, name, value)))
        elif unit is not Unit.SUBJECTS:
            told.append((name, both(kind, name, value)))
    return told


def members(resource: Resource) -> list[tuple[str, tuple[str, ...]]]:
    """The sets of subjects of a resource, in the manifest's order."""
    found = resource.canonical()
    return [(name, tuple(resource.config[name])) for name in _SETS[resource.ref.kind] if name in found]


_SETS = {
    kind: [name for name, field in fields.items() if field.unit is Unit.SUBJECTS]
    for kind, fields in FIELDS.items()
}


def hazard(found: Hazard) -> str:
    """The cost in words, `up to` where the count is an upper bound."""
    bound = "" if found.exact or found.reason.startswith("up to ") else "up to "
    return f"{bound}{found.reason}"


def summary(plan: Plan) -> str:
    """The last line, in Terraform's words; a replacement counts as one to add and one to destroy."""
    if not plan:
        return "No changes. Your infrastructure matches the manifest."
    add = plan.count(Action.CREATE, Action.REPLACE)
    destroy = plan.count(Action.DELETE, Action.REPLACE)
    adopt = plan.count(Action.ADOPT)
    adopted = f", {adopt} to adopt" if adopt else ""
    return f"Plan: {add} to add, {plan.count(Action.UPDATE)} to change, {destroy} to destroy{adopted}."


def costs(changes: Sequence[Change], action: Action, kind: Kind) -> str:
    """What these changes of this kind cost in all, as a clause behind them; empty if nothing."""
    found = Counter[str]()
    for change in changes:
        if (change.action, change.ref.kind) == (action, kind):
            for each in change.hazards:
                found[each.name.value] += each.count
    return "".join(f"; {name}: {count:,} in all" for name, count in sorted(found.items()))


def refusal(plan: Plan) -> str:
    """Why the plan cannot be applied at all, as a sentence; empty if it can."""
    count = len(plan.impossible)
    return f"This plan cannot be applied: {plural(count, 'problem')} must be solved first." if count else ""


def allowances(plan: Plan) -> list[str]:
    """The hazards that have to be allowed by name, each once, in alphabetical order."""
    return sorted({found.name.value for found in plan.hazards})


def target(plan: Plan) -> str:
    """Where the plan was made: organisation, environment, server and where its address came from, account."""
    return place(plan.org, plan.environment, plan.facts)


def place(org: str, environment: str | None, facts: Facts | None) -> str:
    """The same for what is no plan."""
    parts = [f"Organisation {org}"]
    if environment:
        parts.append(f" (environment {environment})")
    if facts is None:
        return "".join(parts)
    parts.append(f" on {facts.url or facts.server or 'an unnamed server'}")
    if facts.source:
        parts.append(f" (from {facts.source})")
    named = (
        ("context", facts.context),
        ("account", facts.account),
        ("cluster", facts.cluster),
        ("domain", facts.domain),
    )
    parts += [f", {name} {value}" for name, value in named if value]
    parts.append(f", nats-server {facts.version}")
    return "".join(parts)


def applied(outcomes: Sequence[Outcome]) -> str:
    """What was done, in Terraform's words."""
    done = Counter(each.change.action for each in outcomes if each.done is Done.DONE)
    added = done[Action.CREATE] + done[Action.REPLACE]
    destroyed = done[Action.DELETE] + done[Action.REPLACE]
    adopted = f", {done[Action.ADOPT]} adopted" if done[Action.ADOPT] else ""
    return f"Resources: {added} added, {done[Action.UPDATE]} changed, {destroyed} destroyed{adopted}."
