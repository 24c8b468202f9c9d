"""Hold messages to who may publish where: who gave a task, who gets what follows it, who issued a broadcast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from cyborg_infra.core.desired import naming
from cyborg_infra.core.desired.chart import Assigners, may_publish
from cyborg_infra.core.operate.outgoing import CHANNELS
from cyborg_infra.model import channels
from cyborg_infra.model.channels import Channel, Party
from cyborg_infra.model.messages import FOLLOW_UP, MessageKind, OrgMessage
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.outgoing import Destination
from cyborg_infra.model.problems import MessageInvalid, Problem, SendRefused, SourcePosition
from cyborg_infra.model.subjects import SubjectIndex

_MAX_NAMED = 12
"""So many of those who give a role tasks are named."""


def check_senders(org: Org, messages: Sequence[OrgMessage]) -> None:
    """Check who sends each message: a task and what follows it, a role that may assign it; a broadcast, one that may publish it.

    `assigned_by` and `issued_by` may be somebody outside of the organisation, such as a person. Raises MessageInvalid.
    """
    senders = _Senders(org)
    if problems := [problem for message in messages for problem in _sender_problems(senders, message)]:
        raise MessageInvalid(*problems)


def check_sender(org: Org, sender: str, destination: Destination, receiver: str) -> None:
    """Raise SendRefused unless the manifest lets the role send to this role, this group or all."""
    channel = org.channel(CHANNELS[destination])
    if channel and not may_publish(org, channel, sender, receiver):
        raise SendRefused(_Senders(org).refusal(channel, sender, receiver, None))


class _Senders:
    """Who publishes where, by the names that roles have and had: what still says a former one comes from the same agent."""

    def __init__(self, org: Org) -> None:
        self.org = org
        self.now = {name: role.name for role in org.roles for name in naming.role_names(role)}
        self.tasks = org.channel(channels.TASKS)
        self.receivers = SubjectIndex(
            (org.subject(self.tasks.subject_of(name)), role) for name, role in self.now.items() if self.tasks
        )
        self.broadcasts = [
            found for name in (channels.BROADCASTS, channels.GROUP_BROADCASTS) if (found := org.channel(name))
        ]
        self._assigners = Assigners(org)
        self._allowed: dict[tuple[str, str], bool] = {}

    def may_assign(self, giver: str, taker: str) -> bool:
        """Return whether a role may publish another's tasks. Asked once for each pair: files have many messages between the same two."""
        pair = giver, taker
        if pair not in self._allowed:
            self._allowed[pair] = self.tasks is None or may_publish(self.org, self.tasks, giver, taker)
        return self._allowed[pair]

    def may_broadcast(self, sender: str) -> bool:
        """Return whether a role may publish to all or to some group: a broadcast does not say to whom it goes."""
        return not self.broadcasts or any(
            may_publish(self.org, channel, sender, member)
            for channel in self.broadcasts
            for member in self.org.each_of(channel)
        )

    def refusal(self, channel: Channel, sender: str, receiver: str, where: SourcePosition | None) -> Problem:
        if channel.name != channels.TASKS:
            named = islice(self.org.members(channel.publishers), _MAX_NAMED)
            whose = f" of {receiver}" if receiver else ""
            said = f"{sender} may not publish on {channel.name}{whose}"
            return Problem("not-publisher", said, where, f"publishers of {channel.name}: {', '.join(named)}")
        allowed = tuple(islice(self._givers(channel, receiver), _MAX_NAMED))
        hint = (
            f"{receiver} gets tasks from {', '.join(allowed)}"
            if allowed
            else f"no role gives tasks to {receiver}"
        )
        return Problem("not-assigned", f"{sender} may not give tasks to {receiver}", where, hint)

    def _givers(self, channel: Channel, receiver: str) -> Iterator[str]:
        if channel.publishers != (Party.CHART,):
            yield from self.org.members(channel.publishers)
        elif (role := self.org.role(receiver)) and self.org.has_chart:
            yield from self._assigners.of(role)


def _sender_problems(senders: _Senders, message: OrgMessage) -> Iterator[Problem]:
    match message.kind:
        case MessageKind.TASK if senders.tasks:
            yield from _task_problems(senders, senders.tasks, message)
        case MessageKind.BROADCAST:
            sender = senders.now.get(message.data["issued_by"])
            if sender and not senders.may_broadcast(sender):
                yield senders.refusal(senders.broadcasts[0], sender, "", message.place(("issued_by",)))


def _task_problems(senders: _Senders, tasks: Channel, message: OrgMessage) -> Iterator[Problem]:
    org = senders.org
    giver, taker = senders.now.get(message.data["assigned_by"]), message.data["assigned_to"]
    if org.role(taker) is None:
        now = senders.now.get(taker)
        yield Problem(
            "unknown-role",
            f"{taker!r} is no role of {org.name}",
            message.place(("assigned_to",)),
            f"it is called {now} now" if now else None,
        )
        return
    if giver and not senders.may_assign(giver, taker):
        yield senders.refusal(tasks, giver, taker, message.place(("assigned_by",)))
    subject = (message.data.get("on_complete") or {}).get("publish_to")
    if not subject:
        return
    follower = next((role for _pattern, role in senders.receivers.overlapping(subject)), None)
    if follower is None:
        yield Problem(
            "unknown-role",
            f"no role of {org.name} takes its tasks from {subject}",
            message.place(FOLLOW_UP),
        )
    elif not senders.may_assign(taker, follower):
        yield senders.refusal(tasks, taker, follower, message.place(FOLLOW_UP))
