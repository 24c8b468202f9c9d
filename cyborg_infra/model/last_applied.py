"""The applied record: what an account remembers of an organisation, to tell a wiped account from a first apply. The plan itself rests on what is on the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from cyborg_infra.model.valueclass import NamedTuple, valueclass

Members = Mapping[str, frozenset[str]]
"""Kind of stream or consumer -> those that there were: roles and buckets by name, and "" where all share one."""


@valueclass(frozen=True, slots=True)
class AppliedRecord:
    """From which environment and by which version of cyborg-infra an organisation was applied, and when.

    `complete` once an apply has read back that all of the manifest holds; until then a first one was begun. What there
    was then is in `members`; None if that is not known.
    """

    version: str
    environment: str | None = None
    complete: bool = False
    members: Members | None = field(default_factory=dict)
    # RFC 3339 by the server's clock; empty until it is stored.
    applied_at: str = field(default="", compare=False)

    def had_member(self, kind: str, member: str) -> bool | None:
        """Return whether there was such a stream or consumer when all of them were there; None if that is not known."""
        if self.members is None:
            return None
        return self.complete and member in self.members.get(kind, ())


def group_members(known: Members) -> list[tuple[list[str], list[str]]]:
    """Return (kinds, members that each of them has): most kinds have one for each role, so that this is a quarter as long."""
    alike: dict[frozenset[str], list[str]] = {}
    for kind, names in known.items():
        alike.setdefault(names, []).append(kind)
    return sorted((sorted(kinds), sorted(names)) for names, kinds in alike.items())


def ungroup_members(groups: Iterable[tuple[Iterable[str], Iterable[str]]]) -> Members:
    """Return what `group_members` was made of."""
    return {kind: frozenset(names) for kinds, names in groups for kind in kinds}


class RecordUpdate(NamedTuple):
    """What the account shall remember of the organisation from now on: `record`, or None for nothing any more.

    `made_of` is the max_bytes of the bucket, if that has to be made first; `refused` is why it cannot be.
    """

    record: AppliedRecord | None
    made_of: int | None = None
    refused: str = ""
