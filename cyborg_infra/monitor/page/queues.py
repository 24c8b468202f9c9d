"""The roles that the page shows, their queues, and what the manifest says of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.model.organisation import Org
from cyborg_infra.model.status import STATES, Condition, OrgStatus, QueueStatus, RoleStatus
from cyborg_infra.monitor.page.content import Link, QueueRow, View, severity_of
from cyborg_infra.monitor.page.texts import address, age_text, clipped, count_text
from cyborg_infra.render.values import plural

FEW_ROLES = 20
"""So many roles are shown all; of more, those where something is going on."""
PART = 100
"""So many roles are in one part of a list of those in a state."""
MAX_ROLES, MAX_NAMES = 50, 20
_RANK = {state: rank for rank, state in enumerate(STATES)}


def chosen_roles(status: OrgStatus, view: View) -> tuple[Sequence[RoleStatus], str, Sequence[Link]]:
    """Return the roles that are shown, what is said of the others, and the parts of the list."""
    if view.role:
        return [each for each in status.roles if each.name == view.role], "", ()
    if view.state:
        found = [each for each in status.roles if view.state in _states_of(each)]
        begin = (view.part - 1) * PART
        shown = found[begin : begin + PART]
        last = max(1, -(-len(found) // PART))
        near = [each for each in (1, view.part - 1, view.part, view.part + 1, last) if 1 <= each <= last]
        parts = [
            Link(
                f"{each:,}",
                address(state=view.state.value, part=str(each)),
                is_here=each == view.part,
            )
            for each in dict.fromkeys(near)
        ]
        which = "idle" if view.state is Condition.IDLE else f"with a queue that is {view.state}"
        note = f"{plural(len(found), 'role')} {which}"
        return shown, note, tuple(parts) if last > 1 else ()
    worst = sorted(status.roles, key=how_bad)
    if len(worst) <= FEW_ROLES:
        return worst, "", ()
    going_on = [each for each in worst if each.state is not Condition.IDLE]
    shown = going_on[:MAX_ROLES]
    rest = [
        f"{plural(len(going_on) - len(shown), 'more role')} with something going on"
        if going_on[MAX_ROLES:]
        else "",
        f"{plural(len(worst) - len(going_on), 'role')} idle" if worst[len(going_on) :] else "",
    ]
    return shown, " and ".join(filter(None, rest)), ()


def how_bad(role: RoleStatus) -> int:
    """Return the sort key of a role: alarms first. All that work or idle are equal, and keep their place."""
    return min(_RANK[role.state], _RANK[Condition.WORKING])


def state_links(status: OrgStatus, view: View) -> Sequence[Link]:
    """Return the states that roles are in, with how many are."""
    counts: dict[Condition, int] = {}
    for role in status.roles:
        for state in _states_of(role):
            counts[state] = counts.get(state, 0) + 1
    return tuple(
        Link(
            f"{state} {counts[state]:,}",
            address(state=state.value),
            severity_of(state),
            state is view.state,
        )
        for state in STATES
        if state in counts
    )


def _states_of(role: RoleStatus) -> set[Condition]:
    """Return the states of the role's queues; idle only if all of them are."""
    return {queue.state for queue in role.queues} - ({Condition.IDLE} - {role.state})


def queue_rows(role: RoleStatus, *, whole: bool) -> Iterator[QueueRow]:
    """Yield the tasks, and the other queues where something is going on."""
    heads = True
    for queue in role.queues:
        if whole or heads or queue.state is not Condition.IDLE:
            yield _queue(role.name, queue, heads=heads)
            heads = False


def _queue(role: str, queue: QueueStatus, *, heads: bool) -> QueueRow:
    return QueueRow(
        role=role,
        address=address(role=role),
        heads=heads,
        channel=queue.channel,
        state=queue.state,
        severity=severity_of(queue.state),
        waiting=count_text(queue.waiting),
        above=(queue.waiting or 0) > queue.lag_threshold,
        oldest=age_text(queue.oldest_waiting),
        in_flight=count_text(queue.in_flight),
        expired=bool(queue.expired),
        again=count_text(queue.redelivered),
        workers=count_text(queue.workers),
        active=f"{age_text(queue.last_activity)} ago" if queue.last_activity is not None else "-",
    )


def role_facts(org: Org, name: str) -> Sequence[tuple[str, str, Sequence[Link]]]:
    """Return what the manifest says of a role: a word, a text, and roles."""
    role = org.role(name)
    if role is None:
        return ()
    below = [each.name for each in org.roles if each.reports_to == name]
    givers = [each.name for each in org.roles if each.assigns and name in org.members(each.assigns)]
    rows = (
        ("reports to", [role.reports_to] if role.reports_to else []),
        ("assigned by", givers),
        ("gives tasks to", below),
        ("assigns to", [each for each in org.members(role.assigns) if each != name]),
    )
    said = [(word, _and_more(names), _links(names)) for word, names in rows if names]
    return ([("is", clipped(role.description), ())] if role.description else []) + said


def _links(names: Sequence[str]) -> Sequence[Link]:
    return tuple(Link(name, address(role=name)) for name in names[:MAX_NAMES])


def _and_more(names: Sequence[str]) -> str:
    return f"and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
