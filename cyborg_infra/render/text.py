"""Values to lines for people. Words and symbols are Terraform's; nothing depends on colour alone."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from cyborg_infra.model.plan import Action, Cause, Change, Done, Hazard, Outcome, Plan
from cyborg_infra.model.state import Ref, Resource, State
from cyborg_infra.render import differences as tell
from cyborg_infra.render.findings import finding
from cyborg_infra.render.layout import Block, Either, Flow, Page, Span, line
from cyborg_infra.render.values import few, holds, plural

_READABLE = 100
"""So many changes, and so many of what was not reached, a terminal gets one by one."""

_COLOURS = {"+": "green", "~": "yellow", "-": "red", "-/+": "red", "!": "red"}
_LEGEND = (
    (Action.CREATE, "+", "create"),
    (Action.UPDATE, "~", "update in-place (current -> planned)"),
    (Action.ADOPT, "~", "adopt: mark as owned, and update where it differs"),
    (Action.DELETE, "-", "destroy"),
    (Action.REPLACE, "-/+", "replace"),
    (Action.IMPOSSIBLE, "!", "cannot be done"),
)


def plan(
    plan: Plan, *, saved_to: str | None = None, saved_in: str | None = None, manifest: str | None = None
) -> Page:
    """The plan for a reviewer: what is done to what and why, what it costs, what it takes to apply it.

    `saved_to` is where it has just been saved, `saved_in` the saved plan that it was read from, `manifest` the
    manifest's path where `apply` has to be told.
    """
    blocks = [*_differences_of(plan), line((tell.summary(plan), "" if plan else "bold green"))]
    blocks += _ending(plan, saved_to, tuple(_command(plan, saved_to or saved_in, manifest)))
    return Page(tuple(blocks))


def drift(plan: Plan) -> Page:
    """What differs, and whether somebody changed the server or only the manifest is ahead of it."""
    changed = sum(change.cause is not Cause.PENDING for change in plan.changes)
    pending = len(plan.changes) - changed
    ahead = f" {plural(pending, 'change')} of the manifest not applied yet." if pending else ""
    if changed:
        verdict = (
            f"Drift: {plural(changed, 'resource')} changed on the server since the last apply.",
            "bold red",
        )
    else:
        verdict = ("No drift. The server is as it was applied.", "bold green")
    return Page((*_differences_of(plan, acting=False), line(verdict, ahead)))


def _differences_of(plan: Plan, *, acting: bool = True) -> Iterator[Block]:
    yield from (line(tell.target(plan)), line())
    if plan.changes:
        yield from _legend(plan, acting=acting)
        yield Either(lambda: _readable(plan.changes), lambda: _changes(plan.changes))
    yield from _orphans(plan)
    for problem in plan.problems:
        yield from finding(problem)
    yield from (line(("Note: ", "bold"), note) for note in plan.notes)
    if plan.orphans or plan.problems or plan.notes:
        yield line()


def _legend(plan: Plan, *, acting: bool) -> Iterator[Block]:
    yield line("Resource actions are indicated with the following symbols:")
    for action, symbol, words in _LEGEND:
        if plan.count(action):
            yield line((f"{symbol:>3}", _COLOURS[symbol]), f" {words}", indent=1)
    yield line()
    would = not acting or plan.impossible
    yield line(f"cyborg-infra {'would' if would else 'will'} perform the following actions:")
    yield line()


def _readable(changes: Sequence[Change]) -> Iterator[Block]:
    """As many changes as a person reads, the weightiest of them, and what the others come to."""
    shown = set(map(id, sorted(changes, key=_weight)[:_READABLE]))
    yield from _changes([change for change in changes if id(change) in shown])
    rest = [change for change in changes if id(change) not in shown]
    if not rest:
        return
    yield line((f"And {len(rest):,} more:", "bold"))
    for (action, kind), count in sorted(Counter((change.action, change.ref.kind) for change in rest).items()):
        what = f"{tell.SYMBOLS[action]} {plural(count, kind)} {tell.VERBS[action]}"
        yield line(what + tell.costs(rest, action, kind), indent=2)
    yield line("A pipe or a file gets every one of them, and so does --format json.")
    yield line()


def _weight(change: Change) -> int:
    """What costs something, cannot be done or was not expected comes before what changes, and that before what is new."""
    if change.hazards or change.problems or change.cause is not Cause.PENDING:
        return 0
    return {Action.REPLACE: 0, Action.DELETE: 0, Action.CREATE: 2}.get(change.action, 1)


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
        yield line((f"# {change.ref} {tell.VERBS[change.action]}", "bold"), why, indent=2, hang=2)
    if change.reason:
        yield line(f"# ({change.reason})", indent=2, hang=2)
    yield line((symbol, _COLOURS[symbol]), f" {change.ref.kind} ", (str(change.ref), "bold"), indent=2)
    if change.action is Action.CREATE and change.after:
        yield from _settings(change.after)
    else:
        yield from _differences(change)
    if change.before and change.action in (Action.DELETE, Action.REPLACE) and holds(change.before):
        yield line(f"# {holds(change.before)}", indent=6)
    yield from (_hazard(hazard, indent=6) for hazard in change.hazards)
    for problem in change.problems:
        yield from finding(problem, indent=6)


def _settings(resource: Resource) -> Iterator[Block]:
    for name, subjects in tell.members(resource):
        first, *others = few(subjects)
        yield Flow((f"{name}: {first}", *others), indent=6, hang=4)
    yield Flow(tuple(f"{name}: {value}" for name, value in tell.settings(resource)), indent=6)


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
    # What is no longer stored or delivered has to be seen in full; what comes is the manifest's own text.
    for member in members if sign == "-" else few(members):
        yield line((sign, _COLOURS[sign]), f" {member}", indent=10)


def _orphans(plan: Plan) -> Iterator[Block]:
    for orphan in plan.orphans:
        held = f" and {holds(orphan)}" if holds(orphan) else ""
        named = f"{orphan.ref.kind} {orphan.ref} is no longer in the manifest{held}."
        yield line(("Orphan: ", "bold yellow"), named, hang=8)
    if plan.orphans:
        yield line("Orphans stay as they are; --prune deletes them.")


def _hazard(hazard: Hazard, indent: int = 0) -> Block:
    return line(("!", "red"), " ", (hazard.name.value, "bold red"), f": {tell.hazard(hazard)}", indent=indent)


def _ending(plan: Plan, saved_to: str | None, command: tuple[str, ...]) -> Iterator[Block]:
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
        yield from (_hazard(hazard) for hazard in plan.whole)
        yield line(("This plan has hazards.", "bold red"), " Each has to be allowed by name:")
    if plan and (allowances or saved_to):
        if not allowances:
            yield line("To perform exactly these actions, run:")
        yield Flow(command, indent=4, hang=4, glue=" ", broken=" \\")
    elif plan:
        yield Either(lambda: (line(), line(_NOT_SAVED, hang=0)))


_NOT_SAVED = (
    "Note: You didn't use the --out option to save this plan, so cyborg-infra can't guarantee to take exactly "
    'these actions if you run "cyborg-infra apply" now.'
)


def _command(plan: Plan, saved: str | None, manifest: str | None) -> Iterator[str]:
    """The words to type, each option with its value. A saved plan has the options of its making in it."""
    yield "cyborg-infra apply"
    if saved:
        yield shlex.quote(saved)
    else:
        if manifest:
            yield shlex.quote(manifest)
        if plan.environment:
            yield f"--env {shlex.quote(plan.environment)}"
        for target in plan.targets:
            yield f"--target {shlex.quote(target)}"
        if plan.prune:
            yield "--prune"
    for name in tell.allowances(plan):
        yield f"--allow {name}"


def wait(sentence: str) -> Page:
    """What an apply is waiting for, in one line."""
    return Page((line(f"  {sentence}"),))


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
        blocks.append(
            Either(
                lambda: _not_reached(waiting[:_READABLE], len(waiting)),
                lambda: _not_reached(waiting, len(waiting)),
            )
        )
    blocks += [line(), line("What was done stays done. Run apply again to go on from there.")]
    return Page(tuple(blocks))


def dev(url: str, state: State, *, kept_in: str | None) -> Page:
    """Where the server of `dev` is and what to try there; the commands are the nats CLI's."""
    consumer = next(iter(state.consumers()))
    subject = next(iter(state.resources[Ref(consumer.ref.stream)].config["subjects"]), "")
    tries = (
        "nats stream report",
        f"nats pub {subject} 'hello'",
        f"nats consumer next {consumer.ref.stream} {consumer.ref.consumer}",
    )
    data = f"The data stays in {kept_in}." if kept_in else "The data is gone at the end; --store keeps it."
    return Page(
        (
            line((f"Listening on {url}", "bold")),
            line(f"{data} Ctrl-C stops the server."),
            line(),
            line("Try, in another terminal:"),
            line(f"export NATS_URL={url}", indent=2),
            *(line(text, indent=2) for text in tries),
        )
    )


def _not_reached(some: Sequence[Outcome], of: int) -> Iterator[Block]:
    for each in some:
        yield line(f"{tell.SYMBOLS[each.change.action]} {each.change.ref}", indent=2)
    if len(some) < of:
        yield line(f"and {of - len(some):,} more", indent=2)
