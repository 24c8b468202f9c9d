"""A plan as GitHub Markdown, for a comment on a pull request. Whatever a value contains, it stays text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.model.plan import Action, Change, Plan
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.state import Resource
from cyborg_infra.render import differences as tell
from cyborg_infra.render.values import clean, few, holds, in_short, plural

# More rows than this, and a change is folded away.
_LONG = 12
# Marks of Markdown and HTML; an entity in their place is text wherever it stands.
_MARKS = frozenset("\\`*_[]<>|~&$")


def plan(plan: Plan) -> str:
    """The summary first, then what needs a reviewer's eye, what is created folded away, and how to apply it."""
    parts = [f"### {prose(tell.summary(plan))}", prose(tell.target(plan))]
    parts += _warnings(plan)
    parts += [_change(change) for change in plan.changes if change.action is not Action.CREATE]
    created = [change for change in plan.changes if change.action is Action.CREATE]
    if created:
        parts.append(_created(created))
    if plan.orphans:
        parts.append("\n".join(_orphan(orphan) for orphan in plan.orphans))
    if plan.notes:
        parts.append("\n".join(f"- Note: {prose(note)}" for note in plan.notes))
    return "\n\n".join(parts) + "\n"


def prose(text: str) -> str:
    """`text` as running text: no Markdown, no HTML, nobody notified."""
    # A zero-width space breaks a mention; an entity would not: mentions are looked for after rendering.
    escaped = "".join(f"&#{ord(char)};" if char in _MARKS else char for char in clean(text))
    return escaped.replace("@", "@&#8203;")


def code(text: str) -> str:
    """`text` as code, also inside a table."""
    shown = clean(text)
    if not shown.strip() or set(shown) & set("`|"):
        return f"<code>{prose(shown)}</code>"
    return f"`{shown}`"


def _warnings(plan: Plan) -> Iterator[str]:
    if plan.impossible:
        yield f"**{prose(tell.refusal(plan))}**"
    if plan.problems:
        yield "\n".join(f"- {_problem(problem)}" for problem in plan.problems)
    if plan.hazards:
        allow = " ".join(f"--allow {name}" for name in tell.allowances(plan))
        rows = [
            f"- **{hazard.name.value}**: {code(str(change.ref))}: {prose(tell.hazard(hazard))}"
            for change in plan.changes
            for hazard in change.hazards
        ]
        rows += [f"- **{hazard.name.value}**: {prose(tell.hazard(hazard))}" for hazard in plan.whole]
        yield "\n".join([f"**This plan has hazards.** Applying it needs {code(allow)}.", "", *rows])


def _problem(problem: Problem) -> str:
    where = f"{code(str(problem.where))}: " if problem.where else ""
    hint = f" ({prose(problem.hint)})" if problem.hint else ""
    return f"**Error**: {where}{prose(problem.message)}{hint}"


def _change(change: Change) -> str:
    symbol = tell.SYMBOLS[change.action]
    name = f"{symbol} {change.ref.kind} {change.ref}"
    why = [words for words in (tell.cause(change), change.reason) if words]
    if change.before and change.action in (Action.DELETE, Action.REPLACE) and holds(change.before):
        why.append(f"it {holds(change.before)}")
    title = prose(f" {tell.VERBS[change.action]}" + (f" ({'; '.join(why)})" if why else ""))
    rows = list(_rows(change))
    body = _table(("", "field", "before", "after"), rows) if rows else ""
    body += "\n\n" * bool(change.problems) + "\n".join(
        f"- {_problem(problem)}" for problem in change.problems
    )
    if len(rows) > _LONG:
        return _details(f"<code>{prose(name)}</code>{title}", body)
    return f"{code(name)}{title}" + (f"\n\n{body.lstrip()}" if body else "")


def _rows(change: Change) -> Iterator[tuple[str, ...]]:
    for each in tell.differences(change):
        reason = f" **{prose(each.reason)}**" if each.reason else ""
        if each.is_set:
            removed = "<br>".join(f"- {code(subject)}" for subject in each.removed)
            added = "<br>".join(f"+ {code(subject)}" for subject in few(each.added))
            yield "~", code(each.name) + reason, removed, added
        else:
            yield "~", code(each.name) + reason, code(each.before), code(each.after)
    if tell.marks(change):
        yield "~", code("metadata"), "", prose(tell.marks(change))


def _created(changes: Sequence[Change]) -> str:
    rows = [
        ("+", code(f"{change.ref.kind} {change.ref}"), "<br>".join(_settings(change.after)))
        for change in changes
        if change.after
    ]
    return _details(f"{plural(len(rows), 'resource')} to create", _table(("", "resource", "fields"), rows))


def _settings(resource: Resource) -> Iterator[str]:
    for name, subjects in tell.members(resource):
        yield code(f"{name}: {in_short(subjects)}")
    for name, value in tell.settings(resource):
        yield code(f"{name}: {value}")


def _orphan(orphan: Resource) -> str:
    held = f" and {holds(orphan)}" if holds(orphan) else ""
    name = code(f"{orphan.ref.kind} {orphan.ref}")
    return f"- Orphan: {name} is no longer in the manifest{prose(held)}; {code('--prune')} deletes it."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _details(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"
