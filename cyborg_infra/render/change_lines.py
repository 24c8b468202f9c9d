"""The lines about one change, field by field, that text and Markdown share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from cyborg_infra.model.changes import LEFT_PAUSED, UNLABELLED, UPGRADED, Action, Cause, Change, FieldChange
from cyborg_infra.model.fields import FIELDS, Config, Kind, Unit
from cyborg_infra.model.last_applied import AppliedRecord
from cyborg_infra.model.plan import Outcome, Plan, Reservation, ResultStatus
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.units import format_size
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.render.command_line import spoken
from cyborg_infra.render.values import both, in_short, plural, quoted


class ActionWords(NamedTuple):
    """How people are told of an action: by which sign, what will happen, and what has happened."""

    symbol: str
    future: str
    past: str


def action_words(action: Action) -> ActionWords:
    """Return how people are told of an action."""
    match action:
        case Action.CREATE:
            return ActionWords("+", "will be created", "created")
        case Action.ADOPT:
            return ActionWords("~", "will be adopted", "adopted")
        case Action.UPDATE:
            return ActionWords("~", "will be updated in-place", "updated")
        case Action.REPLACE:
            return ActionWords("-/+", "must be replaced", "replaced")
        case Action.DELETE:
            return ActionWords("-", "will be destroyed", "destroyed")
        case Action.IMPOSSIBLE:
            return ActionWords("!", "cannot be changed as the manifest asks", "not done")
        case _:
            assert_never(action)


_CAUSES = {
    Cause.MANIFEST: "pending: changed in the manifest",
    Cause.DRIFT: "drift: changed on the server",
    Cause.BOTH: "pending and drift: changed in the manifest and on the server",
}


RENAMES = "->"
"""The symbol of what gets another name."""


def symbol(change: Change) -> str:
    """Return the sign of the change's action."""
    return RENAMES if change.is_rename else action_words(change.action).symbol


def verb(change: Change) -> str:
    """Return the change's action in words, to stand behind a resource's name."""
    return "will be renamed" if change.is_rename else action_words(change.action).future


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
        """Whether added and removed members are shown instead of the values before and after."""
        return bool(self.added or self.removed)


def cause(change: Change) -> str:
    """Return why live and desired differ, in words; empty where the action says it already."""
    if change.before is None:
        return "drift: missing on the server" if change.cause is Cause.DRIFT else ""
    if change.after is None or change.action is Action.ADOPT or (change.reason and not change.fields):
        return ""
    if change.reason in (UPGRADED, LEFT_PAUSED):
        return "pending: not changed in the manifest"
    if change.action is Action.REPLACE and change.before.owner is None and not change.before.unfinished:
        return "adopted: nobody's so far"
    return _CAUSES[change.cause]


def differences(change: Change) -> list[Difference]:
    """Return every field that changes, the ownership marks left out."""
    return [_difference(change, field) for field in change.fields if not field.is_mark]


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
    """Return what happens to the ownership marks, where that is worth a line; otherwise empty."""
    if change.before is None or change.after is None or change.action is Action.REPLACE:
        return ""
    if change.before.owner != change.after.owner and change.after.owner:
        return f"marked as owned by {change.after.owner}"
    return "" if differences(change) or change.problems else "ownership marks renewed"


Settings = list[tuple[str, str]]
"""The fields of a resource by name, with their values in words."""


def settings(resource: Resource, alike: dict[str, Settings]) -> Settings:
    """Return every field that is not at the server's default, of a resource that is created; without those of `members`.

    `alike` keeps what others have in common that are set alike: it is put into words once.
    """
    kind, found, digest = resource.ref.kind, resource.normalised(), resource.settings_digest()
    if digest not in alike:
        alike[digest] = list(_common_settings(kind, found))
    own = [(name, both(kind, name, found[name])) for name in _SUBJECT_OF[kind] if name in found]
    return own + alike[digest]


def _common_settings(kind: Kind, found: Config) -> Iterator[tuple[str, str]]:
    """Yield all but the subjects, in the order of the table."""
    for name, field in FIELDS[kind].items():
        if name in found and field.unit is Unit.METADATA:
            yield from ((f"metadata.{key}", quoted(text)) for key, text in found[name].items())
        elif name in found and field.unit not in (Unit.SUBJECT, Unit.SUBJECTS):
            yield name, both(kind, name, found[name])


def members(resource: Resource) -> list[tuple[str, tuple[str, ...]]]:
    """Return the sets of subjects of a resource, in the manifest's order."""
    found = resource.normalised()
    return [(name, tuple(resource.get(name))) for name in _SETS[resource.ref.kind] if name in found]


_SUBJECT_OF = {
    kind: [name for name, field in fields.items() if field.unit is Unit.SUBJECT][::-1]
    for kind, fields in FIELDS.items()
}
"""Where a consumer delivers, and what it reads."""

_SETS = {
    kind: [name for name, field in fields.items() if field.unit is Unit.SUBJECTS]
    for kind, fields in FIELDS.items()
}


def effort(plan: Plan) -> list[str]:
    """Return what carrying it out takes, in sentences: the storage that it reserves, and the work that it waits for."""
    return [*map(_reserved, plan.reserves), *([_waiting(plan)] if plan.waits else [])]


