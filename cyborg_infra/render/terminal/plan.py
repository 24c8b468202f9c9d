"""Values to lines for people. Words and symbols are Terraform's; nothing depends on colour alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from cyborg_infra.model.changes import Action, Cause, Change, Hazard
from cyborg_infra.model.channels import ConsumerKind
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.plan import Outcome, Plan, ResultStatus
from cyborg_infra.model.resources import DesiredState, Resource
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.render import change_lines
from cyborg_infra.render.command_line import in_command_line_words, spoken
from cyborg_infra.render.terminal import similar_changes
from cyborg_infra.render.terminal.layout import Block, Either, Flow, Page, Span, line
from cyborg_infra.render.terminal.problems import finding
from cyborg_infra.render.values import few, holds, in_short, plural

_READABLE = 100
"""So many changes that are not alike, and so many of what was not reached, a terminal gets one by one."""

_COLOURS = {"+": "green", "~": "yellow", "-": "red", "-/+": "red", "->": "yellow", "!": "red"}
_LEGEND = (
    (Action.CREATE, "+", "create"),
    (Action.UPDATE, "~", "update in-place (current -> planned)"),
    (Action.ADOPT, "~", "adopt: mark as owned, and update where it differs"),
    (Action.DELETE, "-", "destroy"),
    (Action.REPLACE, "-/+", "replace"),
    (Action.REPLACE, "->", "rename: it goes on under another name"),
    (Action.IMPOSSIBLE, "!", "cannot be done"),
)


class Shown(NamedTuple):
    """Which command shows a plan, and what has been typed that the command to type next has to repeat."""

    command: str = "plan"  # plan, apply or destroy: the last two are about to carry it out
    allowed: Sequence[str] = ()  # the hazards that --allow names
    saved_to: str | None = None  # where the plan has just been saved
    saved_in: str | None = None  # the saved plan that it was read from
    manifest: str | None = None  # the manifest's path, where the next command has to be told
    implied: Sequence[str] = ()  # the hazards that nobody has to name, since the command itself says so


_PLANNED = Shown()


def plan(plan: Plan, shown: Shown = _PLANNED) -> Page:
    """Return the plan for a reviewer: what is done to what and why, what it costs, what it takes to apply it."""
    blocks = [*_differences_of(plan), line((plan.summary, "" if plan else "bold green"))]
    blocks += [line(sentence, hang=0) for sentence in change_lines.effort(plan)]
    blocks += _ending(plan, shown)
    return Page(tuple(blocks))


def drift(plan: Plan) -> Page:
    """Return what differs, and whether somebody changed the server or only the manifest is ahead of it."""
    verdict, ahead = change_lines.verdict(plan)
    style = "bold red" if change_lines.drifted(plan) or not plan.has_live_resources else "bold green"
    blocks = [*_differences_of(plan, acting=False), line((verdict, style), f" {ahead}" if ahead else "")]
    if change_lines.drifted(plan) and plan.has_live_resources:
        blocks.append(line("cyborg-infra apply undoes it; write what shall stay into the manifest."))
    return Page(tuple(blocks))


def _differences_of(plan: Plan, *, acting: bool = True) -> Iterator[Block]:
    yield from (line(change_lines.target(plan)), line())
    if plan.changes:
        yield from _legend(plan, acting=acting)
        yield Either(lambda: _readable(plan.changes), lambda: _changes([[change] for change in plan.changes]))
    yield from _orphans(plan)
    for problem in plan.problems:
        yield from finding(problem)
    yield from (line(("Note: ", "bold"), spoken(note)) for note in plan.notes)
    if plan.orphans or plan.problems or plan.notes:
        yield line()


def _legend(plan: Plan, *, acting: bool) -> Iterator[Block]:
    yield line("Resource actions are indicated with the following symbols:")
    for action, symbol, words in _LEGEND:
        if any(change.action is action and change_lines.symbol(change) == symbol for change in plan.changes):
            yield line((f"{symbol:>3}", _COLOURS[symbol]), f" {words}", indent=1)
    yield line()
    would = not acting or plan.blocking_problems
    yield line(f"cyborg-infra {'would' if would else 'will'} perform the following actions:")
    yield line()


def _readable(changes: Sequence[Change]) -> Iterator[Block]:
    """Yield as many changes as a person reads, the weightiest of them, and what the others come to.

    Of those that are alike but for the role one is told, and which others there are.
    """
    groups = similar_changes.group_changes(changes)
    shown = set(map(id, sorted(groups, key=lambda group: _weight(group[0]))[:_READABLE]))
    yield from _changes([group for group in groups if id(group) in shown])
    rest = [change for group in groups if id(group) not in shown for change in group]
    if not rest:
        return
    yield line((f"And {len(rest):,} more:", "bold"))
    for alike in change_lines.kinds_of_change(rest):
        what = f"{change_lines.symbol(alike[0])} {plural(len(alike), alike[0].ref.kind)} {change_lines.verb(alike[0])}"
        yield line(what + change_lines.costs(alike), indent=2)
    yield line("A pipe or a file gets every one of them, and so does --format json.")
    yield line()


def _weight(change: Change) -> int:
    """Return the sort key of a change: 0 if it costs something, cannot be done or was not expected; 1 if it changes; 2 if it is new."""
    if change.hazards or change.problems or change.cause is not Cause.MANIFEST:
        return 0
    return {Action.REPLACE: 0, Action.DELETE: 0, Action.CREATE: 2}.get(change.action, 1)


def _changes(groups: Sequence[Sequence[Change]]) -> Iterator[Block]:
    """Yield the first change of each group, with the names of the others."""
    alike: dict[str, change_lines.Settings] = {}
    for number, (change, *others) in enumerate(groups):
        yield from _change(change, alike)
        if others:
            names = in_short([str(other.ref) for other in others])
            yield line((f"and {len(others):,} more like it", "bold"), f": {names}", indent=6)
        following = groups[number + 1][0] if number + 1 < len(groups) else None
        if not (following and _is_bare(change) and _is_bare(following)):
            yield line()


def _is_bare(change: Change) -> bool:
    """Return whether the change is shown without a heading: it is new, and there is nothing more to say of it."""
    return change.action is Action.CREATE and not change_lines.cause(change) and not change.reason


def _change(change: Change, alike: dict[str, change_lines.Settings]) -> Iterator[Block]:
    symbol = change_lines.symbol(change)
    cause = change_lines.cause(change)
    if not _is_bare(change):
        why = f" ({cause})" if cause else ""
        yield line((f"# {change.ref} {change_lines.verb(change)}", "bold"), why, indent=2, hang=2)
    if change.reason:
        yield line(f"# ({change.reason})", indent=2, hang=2)
    yield line((symbol, _COLOURS[symbol]), f" {change.ref.kind} ", (str(change.ref), "bold"), indent=2)
    if change.action is Action.CREATE and change.after:
        yield from _settings(change.after, alike)
    else:
        yield from _differences(change)
    if change.before and change.action in (Action.DELETE, Action.REPLACE) and holds(change.before):
        yield line(f"# {holds(change.before)}", indent=6)
    yield from (_hazard(hazard, indent=6) for hazard in change.hazards)
    for problem in change.problems:
        yield from finding(problem, indent=6)


def _settings(resource: Resource, alike: dict[str, change_lines.Settings]) -> Iterator[Block]:
    for name, subjects in change_lines.members(resource):
        first, *others = few(subjects)
        yield Flow((f"{name}: {first}", *others), indent=6, hang=4)
    settings = change_lines.settings(resource, alike)
    yield Flow(tuple(f"{name}: {value}" for name, value in settings), indent=6)


def _differences(change: Change) -> Iterator[Block]:
    found = change_lines.differences(change)
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
    if change_lines.marks(change):
        yield line(("~", "yellow"), f" metadata: {change_lines.marks(change)}", indent=6)


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
        yield line("Orphans stay as they are; cyborg-infra apply --prune deletes them.")


def _hazard(hazard: Hazard, indent: int = 0) -> Block:
    return line(("!", "red"), " ", (hazard.name.value, "bold red"), f": {hazard.cost}", indent=indent)


def _ending(plan: Plan, shown: Shown) -> Iterator[Block]:
    """Yield the lines on how to carry the plan out."""
    if change_lines.refusal(plan):
        yield line()
        yield line((change_lines.refusal(plan), "bold red"))
        return
    saved = shown.command == "plan" and (shown.saved_to or shown.saved_in)
    if saved:
        yield line()
    if shown.saved_to:
        yield line(f"Saved the plan to: {shown.saved_to}")
    allowances = [name for name in change_lines.allowances(plan) if name not in shown.implied]
    if allowances:
        yield line()
        yield from (_hazard(hazard) for hazard in plan.plan_hazards if hazard.name not in shown.implied)
    if allowances and set(allowances) <= set(shown.allowed):
        yield line(f"Every hazard of this plan is allowed: {', '.join(allowances)}.")
    elif allowances:
        yield line(("This plan has hazards.", "bold red"), " Each has to be allowed by name:")
        yield _next(plan, shown)
    elif plan and saved:
        yield line("To perform exactly these actions, run:")
        yield _next(plan, shown)
    elif plan and shown.command == "plan":
        yield Either(lambda: (line(), line(_NOT_SAVED, hang=0)))


_NOT_SAVED = (
    "Note: You didn't use the --out option to save this plan, so cyborg-infra can't guarantee to take exactly "
    'these actions if you run "cyborg-infra apply" now.'
)


def _next(plan: Plan, shown: Shown) -> Block:
    """Return the command to type, each option with its value, broken between options."""
    return Flow(tuple(_words(plan, shown)), indent=4, hang=4, glue=" ", broken=" \\")


def _words(plan: Plan, shown: Shown) -> Iterator[str]:
    """Yield the words of the command. A saved plan has the options of its making in it, and `destroy` needs no --prune."""
    destroys = shown.command == "destroy"
    yield f"cyborg-infra {'destroy' if destroys else 'apply'}"
    saved = shown.saved_to or shown.saved_in
    if saved:
        yield shlex.quote(saved)
    else:
        if shown.manifest:
            yield shlex.quote(shown.manifest)
        if plan.environment:
            yield f"--env {shlex.quote(plan.environment)}"
        for target in plan.targets:
            yield f"--target {shlex.quote(target)}"
        if plan.prune and not destroys:
            yield "--prune"
    for name in change_lines.allowances(plan):
        if name not in shown.implied:
            yield f"--allow {name}"


def wait(sentence: str) -> Page:
    """Return what an apply is waiting for, in one line."""
    return Page((line(f"  {sentence}"),))


def outcome(outcome: Outcome) -> Page:
    """Return how one change ended, in one line, while an apply runs."""
    change = outcome.change
    symbol = change_lines.symbol(change)
    spans: list[Span] = [(symbol, _COLOURS[symbol]), f" {change.ref.kind} ", (str(change.ref), "bold"), ": "]
    match outcome.status:
        case ResultStatus.SUCCEEDED:
            spans.append("renamed" if change.is_rename else change_lines.action_words(change.action).past)
        case ResultStatus.FAILED:
            spans += [
                ("failed", "bold red"),
                f": {spoken(str(outcome.problem))}" if outcome.problem else "",
            ]
        case ResultStatus.NOT_REACHED:
            spans.append("not reached")
    return Page((line(*spans),))


def applied(outcomes: Sequence[Outcome], command: str = "apply") -> Page:
    """Return the result of `apply` or `destroy`: the counts, every failure with its reason, and everything not reached."""
    failed = [each for each in outcomes if each.status is ResultStatus.FAILED]
    waiting = [each for each in outcomes if each.status is ResultStatus.NOT_REACHED]
    counts = change_lines.destroyed(outcomes) if command == "destroy" else change_lines.applied(outcomes)
    if not failed and not waiting:
        return Page((line((f"{command.capitalize()} complete! {counts}", "bold green")),))
    blocks: list[Block] = [line((f"{command.capitalize()} incomplete. {counts}", "bold red")), line()]
    for each in failed:
        blocks.append(
            line(("Error: ", "bold red"), f"{each.change.ref.kind} {each.change.ref} failed", hang=7)
        )
        if each.problem:
            said = in_command_line_words(each.problem)
            blocks += [line(text, indent=7, hang=0) for text in (said.message, said.hint) if text]
    if waiting:
        blocks.append(line(f"Not reached ({plural(len(waiting), 'change')}):"))
        blocks.append(
            Either(
                lambda: _not_reached(waiting[:_READABLE], len(waiting)),
                lambda: _not_reached(waiting, len(waiting)),
            )
        )
    blocks += [line(), line(f"What was done stays done. Run {command} again to go on from there.")]
    return Page(tuple(blocks))


def dev(
    url: str,
    state: DesiredState,
    *,
    manifest: str | None,
    kept_in: str | None,
    as_operator: Path | None = None,
) -> Page:
    """Return the page of `dev`: where its server is and what to try there. `as_operator` is a context; the roles' are beside it."""
    workers = (
        each for each in state.consumers() if each.role and each.metadata.get(KIND_KEY) == ConsumerKind.WORKER
    )
    consumer = next(workers, None)  # an organisation may have no tasks
    named = f" {shlex.quote(manifest)}" if manifest else ""
    operator, home = "", ""
    if as_operator:
        operator = f" --context {shlex.quote(str(as_operator))}"
        home = f"XDG_CONFIG_HOME={shlex.quote(str(as_operator.parents[2]))} "
    tries = [f"cyborg-infra status{named}{operator}"]
    if consumer:
        worker = f" --context {consumer.role}" if as_operator else ""
        tries = [
            f"cyborg-infra send task {consumer.role}{named}{operator} --title 'Say hello'",
            *tries,
            f"{home}nats{worker} consumer next {consumer.ref.stream} {consumer.ref.consumer}",
        ]
    data = f"The data stays in {kept_in}." if kept_in else "The data is gone at the end; --store keeps it."
    return Page(
        (
            line((f"Listening on {url}", "bold")),
            line(f"{data} Ctrl-C stops the server."),
            line(),
            line("Try, in another terminal:"),
            *(() if as_operator else (line(f"export NATS_URL={url}", indent=2),)),
            *(line(text, indent=2) for text in tries),
        )
    )


def _not_reached(some: Sequence[Outcome], of: int) -> Iterator[Block]:
    for each in some:
        yield line(f"{change_lines.symbol(each.change)} {each.change.ref}", indent=2)
    if len(some) < of:
        yield line(f"and {of - len(some):,} more", indent=2)
