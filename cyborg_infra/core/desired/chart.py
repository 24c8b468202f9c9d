"""Who may give work to whom, and publish where: the chart of an organisation, and whom each role hears from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from cyborg_infra.model.channels import Channel, Party
from cyborg_infra.model.organisation import Org, Role


def superiors(org: Org, role: Role) -> Iterator[str]:
    """Yield the roles above this one, the nearest first."""
    while above := org.role(role.reports_to):
        yield above.name
        role = above


def may_assign(org: Org, sender: str, receiver: str) -> bool:
    """Return whether a role may give tasks to another: to those below it, and to those that it assigns to."""
    if not org.has_chart:
        return True
    giving, taking = org.role(sender), org.role(receiver)
    if giving is None or taking is None:
        return False
    return sender in superiors(org, taking) or receiver in org.members(giving.assigns)


def may_publish(org: Org, channel: Channel, sender: str, member: str = "") -> bool:
    """Return whether a role may publish on a channel; `member` is the role or group whose subject it is, if there is one each."""
    return any(_admits(org, party, sender, member) for party in channel.publishers)


def _admits(org: Org, party: Party | str, sender: str, member: str) -> bool:
    match party:
        case Party.ANYONE:
            return True
        case Party.CHART:
            return may_assign(org, sender, member)
        case Party.SELF:
            return sender in org.members([member])
        case Party():
            return False
        case _:
            return sender in org.members([party])


class Assigners:
    """The roles that give tasks to each role; made once, because `assigns` is said by the one who gives."""

    def __init__(self, org: Org) -> None:
        self._org = org
        self._assigned: dict[str, list[str]] = {}
        self._depths: dict[str, int] = {}
        for role in org.roles:
            for receiver in org.members(role.assigns):
                self._assigned.setdefault(receiver, []).append(role.name)

    def of(self, role: Role) -> Iterator[str]:
        """Yield the roles that may give this one tasks, each once, those above it first. Without a chart that would be all."""
        above = dict[str, None]()
        for name in superiors(self._org, role):
            above[name] = None
            yield name
        for name in self._assigned.get(role.name, ()):
            if name not in above:
                yield name

    def first(self, role: Role, most: int | None) -> tuple[tuple[str, ...], int]:
        """Return the first `most` of the roles that may give this one tasks, or all, and how many others there are."""
        found = tuple(islice(self.of(role), None if most is None else most + 1))
        if most is None or len(found) <= most:
            return found, 0
        besides = self._assigned.get(role.name, ())
        above = set(superiors(self._org, role)) if besides else set()
        number = self._depth(role) + sum(name not in above for name in besides)
        return found[:most], number - most

    def _depth(self, role: Role) -> int:
        """Return how many roles are above this one; known of all on the way once it was asked."""
        way = [role]
        while way[-1].name not in self._depths and (above := self._org.role(way[-1].reports_to)):
            way.append(above)
        depth = self._depths.get(way[-1].name, 0)
        for each in reversed(way[:-1]):
            self._depths.setdefault(way[-1].name, depth)
            depth += 1
            self._depths[each.name] = depth
        return depth
