"""What the page says, as values: a pure function of an observation, the organisation, and which part of it is asked for.

Every text is as it is shown, but not escaped: that is the template's business. Its size is bounded, whatever the number of roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlencode

from cyborg_infra.model.changes import Action
from cyborg_infra.model.channels import TASKS
from cyborg_infra.model.dead_letters import MessageLocation
from cyborg_infra.model.monitor import DriftReading, Observation, WatchedLetter
from cyborg_infra.model.organisation import Org, Role
from cyborg_infra.model.status import (
    CRITICAL,
    NEAR_LIMIT_SHARE,
    STATES,
    Alarm,
    BroadcastReceipt,
    BroadcastStatus,
    Condition,
    LimitUsage,
    OrgStatus,
    QueueStatus,
    RoleStatus,
    StreamStatus,
)
from cyborg_infra.model.units import age, format_age, format_size
from cyborg_infra.model.wording import PROGRAM, Command, Option, Wording
from cyborg_infra.monitor.page import chart
from cyborg_infra.monitor.page.content import (
    OVERVIEW,
    AlarmGroup,
    AlarmRow,
    BroadcastRow,
    DriftRow,
    LetterRow,
    Link,
    PageValues,
    Piece,
    QueueRow,
    Severity,
    StreamRow,
    Text,
    View,
)
from cyborg_infra.render.command_line import spoken
from cyborg_infra.render.failures import how_it_failed
from cyborg_infra.render.values import in_short, plural

FEW_ROLES = 20
"""So many roles are shown all; of more, those where something is going on."""
MAX_ROLES, MAX_ALARMS, MAX_LETTERS, MAX_STREAMS, MAX_NAMES = 50, 10, 20, 10, 20
PART = 100
"""So many roles are in one part of a list of those in a state."""

_NEARING = 0.5
"""A stream is shown from this share of a limit on."""
_MAX_TEXT = 300
_UNKNOWN = "?"
_RECEIPTS: Mapping[BroadcastReceipt, str] = {
    BroadcastReceipt.ACKNOWLEDGED: "acknowledged",
    BroadcastReceipt.OPEN: "not acknowledged yet",
    BroadcastReceipt.GIVEN_UP: "given up",
    BroadcastReceipt.UNKNOWN: "not known",
}
_RANK = {state: rank for rank, state in enumerate(STATES)}
_ALARM_RANK = {code: (code not in CRITICAL, rank) for rank, code in enumerate(Condition)}


def severity_of(condition: Condition) -> Severity:
    """Return how bad a state or an alarm is."""
    if condition is Condition.WORKING:
        return Severity.WORKING
    if condition is Condition.IDLE:
        return Severity.IDLE
    return Severity.CRITICAL if condition in CRITICAL else Severity.WARNING


def page_values(observation: Observation, org: Org, view: View) -> PageValues:
    """Return what the page says of an observation."""
    status, role = observation.status, view.role
    is_overview = view == OVERVIEW
    alarms = [each for each in observation.alarms if not role or each.role == role]
    letters = [each for each in observation.dead_letters if not role or each.letter.role == role]
    count = len(letters) if role else status.dead_letters.count if status else None
    severity, headline, why = _verdict(observation, alarms, role)
    roles, note, parts = _chosen(status, view) if status else ((), "", ())
    streams, streams_note = _streams(status) if status and is_overview else ((), "")
    drawn = _chart(org, status) if status and is_overview and org.has_chart else None
    shown = {node.name for node in drawn.nodes} if drawn else set[str]()
    in_chart = {each.name: each for each in status.roles if each.name in shown} if status else {}
    return PageValues(
        org=observation.org,
        environment=observation.environment or "",
        title=_title(observation),
        severity=severity,
        headline=headline,
        why=why,
        server=_server(status),
        read_at=_utc(observation.read_at),
        view=view,
        alarms=tuple(_alarms(alarms, observation.environment)) if not view.state else (),
        known=status is not None,
        states=_states(status, view) if status and not role else (),
        queues=tuple(row for each in roles for row in _queues(each, whole=bool(role))),
        queues_note=note,
        parts=parts,
        role=_of_role(org, role) if role else (),
        broadcasts=_broadcasts(status, role) if status and not view.state else (),
        letters=tuple(
            _letter(each, org, observation.environment, status.now if status else "")
            for each in (letters[:MAX_LETTERS] if not view.state else ())
        ),
        letters_count=_count(count),
        letters_note=_letters_note(min(len(letters), MAX_LETTERS), count, observation.environment),
        streams=streams,
        streams_note=streams_note,
        chart=drawn,
        chart_severities={name: severity_of(each.state) for name, each in in_chart.items()},
        chart_says=tuple(_relation(each, in_chart[each.name]) for each in org.roles if each.name in in_chart),
        drift=_drift(observation) if is_overview else None,
        notes=tuple(pieces(note, observation.environment) for note in status.notes)
        if status and is_overview
        else (),
    )


# What is said first


def _verdict(observation: Observation, alarms: Sequence[Alarm], role: str) -> tuple[Severity, str, Text]:
    of = f"{role}: " if role else ""
    if observation.status is None:
        if observation.problem is None:
            return Severity.UNKNOWN, "Nothing has been read yet", ()
        is_told = any(alarm.code is Condition.UNREADABLE for alarm in alarms)
        why = () if is_told else pieces(_clipped(observation.problem.message))
        return Severity.CRITICAL, "The server cannot be read", why
    if not alarms:
        return (
            Severity.GOOD,
            f"{of}nothing is above a threshold" if of else "Nothing is above a threshold",
            (),
        )
    worst = min((each.code for each in alarms), key=_ALARM_RANK.__getitem__)
    return severity_of(worst), f"{of}{plural(len(alarms), 'alarm')}", ()


def _title(observation: Observation) -> str:
    where = " ".join(filter(None, (observation.org, observation.environment)))
    if observation.status is None:
        return f"? {where}"
    return f"({len(observation.alarms)}) {where}" if observation.alarms else where


def _server(status: OrgStatus | None) -> str:
    info = status.server_info if status else None
    if info is None:
        return ""
    return ", ".join(
        filter(None, (f"nats-server {info.version}", info.cluster and f"cluster {info.cluster}"))
    )


def _alarms(alarms: Sequence[Alarm], environment: str | None) -> Iterator[AlarmGroup]:
    """Yield them by code, the worst first."""
    for code in sorted({alarm.code for alarm in alarms}, key=_ALARM_RANK.__getitem__):
        found = [alarm for alarm in alarms if alarm.code is code]
        yield AlarmGroup(
            code.value,
            severity_of(code),
            tuple(_alarm(each, environment) for each in found[:MAX_ALARMS]),
            max(0, len(found) - MAX_ALARMS),
            address(state=code.value) if code.is_state else "",
            _remedy(code, environment),
        )


def _alarm(alarm: Alarm, environment: str | None) -> AlarmRow:
    first, *others = pieces(_clipped(alarm.message), environment) or (Piece(""),)
    named = f"{alarm.role}: "
    role = alarm.role if alarm.role and first.text.startswith(named) else ""
    if role:
        first = Piece(first.text.removeprefix(named))
    key = "/".join(("alarm", *alarm.key)).replace(" ", "/")
    return AlarmRow(key, role, address(role=role) if role else "", (first, *others))


def _remedy(code: Condition, environment: str | None) -> Text:
    """Return what to do about it; what is typed stands in backticks there."""
    said = spoken(code.remedy)
    said = said[:1].upper() + said[1:] + ("" if said.endswith(".") else ".")
    return tuple(
        _in_environment(Piece(text, typed=bool(odd % 2)), environment)
        for odd, text in enumerate(said.split("`"))
        if text
    )


def pieces(text: str, environment: str | None = None) -> Text:
    """Return a text with the commands that it names as they are typed, set apart; in this environment of the manifest."""
    found: list[Piece] = []
    for part in text.parts if isinstance(text, Wording) else (text,):
        if isinstance(part, str):
            found.append(Piece(part))
        elif isinstance(part, Option) and len(found) > 1 and found[-1] == Piece(" ") and found[-2].typed:
            found[-2:] = [Piece(f"{found[-2].text} {spoken(Wording(part))}", typed=True)]
        else:
            found.append(Piece(spoken(Wording(part)), typed=True))
    return tuple(_in_environment(piece, environment) for piece in found if piece.text)


def _in_environment(piece: Piece, environment: str | None) -> Piece:
    if environment is None or not piece.typed or not piece.text.startswith(f"{PROGRAM} "):
        return piece
    return Piece(f"{piece.text} {spoken(Wording(Option('env', environment)))}", typed=True)


# Queues


def _chosen(status: OrgStatus, view: View) -> tuple[Sequence[RoleStatus], str, Sequence[Link]]:
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
    worst = sorted(status.roles, key=_how_bad)
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


def _how_bad(role: RoleStatus) -> int:
    """Return what to sort by: alarms first; whether the others work changes all the time, and they keep their place."""
    return min(_RANK[role.state], _RANK[Condition.WORKING])


def _states(status: OrgStatus, view: View) -> Sequence[Link]:
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
    """Return those that one of its queues is in; idle is a role of which all are."""
    return {queue.state for queue in role.queues} - ({Condition.IDLE} - {role.state})


def _queues(role: RoleStatus, *, whole: bool) -> Iterator[QueueRow]:
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
        waiting=_count(queue.waiting),
        above=(queue.waiting or 0) > queue.lag_threshold,
        oldest=_age(queue.oldest_waiting),
        in_flight=_count(queue.in_flight),
        expired=bool(queue.expired),
        again=_count(queue.redelivered),
        workers=_count(queue.workers),
        active=f"{_age(queue.last_activity)} ago" if queue.last_activity is not None else "-",
    )


def _of_role(org: Org, name: str) -> Sequence[tuple[str, str, Sequence[Link]]]:
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
    return ([("is", _clipped(role.description), ())] if role.description else []) + said


def _links(names: Sequence[str]) -> Sequence[Link]:
    return tuple(Link(name, address(role=name)) for name in names[:MAX_NAMES])


def _and_more(names: Sequence[str]) -> str:
    return f"and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""


# Broadcasts, dead letters, streams


def _broadcasts(status: OrgStatus, role: str) -> Sequence[BroadcastRow]:
    """Return them as all roles have answered, or as one has."""
    if not role:
        return tuple(_broadcast(each, status) for each in status.broadcasts)
    return tuple(
        replace(_broadcast(replace(each, answers={role: answer}), status), said=_RECEIPTS[answer])
        for each in status.broadcasts
        if (answer := each.answers.get(role))
    )


def _broadcast(found: BroadcastStatus, status: OrgStatus) -> BroadcastRow:
    open_, given_up, unknown, done = (
        found.roles(answer)
        for answer in (
            BroadcastReceipt.OPEN,
            BroadcastReceipt.GIVEN_UP,
            BroadcastReceipt.UNKNOWN,
            BroadcastReceipt.ACKNOWLEDGED,
        )
    )
    is_late = any(found.is_late(each, status.alerts) for each in (*open_, *given_up))
    severity = (
        Severity.WARNING
        if is_late
        else Severity.WORKING
        if open_ or given_up
        else Severity.UNKNOWN
        if unknown
        else Severity.GOOD
    )
    wanting = [
        f"{note} {in_short(roles)}"
        for note, roles in (("not by", open_), ("given up by", given_up), ("not known of", unknown))
        if roles
    ]
    return BroadcastRow(
        f"broadcast-{found.stream}-{found.seq}",
        f"{found.seq:,}{f' to {found.group}' if found.group else ''}",
        severity,
        f"{format_age(found.age)} ago",
        f"acknowledged by {len(done):,} of {len(found.answers):,}{''.join(f'; {each}' for each in wanting)}",
        is_late,
    )


def _letter(found: WatchedLetter, org: Org, environment: str | None, now: str) -> LetterRow:
    letter = found.letter
    verb, note = _handled(found)
    return LetterRow(
        key=f"letter-{letter.number}",
        number=letter.number,
        role=letter.role,
        address=address(role=letter.role) if org.role(letter.role) else "",
        at=letter.time,
        age=_age(age(letter.time, now)),
        task_id=_clipped(found.task_id),
        title=_clipped(found.title),
        why=_clipped(how_it_failed(letter) + (f": {letter.reason}" if letter.reason else "")),
        place=f"{letter.stream}/{letter.sequence}" if letter.stream else "",
        command=_command(f"dlq {verb} {letter.number}", environment),
        note=note,
    )


def _handled(found: WatchedLetter) -> tuple[str, str]:
    """Return the command for it, and why it is not replayed. Nothing is dropped on a guess: only where its message is known to be gone."""
    letter = found.letter
    if letter.original is MessageLocation.UNREAD:
        return "show", "Its message could not be read."
    if letter.original is MessageLocation.GONE:
        return "drop", f"The message is gone: {letter.why_gone}."
    if letter.replaying:
        return "show", "Perhaps it was replayed: look whether the work was done."
    if not found.replays_to:
        return "show", "It does not say where it was published: send it anew."
    return "replay", ""


def _command(words: str, environment: str | None) -> str:
    """Return what is typed, in the environment that is watched."""
    return pieces(Wording(Command(words)), environment)[0].text


def _letters_note(page_has: int, count: int | None, environment: str | None) -> Text:
    """Return where the others are, if these are not all."""
    if count is None or count <= page_has:
        return ()
    return (Piece("The newest ones; all: "), Piece(_command("dlq list", environment), typed=True))


def _streams(status: OrgStatus) -> tuple[Sequence[StreamRow], str]:
    found = sorted(
        (
            (usage, stream)
            for stream in status.streams
            for usage in [_usage(stream)]
            if usage and usage.share >= _NEARING
        ),
        key=lambda pair: -pair[0].share,
    )
    rows = tuple(_stream(stream, usage) for usage, stream in found[:MAX_STREAMS])
    rest = (
        f"{plural(len(found) - MAX_STREAMS, 'more stream')} above half of a limit"
        if found[MAX_STREAMS:]
        else ""
    )
    return rows, rest


def _usage(stream: StreamStatus) -> LimitUsage | None:
    """Return what is nearest to a limit: of all that is stored, or of what somebody has still to read."""
    return max(
        (each for each in (stream.fill, stream.unread) if each), key=lambda each: each.share, default=None
    )


def _stream(stream: StreamStatus, usage: LimitUsage) -> StreamRow:
    held = [
        plural(stream.messages, "message") if stream.messages is not None else "",
        format_size(stream.bytes) if stream.bytes is not None else "",
    ]
    unread = f", not read by {usage.reader}" if usage.reader else ""
    return StreamRow(
        str(stream.ref),
        Severity.WARNING if usage.share >= NEAR_LIMIT_SHARE else Severity.WORKING,
        int(usage.share * 100),
        f"{usage.limit}{unread}",
        ", ".join(filter(None, held)),
    )


# The chart, and what was applied


def _chart(org: Org, status: OrgStatus) -> chart.Chart:
    matters = [each.name for each in sorted(status.roles, key=_how_bad) if each.state is not Condition.IDLE]
    return chart.draw_chart(
        org, [name for name in matters if org.role(name)], {each.name: _tasks(each) for each in status.roles}
    )


def _tasks(role: RoleStatus) -> int:
    """Return how many tasks wait for it."""
    return sum(queue.waiting or 0 for queue in role.queues if queue.channel == TASKS)


def _relation(role: Role, status: RoleStatus) -> str:
    """Return what the drawing says of a role, for whoever does not see it."""
    parts = [
        f"reports to {role.reports_to}" if role.reports_to else "reports to nobody",
        f"assigns to {in_short(role.assigns)}" if role.assigns else "",
        f"{plural(_tasks(status), 'task')} waiting",
    ]
    return f"{role.name}: {', '.join(filter(None, parts))}"


def _drift(observation: Observation) -> DriftRow | None:
    drift = observation.drift
    if drift is None:
        if observation.drift_problem is None:
            return None
        said = (Piece("No plan can be made: "), *pieces(_clipped(observation.drift_problem.message)))
        return DriftRow(Severity.UNKNOWN, said)
    by = f"with cyborg-infra {drift.applied_by}" if drift.applied_by else ""
    return DriftRow(
        *_planned(drift, observation.environment),
        _utc(drift.checked_at),
        _utc(drift.applied_at),
        f"{by}{', and not to its end' if drift.complete is False else ''}",
    )


def _planned(drift: DriftReading, environment: str | None) -> tuple[Severity, Text]:
    drifted, pending = (_actions(each) for each in (drift.drifted, drift.pending))
    if drift.has_drift:
        said = f"Somebody has changed the server{f': {drifted}' if drifted else ''}. "
        more = f"Not applied yet besides: {pending}. " if pending else ""
        return Severity.WARNING, (Piece(said + more), Piece(_command("drift", environment), typed=True))
    if pending:
        return Severity.WORKING, (
            Piece(f"Not applied yet: {pending}. "),
            Piece(_command("plan", environment), typed=True),
        )
    return Severity.GOOD, (Piece("The server is as the manifest says."),)


def _actions(counts: Mapping[Action, int]) -> str:
    return ", ".join(f"{number:,} to {action}" for action, number in counts.items() if number)


# Words


def address(**query: str) -> str:
    """Return the address of a part of the page."""
    return f"?{urlencode(query)}"


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _age(nanoseconds: int | None) -> str:
    return "" if nanoseconds is None else format_age(nanoseconds)


def _utc(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _clipped(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
