"""A plan for the claims of an account: which identities get, keep and lose which rights, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cyborg_infra.model.changes import Action, Cause, FieldChange
from cyborg_infra.model.claims import MAX_TOKEN_BYTES, Claims
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.valueclass import NamedTuple


class Direction(StrEnum):
    """What a subject is for."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


class SubjectChange(NamedTuple):
    """One subject that an identity gains or loses; `denied` if it is one that is refused although a wider one is allowed."""

    direction: Direction
    subject: str
    added: bool
    denied: bool = False


class AuthHazardName(StrEnum):
    """What a change of rights may cost; the word that `allow` takes."""

    REVOKES_ACCESS = "revokes-access"


class AuthHazard(NamedTuple):
    """One cost of one change, for so many connections; None where nobody could be asked."""

    name: AuthHazardName
    reason: str
    connections: int | None


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What happens to one scoped signing key, and so to every user that it has signed.

    `connections` are those that use it now, on all servers that answered; None where nobody could be asked.
    """

    action: Action
    identity: str
    key: str
    subjects: tuple[SubjectChange, ...] = ()
    settings: tuple[FieldChange, ...] = ()
    cause: Cause = Cause.MANIFEST
    reason: str = ""
    connections: int | None = None
    hazards: tuple[AuthHazard, ...] = ()


class Side(StrEnum):
    """What an account does with a subject that crosses; the member of its claims."""

    EXPORTS = "exports"
    IMPORTS = "imports"


@dataclass(frozen=True, slots=True)
class CrossingChange:
    """What happens to one export or import of the organisation. `kind` is `service` or `stream`."""

    action: Action
    side: Side
    kind: str
    subject: str
    cause: Cause = Cause.MANIFEST
    hazards: tuple[AuthHazard, ...] = ()


class LiveClaims(NamedTuple):
    """The claims of an account as they are now.

    `servers` answered, of `expected` ones, and `behind` of them have older claims; all 0 for a file. `connections` are
    counted by the public key of whoever signed the user; None where nobody could be asked. `most_bytes` is the longest
    token that can be pushed, and in a file the longest that a server reads. `operators` are the claims of the operators that the servers trust.
    """

    claims: Claims
    where: str
    servers: int = 0
    expected: int = 0
    behind: int = 0
    connections: Mapping[str, int] | None = None
    most_bytes: int = MAX_TOKEN_BYTES
    operators: tuple[Claims, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthPlan:
    """What is to become of an account's claims. `desired` differs from `live.claims` in what is of this organisation alone."""

    org: str
    live: LiveClaims
    desired: Claims
    changes: tuple[KeyChange, ...] = ()
    crossings: tuple[CrossingChange, ...] = ()
    unchanged_count: int = 0
    orphans: tuple[str, ...] = ()  # identities that have keys, and that the manifest no longer has
    problems: tuple[Problem, ...] = ()  # what stands in the way
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes or self.crossings)

    @property
    def causes(self) -> Iterator[Cause]:
        """Yield the cause of every change."""
        yield from (change.cause for change in self.changes)
        yield from (change.cause for change in self.crossings)

    @property
    def hazards(self) -> Iterator[tuple[str, AuthHazard]]:
        """Yield every hazard, with the identity or the subject that it is of."""
        yield from ((change.identity, hazard) for change in self.changes for hazard in change.hazards)
        yield from ((change.subject, hazard) for change in self.crossings for hazard in change.hazards)

    @property
    def account(self) -> str:
        """The public key of the account."""
        public: str = self.live.claims["sub"]
        return public

    @property
    def account_name(self) -> str:
        """What its operator calls it; may be empty."""
        name: Any = self.live.claims.get("name", "")
        return str(name)

    def count(self, action: Action) -> int:
        """Return how many signing keys have this action."""
        return sum(change.action is action for change in self.changes)

    def count_crossings(self, action: Action) -> int:
        """Return how many exports and imports have this action."""
        return sum(change.action is action for change in self.crossings)
