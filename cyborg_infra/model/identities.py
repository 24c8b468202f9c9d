"""Who connects to the server, and what each may publish and hear: the permissions of roles and of those who run the organisation.

A server takes a list of subjects for each direction. An empty list of what is allowed restricts nothing (measured, 2.10.26
and 2.15.1), so that `Rules` denies everything instead. Its `allow_responses` is never used: it lets whoever hears a request
publish on whatever reply subject that names, and who may ask himself names any (decision 44).
"""

from __future__ import annotations

from enum import StrEnum

from cyborg_infra.model.subjects import covers, overlap
from cyborg_infra.model.valueclass import NamedTuple

EVERYTHING = ">"


class IdentityKind(StrEnum):
    """Whose an identity is."""

    ROLE = "role"
    STANDING = "standing"
    """Of somebody who is no role: who plans, applies, looks."""


class Grant(NamedTuple):
    """One subject, or pattern of subjects, and why: which channel, event, bucket, consumer or command it is for."""

    subject: str
    reason: str


class CrossingKind(StrEnum):
    """What the server calls an export and its import."""

    SERVICE = "service"
    """From the roles' account to the one that has JetStream; what answers comes back."""
    STREAM = "stream"
    """From the account that has JetStream to the roles'."""


class Crossing(NamedTuple):
    """One pattern of subjects that the account with JetStream exports, and the roles' account imports, and what it is for."""

    kind: CrossingKind
    subject: str
    reason: str

    @property
    def is_request(self) -> bool:
        """Whether it goes from a role to the account that has JetStream."""
        return self.kind is CrossingKind.SERVICE

    @property
    def has_many_answers(self) -> bool:
        """Whether one request may be answered more than once, and late: a pull."""
        return ".CONSUMER.MSG.NEXT." in self.subject


LONGEST_PULL_SECONDS = 3600
"""So long may a pull wait. Then a server forgets whom to answer: by itself after 2 minutes, and a task that comes later would be lost until `ack_wait` is over (measured on 2.10.26 and 2.15.1)."""


class Accounts(NamedTuple):
    """An organisation's two accounts on a server, by name or by public key: where JetStream is, and where its roles are."""

    jetstream: str
    agents: str

    def of(self, identity: Identity) -> str:
        """Return which of the two accounts the identity is in."""
        return self.agents if identity.is_apart else self.jetstream


class Rules(NamedTuple):
    """What the server is told of one direction. `allow` or `deny` is never both empty."""

    allow: tuple[str, ...]
    deny: tuple[str, ...]

    def cover(self, subject: str) -> bool:
        """Return whether all of a subject or pattern is allowed, and nothing of it denied."""
        return any(covers(each, subject) for each in self.allow) and not any(
            overlap(each, subject) for each in self.deny
        )


class Identity(NamedTuple):
    """One user of the server. What is not granted is refused; what is denied is refused although a grant covers it."""

    name: str
    kind: IdentityKind
    inbox_prefix: str  # what its client has to be told: `_INBOX.cto`
    publish: tuple[Grant, ...]
    subscribe: tuple[Grant, ...]
    deny_publish: tuple[Grant, ...] = ()
    deny_subscribe: tuple[Grant, ...] = ()
    meaning: str = ""
    is_apart: bool = False  # in the account without JetStream: what it does crosses by exports

    @property
    def publish_rules(self) -> Rules:
        """What the server is told of publishing."""
        return _rules(self.publish, self.deny_publish)

    @property
    def subscribe_rules(self) -> Rules:
        """What the server is told of subscribing."""
        return _rules(self.subscribe, self.deny_subscribe)


def _rules(allow: tuple[Grant, ...], deny: tuple[Grant, ...]) -> Rules:
    refused = tuple(grant.subject for grant in deny)
    return Rules(
        tuple(grant.subject for grant in allow),
        refused if allow else tuple(dict.fromkeys((*refused, EVERYTHING))),
    )


class Operation(StrEnum):
    """What an identity may want to do."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    PULL = "pull"
    """Work on what a consumer hands out: pull, and acknowledge in both forms."""
    REQUEST = "request"
    """Ask, and hear the answer."""


class Need(NamedTuple):
    """One subject that it takes. `row` allows it, None if none does; `denied_by` refuses it all the same."""

    direction: Operation  # PUBLISH or SUBSCRIBE
    subject: str
    row: Grant | None
    denied_by: Grant | None

    @property
    def is_allowed(self) -> bool:
        """Whether the server lets it through."""
        return self.row is not None and self.denied_by is None


class Explanation(NamedTuple):
    """Whether an identity may do something: each subject that it takes, and who else may do all of it."""

    identity: str
    operation: Operation
    what: str
    needs: tuple[Need, ...]
    others: tuple[str, ...]

    @property
    def is_allowed(self) -> bool:
        """Whether it may."""
        return all(need.is_allowed for need in self.needs)
