"""Values to lines for people. Words and symbols are Terraform's; nothing depends on colour alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from cyborg_infra.model.plan import Action, Change, Done, Outcome, Plan
from cyborg_infra.model.problems import CyborgError, Problem
from cyborg_infra.model.state import Resource
from cyborg_infra.render import differences as tell
from cyborg_infra.render.layout import Block, Flow, Line, Page, Span, line
from cyborg_infra.render.values import holds, plural

_COLOURS = {"+": "green", "~": "yellow", "-": "red", "-/+": "red", "!": "red"}
_LEGEND = (
    (Action.CREATE, "+", "create"),
    (Action.UPDATE, "~", "update in-place (current -> planned)"),
    (Action.ADOPT, "~", "adopt: mark as owned, and update where it differs"),
    (Action.DELETE, "-", "destroy"),
    (Action.REPLACE, "-/+", "replace"),
    (Action.IMPOSSIBLE, "!", "cannot be done"),
)
# How many members of a set are worth reading; the JSON form has them all.
_MEMBERS = 6


def plan(plan: Plan, *, saved_to: str | None = None) -> Page:
    """The plan for a reviewer: what is done to what and why, what it costs, what it takes to apply it."""
    blocks: list[Block] = [line(tell.target(plan)), line()]
    if plan.changes:
        blocks += _legend(plan)
        blocks += _changes(plan.changes)
    blocks += _orphans(plan.orphans)
    blocks += [block for problem in plan.problems for block in _problem(problem)]
    blocks += [line(("Note: ", "bold"), note) for note in plan.notes]
    if plan.orphans or plan.problems or plan.notes:
        blocks.append(line())
    blocks.append(line((tell.summary(plan), "" if plan else "bold green")))
    blocks += _ending(plan, saved_to)
    return Page(tuple(blocks))


def _legend(plan: Plan) -> Iterator[Block]:
    yield line("Resource actions are indicated with the following symbols:")
    for action, symbol, words in _LEGEND:
        if plan.count(action):
            yield line((f"{symbol:>3}", _COLOURS[symbol]), f" {words}", indent=1)
    yield line()
    yield line(
        "cyborg-infra will perform the following actions:"
        if not plan.impossible
        else "cyborg-infra would perform the following actions:"
    )
    yield line()


def _changes(changes: Sequence[Change]) -> Iterator[Block]:
    for number, change in enumerate(changes):
        yield from _change(change)
        following = changes[number + 1] if number + 1 < len(changes) else None
        if not (following and change.action is following.action is Action.CREATE):
            yield line()


def _change(change: Change) -> Iterator[Block]:
    symbol = tell.SYMBOLS[change.action]
    cause = tell.cause(change)
    if change.action is not Action.CREATE or cause or change.reason:
        why = f" ({cause})" if cause else ""
        yield line((f"# {change.ref} {tell.VERBS[change.action]}", "bold"), why, indent=2)
    if change.reason:
        yield line(f"# ({change.reason})", indent=2)
    yield line((symbol, _COLOURS[symbol]), f" {change.ref.kind} ", (str(change.ref), "bold"), indent=2)
    if change.action is Action.CREATE and change.after:
        yield from _settings(change.after)
    else:
        yield from _differences(change)
    if change.before and change.action in (Action.DELETE, Action.REPLACE) and holds(change.before):
        yield line(f"# {holds(change.before)}", indent=6)
    for hazard in change.hazards:
        yield line(("!", "red"), " ", (hazard.name.value, "bold red"), f": {tell.hazard(hazard)}", indent=6)
    for problem in change.problems:
        yield from _problem(problem, indent=6)


def _settings(resource: Resource) -> Iterator[Block]:
    for name, subjects in tell.members(resource):
        yield Flow(tuple(_first(f"{name}: ", subjects)), indent=6)
    yield Flow(tuple(f"{name}: {value}" for name, value in tell.settings(resource)), indent=6)


def _first(prefix: str, subjects: Sequence[str]) -> Iterator[str]:
    shown = subjects if len(subjects) <= _MEMBERS else subjects[: _MEMBERS // 2]
    for number, subject in enumerate(shown):
        more = (
            f" (and {len(subjects) - len(shown)} more)"
            if number == len(shown) - 1 < len(subjects) - 1
            else ""
        )
        yield f"{prefix if number == 0 else ''}{subject}{more}"


def _differences(change: Change) -> Iterator[Block]:
    found = tell.differences(change)
    width = max((len(each.name) for each in found if not each.is_set), default=0)
    for each in found:
        reason: tuple[Span, ...] = (f"  # {each.reason}",) if each.reason else ()
        if each.is_set:
            yield line(("~", "yellow"), f" {each.name}:", *reason, indent=6)
            yield from _members("-", each.removed)
            yield from _members("+", each.added)
        else:
            label = f"{each.name}:".ljust(width + 1)
            yield line(("~", "yellow"), f" {label} {each.before} -> {each.after}", *reason, indent=6)
    if tell.marks(change):
        yield line(("~", "yellow"), f" metadata: {tell.marks(change)}", indent=6)


def _members(sign: str, members: Sequence[str]) -> Iterator[Block]:
    for member in _first("", members):
        yield line((sign, _COLOURS[sign]), f" {member}", indent=10)


def _orphans(orphans: Sequence[Resource]) -> Iterator[Block]:
    for orphan in orphans:
        held = f" ({holds(orphan)})" if holds(orphan) else ""
        yield line(
            ("Orphan: ", "bold yellow"),
            f"{orphan.ref.kind} {orphan.ref} is no longer in the manifest; delete it with --prune{held}",
        )


def _problem(problem: Problem, indent: int = 0) -> Iterator[Block]:
    where = f"{problem.where}: " if problem.where else ""
    yield line(("Error: ", "bold red"), f"{where}{problem.message}", indent=indent, hang=7)
    if problem.hint:
        yield line(problem.hint, indent=indent + 7, hang=0)


def _ending(plan: Plan, saved_to: str | None) -> Iterator[Block]:
    if tell.refusal(plan):
        yield line()
        yield line((tell.refusal(plan), "bold red"))
        return
    if saved_to:
        yield line()
        yield line(f"Saved the plan to: {saved_to}")
    allowances = tell.allowances(plan)
    if allowances:
        yield line()
        yield line(("This plan has hazards.", "bold red"), " Each has to be allowed by name:")
    if plan and (allowances or saved_to):
        if not allowances:
            yield line("To perform exactly these actions, run:")
        yield line(_command(plan, saved_to), indent=4)
    elif plan:
        yield Line((), only_on_terminal=True)
        yield Line((_NOT_SAVED,), hang=0, only_on_terminal=True)


_NOT_SAVED = (
    "Note: You didn't use the --out option to save this plan, so cyborg-infra can't guarantee to take exactly "
    'these actions if you run "cyborg-infra apply" now.'
)


def _command(plan: Plan, saved_to: str | None) -> str:
    words = ["cyborg-infra", "apply"]
    if saved_to:
        words.append(saved_to)
    else:
        words += ["--env", plan.environment] if plan.environment else []
        words += [word for target in plan.targets for word in ("--target", target)]
        words += ["--prune"] if plan.prune else []
    words += [word for name in tell.allowances(plan) for word in ("--allow", name)]
    return shlex.join(words)


def outcome(outcome: Outcome) -> Page:
    """How one change ended, in one line, while an apply runs."""
    change = outcome.change
    symbol = tell.SYMBOLS[change.action]
    spans: list[Span] = [(symbol, _COLOURS[symbol]), f" {change.ref.kind} ", (str(change.ref), "bold"), ": "]
    match outcome.done:
        case Done.DONE:
            spans.append(_PAST[change.action])
        case Done.FAILED:
            spans += [("failed", "bold red"), f": {outcome.problem}" if outcome.problem else ""]
        case Done.NOT_REACHED:
            spans.append("not reached")
    return Page((line(*spans),))


_PAST = {
    Action.CREATE: "created",
    Action.ADOPT: "adopted",
    Action.UPDATE: "updated",
    Action.REPLACE: "replaced",
    Action.DELETE: "destroyed",
    Action.IMPOSSIBLE: "not done",
}


def applied(outcomes: Sequence[Outcome]) -> Page:
    """What the apply came to: the counts, then every failure with its reason and everything not reached."""
    failed = [each for each in outcomes if each.done is Done.FAILED]
    waiting = [each for each in outcomes if each.done is Done.NOT_REACHED]
    counts = tell.applied(outcomes)
    if not failed and not waiting:
        return Page((line((f"Apply complete! {counts}", "bold green")),))
    blocks: list[Block] = [line((f"Apply incomplete. {counts}", "bold red")), line()]
    for each in failed:
        blocks.append(
            line(("Error: ", "bold red"), f"{each.change.ref.kind} {each.change.ref} failed", hang=7)
        )
        if each.problem:
            blocks += [
                line(text, indent=7, hang=0) for text in (each.problem.message, each.problem.hint) if text
            ]
    if waiting:
        blocks.append(line(f"Not reached ({plural(len(waiting), 'change')}):"))
        blocks += [
            line(f"{tell.SYMBOLS[each.change.action]} {each.change.ref}", indent=2) for each in waiting
        ]
    blocks += [line(), line("What was done stays done. Run apply again to go on from there.")]
    return Page(tuple(blocks))


def problems(error: CyborgError) -> Page:
    """Every problem of the error, each `Error: place: message` with its hint beneath."""
    return Page(tuple(block for problem in error.problems for block in _problem(problem)))
