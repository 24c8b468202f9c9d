"""A plan as GitHub Markdown, for a comment on a pull request. Whatever a value contains, it stays text.

A comment has a limit (GitHub: 65,536 characters): what weighs most comes first, and what does not fit is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from cyborg_infra.model.changes import Action, Change
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.problems import CyborgError, Problem
from cyborg_infra.model.resources import LiveResource, Resource
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.render import change_lines
from cyborg_infra.render.command_line import in_command_line_words, spoken
from cyborg_infra.render.values import escape_control, few, holds, in_short, plural

# More rows than this, and a change is folded away.
_LONG = 12
# Marks of Markdown and HTML; an entity in their place is text wherever it stands.
_MARKS = frozenset("\\`*_[]<>|~&$")


def plan(plan: Plan, maximum: int) -> str:
    """Return the summary first, then what needs a reviewer's eye, what is created folded away, and how to apply it.

    At most so many characters, if there is room for the summary at all.
    """
    return _page(plan.summary, plan, maximum, acting=True)


def drift(plan: Plan, maximum: int) -> str:
    """Return the verdict first, then what differs; nothing is about to be applied."""
    return _page(" ".join(change_lines.verdict(plan)), plan, maximum, acting=False)


def problems(error: CyborgError) -> str:
    """Return the problems of a command that failed."""
    return "\n".join(["### Error", "", *(f"- {_problem(problem)}" for problem in error.problems)]) + "\n"


class _Section(NamedTuple):
    """Parts that belong together: as many as fit, and what the `rest` of them come to."""

    parts: Sequence[str]
    rest: Callable[[int], str]  # of the parts from this one on
    lead: str = ""  # a sentence before them, whether or not any fits
    head: str = ""
    foot: str = ""
    glue: str = "\n"

    def within(self, room: int) -> str:
        """Return the section in at most `room` characters; empty where not even its rest has that."""
        fitting, used = 0, len(self.lead) + len(self.head) + len(self.foot)
        all_of_them = used + sum(len(part) + len(self.glue) for part in self.parts) + _BETWEEN
        if all_of_them > room:
            used += len(self.rest(0)) + _BETWEEN
            while used + len(self.parts[fitting]) + len(self.glue) <= room:
                used += len(self.parts[fitting]) + len(self.glue)
                fitting += 1
        else:
            fitting = len(self.parts)
        listed = f"{self.head}{self.glue.join(self.parts[:fitting])}{self.foot}" if fitting else ""
        rest = self.rest(fitting) if fitting < len(self.parts) else ""
        shown = "\n\n".join(filter(None, (self.lead, listed, rest)))
        return shown if len(shown) <= room else ""


_BETWEEN = 16
"""Characters for the empty lines between, and for a count that is longer than another one."""


def _page(heading: str, plan: Plan, maximum: int, *, acting: bool) -> str:
    parts = [f"### {prose(heading)}", prose(change_lines.target(plan))]
    if plan.blocking_problems:
        parts.append(f"**{prose(change_lines.refusal(plan))}**")
    if acting:
        parts += [prose(sentence) for sentence in change_lines.effort(plan)]
    left = maximum - sum(len(part) + 2 for part in parts)
    for section in _sections(plan, acting=acting):
        shown = section.within(left - 2)
        parts += [shown] if shown else []
        left -= len(shown) + 2
    return "\n\n".join(parts) + "\n"


def _sections(plan: Plan, *, acting: bool) -> Iterator[_Section]:
    """Yield the sections of a plan by weight: problems and hazards, then what is deleted, changed, new."""
    if plan.problems:
        yield _Section(
            [f"- {_problem(problem)}" for problem in plan.problems], _more(plan.problems, "problem")
        )
    if plan.hazards:
        yield _hazards(plan, acting=acting)
    going = [change for change in plan.changes if change.action in _GOING]
    staying = [change for change in plan.changes if change.action not in (*_GOING, Action.CREATE)]
    for changes in (going, staying):
        if changes:
            yield _Section([_change(change) for change in changes], _rest(changes), glue="\n\n")
    created = [change for change in plan.changes if change.action is Action.CREATE]
    if created:
        yield _created(created)
    if plan.orphans:
        yield _Section([_orphan(orphan) for orphan in plan.orphans], _more(plan.orphans, "orphan"))
    if plan.notes:
        yield _Section([f"- Note: {prose(spoken(note))}" for note in plan.notes], _more(plan.notes, "note"))


_GOING = (Action.IMPOSSIBLE, Action.REPLACE, Action.DELETE)


def _more(parts: Sequence[object], noun: str) -> Callable[[int], str]:
    return lambda shown: f"And {plural(len(parts) - shown, f'more {noun}')}."


def _rest(changes: Sequence[Change]) -> Callable[[int], str]:
    """Return a function that counts, by kind, the changes after the first `shown` ones, which do not fit."""

    def told(shown: int) -> str:
        counts = [
            f"{plural(len(alike), alike[0].ref.kind)} {change_lines.verb(alike[0])}"
            for alike in change_lines.kinds_of_change(changes[shown:])
        ]
        return f"And more that has no room here: {'; '.join(counts)}."

    return told


def prose(text: str) -> str:
    """Return `text` as running text: no Markdown, no HTML, nobody notified."""
    # A zero-width space breaks a mention; an entity would not: mentions are looked for after rendering.
    escaped = "".join(f"&#{ord(char)};" if char in _MARKS else char for char in escape_control(text))
    return escaped.replace("@", "@&#8203;")


def code(text: str) -> str:
    """Return `text` as code, also inside a table."""
    shown = escape_control(text)
    if not shown.strip() or set(shown) & set("`|"):
        return f"<code>{prose(shown)}</code>"
    return f"`{shown}`"


def _hazards(plan: Plan, *, acting: bool) -> _Section:
    """Return a section of every hazard; if they do not fit, the sum of each name."""
    allow = code(" ".join(f"--allow {name}" for name in change_lines.allowances(plan)))
    heading = f"**This plan has hazards.** Applying it needs {allow}."
    if not acting:
        heading = "**What an apply of the manifest would cost:**"
    found = [(f"{code(str(change.ref))}: ", hazard) for change in plan.changes for hazard in change.hazards]
    found += [("", hazard) for hazard in plan.plan_hazards]
    rows = [f"- **{hazard.name.value}**: {where}{prose(hazard.cost)}" for where, hazard in found]

    def rest(shown: int) -> str:
        names = Counter(hazard.name.value for _, hazard in found[shown:])
        counts = Counter[str]()
        for _, hazard in found[shown:]:
            counts[hazard.name.value] += hazard.count
        told = [
            f"{name}: {plural(names[name], 'hazard')} ({counts[name]:,} in all)" for name in sorted(names)
        ]
        return f"And more that has no room here: {'; '.join(told)}."

    return _Section(rows, rest, lead=heading)


def _problem(problem: Problem) -> str:
    problem = in_command_line_words(problem)
    where = f"{code(str(problem.where))}: " if problem.where else ""
    hint = f" ({prose(problem.hint)})" if problem.hint else ""
    return f"**Error**: {where}{prose(problem.message)}{hint}"


def _change(change: Change) -> str:
    symbol = change_lines.symbol(change)
    name = f"{symbol} {change.ref.kind} {change.ref}"
    why = [words for words in (change_lines.cause(change), change.reason) if words]
    if change.before and change.action in (Action.DELETE, Action.REPLACE) and holds(change.before):
        why.append(f"it {holds(change.before)}")
    title = prose(f" {change_lines.verb(change)}" + (f" ({'; '.join(why)})" if why else ""))
    rows = list(_rows(change))
    body = _table(("", "field", "before", "after"), rows) if rows else ""
    body += "\n\n" * bool(change.problems) + "\n".join(
        f"- {_problem(problem)}" for problem in change.problems
    )
    if len(rows) > _LONG:
        return _details(f"<code>{prose(name)}</code>{title}", body)
    return f"{code(name)}{title}" + (f"\n\n{body.lstrip()}" if body else "")


def _rows(change: Change) -> Iterator[tuple[str, ...]]:
    for each in change_lines.differences(change):
        reason = f" **{prose(each.reason)}**" if each.reason else ""
        if each.is_set:
            removed = "<br>".join(f"- {code(subject)}" for subject in each.removed)
            added = "<br>".join(f"+ {code(subject)}" for subject in few(each.added))
            yield "~", code(each.name) + reason, removed, added
        else:
            yield "~", code(each.name) + reason, code(each.before), code(each.after)
    if change_lines.marks(change):
        yield "~", code("metadata"), "", prose(change_lines.marks(change))


def _created(changes: Sequence[Change]) -> _Section:
    alike: dict[str, change_lines.Settings] = {}
    rows = [
        _row(("+", code(f"{change.ref.kind} {change.ref}"), "<br>".join(_settings(change.after, alike))))
        for change in changes
        if change.after
    ]
    head = _folded(f"{plural(len(rows), 'resource')} to create") + _table(("", "resource", "fields"), ())
    return _Section(rows, _rest(changes), head=f"{head}\n", foot=_UNFOLDED)


def _settings(resource: Resource, alike: dict[str, change_lines.Settings]) -> Iterator[str]:
    for name, subjects in change_lines.members(resource):
        yield code(f"{name}: {in_short(subjects)}")
    for name, value in change_lines.settings(resource, alike):
        yield code(f"{name}: {value}")


def _orphan(orphan: LiveResource) -> str:
    held = f" and {holds(orphan)}" if holds(orphan) else ""
    name = code(f"{orphan.ref.kind} {orphan.ref}")
    return f"- Orphan: {name} is no longer in the manifest{prose(held)}; {code('--prune')} deletes it."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(map(_row, (head, ["---"] * len(head), *rows)))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _details(summary: str, body: str) -> str:
    return f"{_folded(summary)}{body}{_UNFOLDED}"


def _folded(summary: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n"


_UNFOLDED = "\n\n</details>"
