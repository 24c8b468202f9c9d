"""Who may give work to whom: the chart of an organisation, and whom each role hears from."""

from __future__ import annotations

from collections.abc import Iterator

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


class Assigners:
    """The roles that give tasks to each role; made once, because `assigns` is said by the one who gives."""

    def __init__(self, org: Org) -> None:
        self._org = org
        self._assigned: dict[str, list[str]] = {}
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
