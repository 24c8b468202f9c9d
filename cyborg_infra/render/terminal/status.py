"""A status to lines for people: a table of the queues, then what else there is to know, then what is too much."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cyborg_infra.model.status import (
    ALARMS,
    Alarm,
    BroadcastReceipt,
    BroadcastStatus,
    Condition,
    DeadLetterSummary,
    OrgStatus,
    QueueStatus,
    RoleStatus,
)
from cyborg_infra.model.units import format_age
from cyborg_infra.render import change_lines
from cyborg_infra.render.command_line import spoken
from cyborg_infra.render.terminal.layout import Block, Page, Table, line
from cyborg_infra.render.values import in_short, plural

_ROLES = 20
"""More roles than these are shown only where something is going on."""

_UNKNOWN = "?"


def status(status: OrgStatus) -> Page:
    """Return the whole status."""
    return Page(
        (
            line(change_lines.place(status.org, status.environment, status.server_info)),
            line(),
            *_roles(status),
            *_broadcasts(status),
            line(_dead_letters(status.dead_letters)),
            *(line(("Note: ", "bold"), spoken(note)) for note in status.notes),
            line(),
            *_alarms(status),
        )
    )


def alarms(status: OrgStatus) -> Page:
    """Return what is above a threshold, one line each; nothing at all if all is well."""
    return Page(tuple(line(spoken(str(alarm))) for alarm in status.alarms))


def _roles(status: OrgStatus) -> Iterator[Block]:
    shown = [role for role in status.roles if len(status.roles) <= _ROLES or role.state is not Condition.IDLE]
    # AGAIN is num_redelivered, WORKERS pull requests that wait: the table has to fit into 80 columns.
    head = ("ROLE", "QUEUE", "STATE", "WAITING", "IN FLIGHT", "AGAIN", "WORKERS", "ACTIVE")
    rows = [_row(role, queue) for role in shown for queue in _queues(role)]
    if rows:
        yield Table(head, tuple(rows))
        yield from _explained({queue.state for role in shown for queue in _queues(role)}, status)
    if idle := len(status.roles) - len(shown):
        yield line(f"{'' if not rows else '... and '}{plural(idle, 'role')} idle")
    yield line()


def _explained(shown: Collection[Condition], status: OrgStatus) -> Iterator[Block]:
    """Yield a line on each state that is shown and is no alarm yet: an alarm has words of its own."""
    alarmed = {alarm.code for alarm in status.alarms}
    for state in ALARMS:
        if state in shown and state not in alarmed:
            yield line(
                (state, "bold"), f": {state.means.replace('`', '')} An alarm {state.alarm.replace('`', '')}."
            )


def _queues(role: RoleStatus) -> list[QueueStatus]:
    """Return the tasks, and the other queues where something is going on."""
    return [
        queue
        for position, queue in enumerate(role.queues)
        if not position or queue.state is not Condition.IDLE or queue.waiting or queue.in_flight
    ]


def _row(role: RoleStatus, queue: QueueStatus) -> tuple[str, ...]:
    return (
        role.name,
        queue.channel,
        queue.state.value,
        _count(queue.waiting)
        + (f" for {format_age(queue.oldest_waiting)}" if queue.oldest_waiting is not None else ""),
        _count(queue.in_flight) + (" expired" if queue.expired else ""),
        _count(queue.redelivered),
        _count(queue.workers),
        format_age(queue.last_activity) if queue.last_activity is not None else "-",
    )


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _broadcasts(status: OrgStatus) -> Iterator[Block]:
    if not status.broadcasts:
        return
    rows = tuple((str(found), format_age(found.age), *_answers(found)) for found in status.broadcasts)
    yield Table(("BROADCAST", "AGE", "ACKNOWLEDGED", "NOT BY"), rows)
    yield line()


def _answers(found: BroadcastStatus) -> tuple[str, str]:
    wanting = [
        f"{in_short(roles)}{note}"
        for answer, note in (
            (BroadcastReceipt.OPEN, ""),
            (BroadcastReceipt.GIVEN_UP, " (given up)"),
            (BroadcastReceipt.UNKNOWN, " (not known)"),
        )
        if (roles := found.roles(answer))
    ]
    done = len(found.roles(BroadcastReceipt.ACKNOWLEDGED))
    return f"{done:,} of {len(found.answers):,}", "; ".join(wanting) or "-"


def _dead_letters(found: DeadLetterSummary) -> str:
    if found.count is None:
        return "Dead letters: not known"
    if not found.count:
        return "Dead letters: none"
    newest = f"; the newest {format_age(found.newest_age)} ago" if found.newest_age is not None else ""
    letter = found.newest
    what = f": {letter.type}" if letter else ""
    if letter and letter.stream:
        what += f", message {letter.sequence:,} of {letter.stream} for {letter.consumer or 'nobody'}"
    return f"Dead letters: {found.count:,}{newest}{what}"


def _alarms(status: OrgStatus) -> Iterator[Block]:
    if not status.alarms:
        yield line(("Nothing is above a threshold.", "bold green"))
    for alarm in status.alarms:
        yield _alarm(alarm)


def _alarm(alarm: Alarm) -> Block:
    return line(("! ", "red"), (alarm.code, "bold red"), f": {spoken(alarm.message)}")