def _reserved(found: Reservation) -> str:
    taken = f", and {format_size(found.taken)} of it are taken" if found.taken else ""
    limit = "the account has no limit of its own"
    if found.most >= 0:
        limit = f"the account may have {format_size(found.most)}{taken}"
    return f"It reserves {format_size(found.bytes)} of {found.storage} storage in all (max_bytes times replicas); {limit}."


def _waiting(plan: Plan) -> str:
    work = plural(sum(plan.waits.values()), "message")
    names = in_short([str(ref) for ref in plan.waits])
    return (
        f"It waits for what agents work on now ({work}) to be finished, as long as some of it is, "
        f"and at most for --drain-timeout (1m unless given) at each of {names}."
    )


def drifted(plan: Plan) -> int:
    """Return how many resources somebody changed on the server since the last apply."""
    return sum(change.cause is not Cause.MANIFEST for change in plan.changes)


def last_apply(memory: AppliedRecord) -> str:
    """Return when and from which environment it was, as a clause."""
    return f"on {memory.applied_at[:10]}{f' from environment {memory.environment}' if memory.environment else ''}"


def verdict(plan: Plan) -> tuple[str, str]:
    """Return whether somebody changed the server, as a sentence; and one on how far the manifest is ahead, empty if it is not."""
    changed = drifted(plan)
    memory = plan.server_info.applied_record if plan.server_info else None
    if not plan.has_live_resources:
        if memory is not None and memory.complete:
            return f"Drift: nothing is left of what was applied {last_apply(memory)}.", ""
        nothing = "it was never applied to this account, or all of it is gone, and the memory of it as well"
        return f"Drift: nothing of organisation {plan.org} is here: {nothing}.", ""
    bare = sum(change.reason == UNLABELLED for change in plan.changes)
    pending = len(plan.changes) - changed - bare
    ahead = f"{plural(pending, 'change')} of the manifest not applied yet." if pending else ""
    if bare:
        unlabelled = f"Labels alone are gone from {plural(bare, 'consumer')}."
        ahead = f"{ahead} {unlabelled}".lstrip()
    if changed:
        return f"Drift: {plural(changed, 'resource')} changed on the server since the last apply.", ahead
    if memory is not None and not memory.complete:
        return "No drift, but the first apply was never completed.", ahead
    return "No drift. The server is as it was applied.", ahead


def kinds_of_change(changes: Iterable[Change]) -> list[list[Change]]:
    """Return the changes in groups that share symbol, verb and kind of resource."""
    found: dict[tuple[Action, bool, Kind], list[Change]] = {}
    for change in changes:
        found.setdefault((change.action, change.is_rename, change.ref.kind), []).append(change)
    return [found[key] for key in sorted(found)]


def costs(changes: Iterable[Change]) -> str:
    """Return what these changes cost in all, as a clause behind them; empty if nothing."""
    found = Counter[str]()
    for change in changes:
        for each in change.hazards:
            found[each.name.value] += each.count
    return "".join(f"; {name}: {count:,} in all" for name, count in sorted(found.items()))


def refusal(plan: Plan) -> str:
    """Return why the plan cannot be applied at all, as a sentence; empty if it can."""
    count = len(plan.blocking_problems)
    return f"This plan cannot be applied: {plural(count, 'problem')} must be solved first." if count else ""


def allowances(plan: Plan) -> list[str]:
    """Return the hazards that have to be allowed by name, each once, in alphabetical order."""
    return sorted({found.name.value for found in plan.hazards})


def target(plan: Plan) -> str:
    """Return where the plan was made: organisation, environment, server and where its address came from, account."""
    return place(plan.org, plan.environment, plan.server_info)


def place(org: str, environment: str | None, server_info: ServerInfo | None) -> str:
    """Return in words where something was read: organisation, environment, server and where its address came from, account."""
    parts = [f"Organisation {org}"]
    if environment:
        parts.append(f" (environment {environment})")
    if server_info is None:
        return "".join(parts)
    parts.append(f" on {server_info.url or server_info.server or 'an unnamed server'}")
    if server_info.source:
        parts.append(f" (from {spoken(server_info.source)})")
    named = (
        ("context", server_info.context),
        ("account", server_info.account),
        ("cluster", server_info.cluster),
        ("domain", server_info.domain),
    )
    parts += [f", {name} {value}" for name, value in named if value]
    parts.append(f", nats-server {server_info.version}")
    return "".join(parts)


def applied(outcomes: Sequence[Outcome]) -> str:
    """Return what was done, in Terraform's words."""
    changes = [each.change for each in outcomes if each.status is ResultStatus.SUCCEEDED]
    renamed = sum(change.is_rename for change in changes)
    done = Counter(change.action for change in changes if not change.is_rename)
    added = done[Action.CREATE] + done[Action.REPLACE]
    destroyed = done[Action.DELETE] + done[Action.REPLACE]
    rest = ((renamed, "renamed"), (done[Action.ADOPT], "adopted"))
    more = "".join(f", {count} {what}" for count, what in rest if count)
    return f"Resources: {added} added, {done[Action.UPDATE]} changed, {destroyed} destroyed{more}."


def destroyed(outcomes: Sequence[Outcome]) -> str:
    """Return what a `destroy` has done, which adds and changes nothing."""
    return f"Resources: {sum(each.status is ResultStatus.SUCCEEDED for each in outcomes)} destroyed."
