"""Hold tasks to the chart: who gave them, and who gets what follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from cyborg_infra.core.desired import naming
from cyborg_infra.core.desired.chart import Assigners, may_assign
from cyborg_infra.model import channels
from cyborg_infra.model.messages import FOLLOW_UP, MessageKind, OrgMessage
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.outgoing import Destination
from cyborg_infra.model.problems import MessageInvalid, Problem, SendRefused, SourcePosition
from cyborg_infra.model.subjects import SubjectIndex

_MAX_NAMED = 12
"""So many of those who give a role tasks are named."""


def check_assignments(org: Org, messages: Sequence[OrgMessage]) -> None:
    """Return if each task is from a role to a role that it may give tasks to, and so is what follows it.

    `assigned_by` may be somebody outside of the organisation, such as a person. Raises MessageInvalid.
    """
    chart = _Chart(org)
    problems = [
        problem
        for message in messages
        if message.kind is MessageKind.TASK
        for problem in _assignment_problems(chart, message)
    ]
    if problems:
        raise MessageInvalid(*problems)


def check_sender(org: Org, sender: str, channel: Destination, receiver: str) -> None:
    """Return if a role may send to this channel of another. Raises SendRefused if the chart does not have it so."""
    if channel is Destination.TASK and not may_assign(org, sender, receiver):
        raise SendRefused(_Chart(org).not_assigned(sender, receiver, None))


class _Chart:
    """Who gives tasks to whom, by the names that roles have and had: what still says a former one comes from the same agent."""

    def __init__(self, org: Org) -> None:
        self.org = org
        self.now = {name: role.name for role in org.roles for name in naming.role_names(role)}
        tasks = org.channel(channels.TASKS)
        self.receivers = SubjectIndex(
            (org.subject(tasks.subject_of(name)), role) for name, role in self.now.items() if tasks
        )
        self._assigners = Assigners(org)
        self._allowed: dict[tuple[str, str], bool] = {}

    def may_assign(self, giver: str, taker: str) -> bool:
        """Return what the chart says, asked once for each pair: files have many messages between the same two."""
        pair = giver, taker
        if pair not in self._allowed:
            self._allowed[pair] = may_assign(self.org, giver, taker)
        return self._allowed[pair]

    def not_assigned(self, giver: str, taker: str, where: SourcePosition | None) -> Problem:
        role = self.org.role(taker)
        allowed = tuple(islice(self._assigners.of(role), _MAX_NAMED)) if role and self.org.has_chart else ()
        hint = (
            f"{taker} gets tasks from {', '.join(allowed)}" if allowed else f"no role gives tasks to {taker}"
        )
        return Problem("not-assigned", f"{giver} may not give tasks to {taker}", where, hint)


def _assignment_problems(chart: _Chart, message: OrgMessage) -> Iterator[Problem]:
    org = chart.org
    giver, taker = chart.now.get(message.data["assigned_by"]), message.data["assigned_to"]
    if org.role(taker) is None:
        now = chart.now.get(taker)
        yield Problem(
            "unknown-role",
            f"{taker!r} is no role of {org.name}",
            message.place(("assigned_to",)),
            f"it is called {now} now" if now else None,
        )
        return
    if giver and not chart.may_assign(giver, taker):
        yield chart.not_assigned(giver, taker, message.place(("assigned_by",)))
    subject = (message.data.get("on_complete") or {}).get("publish_to")
    if not subject:
        return
    follower = next((role for _pattern, role in chart.receivers.overlapping(subject)), None)
    if follower is None:
        yield Problem(
            "unknown-role",
            f"no role of {org.name} takes its tasks from {subject}",
            message.place(FOLLOW_UP),
        )
    elif not chart.may_assign(taker, follower):
        yield chart.not_assigned(taker, follower, message.place(FOLLOW_UP))
