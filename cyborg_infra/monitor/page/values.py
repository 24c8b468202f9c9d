"""What the page says, as values: a pure function of an observation, the organisation, and which part of it is asked for.

Every text is as it is shown, but not escaped: that is the template's business. Its size is bounded, whatever the number of roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cyborg_infra.model.changes import Action
from cyborg_infra.model.channels import TASKS
from cyborg_infra.model.monitor import DriftReading, Observation
from cyborg_infra.model.organisation import Org, Role
from cyborg_infra.model.status import CRITICAL, Alarm, Condition, OrgStatus, RoleStatus
from cyborg_infra.monitor.page import chart
from cyborg_infra.monitor.page.content import (
    OVERVIEW,
    AlarmGroup,
    AlarmRow,
    DriftRow,
    PageValues,
    Piece,
    Severity,
    Text,
    View,
    severity_of,
)
from cyborg_infra.monitor.page.lists import broadcast_rows, letter_row, letters_note, stream_rows
from cyborg_infra.monitor.page.queues import chosen_roles, how_bad, queue_rows, role_facts, state_links
from cyborg_infra.monitor.page.texts import (
    address,
    clipped,
    command_text,
    count_text,
    in_environment,
    pieces,
    time_text,
)
from cyborg_infra.render.command_line import spoken
from cyborg_infra.render.values import in_short, plural

MAX_ALARMS, MAX_LETTERS = 10, 20
_ALARM_RANK = {code: (code not in CRITICAL, rank) for rank, code in enumerate(Condition)}


def page_values(observation: Observation, org: Org, view: View) -> PageValues:
    """Return what the page says of an observation."""
    status, role = observation.status, view.role
    is_overview = view == OVERVIEW
    alarms = [each for each in observation.alarms if not role or each.role == role]
    letters = [each for each in observation.dead_letters if not role or each.letter.role == role]
    count = len(letters) if role else status.dead_letters.count if status else None
    severity, headline, why = _verdict(observation, alarms, role)
    roles, note, parts = chosen_roles(status, view) if status else ((), "", ())
    streams, streams_note = stream_rows(status) if status and is_overview else ((), "")
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
        read_at=time_text(observation.read_at),
        view=view,
        alarms=tuple(_alarms(alarms, observation.environment)) if not view.state else (),
        known=status is not None,
        states=state_links(status, view) if status and not role else (),
        queues=tuple(row for each in roles for row in queue_rows(each, whole=bool(role))),
        queues_note=note,
        parts=parts,
        role=role_facts(org, role) if role else (),
        broadcasts=broadcast_rows(status, role) if status and not view.state else (),
        letters=tuple(
            letter_row(each, org, observation.environment, status.now if status else "")
            for each in (letters[:MAX_LETTERS] if not view.state else ())
        ),
        letters_count=count_text(count),
        letters_note=letters_note(min(len(letters), MAX_LETTERS), count, observation.environment),
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


def _verdict(observation: Observation, alarms: Sequence[Alarm], role: str) -> tuple[Severity, str, Text]:
    of = f"{role}: " if role else ""
    if observation.status is None:
        if observation.problem is None:
            return Severity.UNKNOWN, "Nothing has been read yet", ()
        is_told = any(alarm.code is Condition.UNREADABLE for alarm in alarms)
        why = () if is_told else pieces(clipped(observation.problem.message))
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
    first, *others = pieces(clipped(alarm.message), environment) or (Piece(""),)
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
        in_environment(Piece(text, typed=bool(odd % 2)), environment)
        for odd, text in enumerate(said.split("`"))
        if text
    )


def _chart(org: Org, status: OrgStatus) -> chart.Chart:
    matters = [each.name for each in sorted(status.roles, key=how_bad) if each.state is not Condition.IDLE]
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
        said = (Piece("No plan can be made: "), *pieces(clipped(observation.drift_problem.message)))
        return DriftRow(Severity.UNKNOWN, said)
    by = f"with cyborg-infra {drift.applied_by}" if drift.applied_by else ""
    return DriftRow(
        *_planned(drift, observation.environment),
        time_text(drift.checked_at),
        time_text(drift.applied_at),
        f"{by}{', and not to its end' if drift.complete is False else ''}",
    )


def _planned(drift: DriftReading, environment: str | None) -> tuple[Severity, Text]:
    drifted, pending = (_actions(each) for each in (drift.drifted, drift.pending))
    if drift.has_drift:
        said = f"Somebody has changed the server{f': {drifted}' if drifted else ''}. "
        more = f"Not applied yet besides: {pending}. " if pending else ""
        return Severity.WARNING, (Piece(said + more), Piece(command_text("drift", environment), typed=True))
    if pending:
        return Severity.WORKING, (
            Piece(f"Not applied yet: {pending}. "),
            Piece(command_text("plan", environment), typed=True),
        )
    return Severity.GOOD, (Piece("The server is as the manifest says."),)


def _actions(counts: Mapping[Action, int]) -> str:
    return ", ".join(f"{number:,} to {action}" for action, number in counts.items() if number)
