"""What happens to one resource, and how: one type for each action, with what there is of it and no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any, ClassVar, assert_never, cast

from cyborg_infra.model.counting import CountQuery, Share
from cyborg_infra.model.metadata_keys import OWNERSHIP_KEYS
from cyborg_infra.model.normalise import SERVER_KEY_PREFIX
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, LiveResource
from cyborg_infra.model.valueclass import NamedTuple, valueclass


class Action(StrEnum):
    """What happens to one resource."""

    CREATE = "create"
    ADOPT = "adopt"  # exists unowned under the name: marked, and updated where it differs
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    IMPOSSIBLE = "impossible"


class Cause(StrEnum):
    """Why live and desired differ."""

    MANIFEST = "pending"  # the manifest has changed since the last apply
    DRIFT = "drift"  # somebody changed the server
    BOTH = "pending and drift"


UNLABELLED = (
    "only its labels are gone: somebody has created or updated it without them, as an agent does that does not bind "
    "to what is there"
)
"""The reason to adopt again what was applied before and is as it was."""


UPGRADED = (
    "the manifest is as it was applied: this nats-server is newer than it was then, and gets more of it"
)
"""The reason to update what an older server could not be told."""


LEFT_PAUSED = "an apply that was interrupted has left it paused: it is served again"
"""The reason to resume a consumer that nothing else is done with."""


class HazardName(StrEnum):
    """What a change may cost; the word that `--allow` takes."""

    DELETES_MESSAGES = "deletes-messages"
    RESETS_PROGRESS = "resets-progress"
    STOPS_CAPTURE = "stops-capture"
    REPEATS_WORK = "repeats-work"
    MASS_CHANGE = "mass-change"
    LOSES_REDUNDANCY = "loses-redundancy"
    ENVIRONMENT_CHANGE = "environment-change"


@valueclass(frozen=True, slots=True)
class Hazard:
    """One cost of one change. `exact` is false where `count` is an upper bound; bytes 0 where they are not known.

    `count_queries` are the readings that make it exact, or tell its bytes; none where no reading can. `unfinished` is how
    many of the messages somebody still has to finish; None where that is no question.
    """

    name: HazardName
    reason: str  # "1,204 messages (3.1 MiB) older than 24h"
    count: int = 0
    bytes: int = 0
    exact: bool = True
    count_queries: tuple[CountQuery, ...] = ()
    unfinished: Share | None = None

    @property
    def cost(self) -> str:
        """The cost in words, `up to` where the count is an upper bound."""
        bound = "" if self.exact or self.reason.startswith("up to ") else "up to "
        return f"{bound}{self.reason}"

    def __str__(self) -> str:
        return f"{self.name}: {self.cost}"


_LABEL = "metadata."
"""What the difference of one label is named with."""


class FieldChange(NamedTuple):
    """One field, before and after, in wire form; None where the field is absent. `reason` if it forces more than an update."""

    field: str
    before: Any
    after: Any
    reason: str | None = None

    @property
    def is_mark(self) -> bool:
        """Whether it is a label of the tool's own or of the server's, which no manifest says."""
        label = self.field.removeprefix(_LABEL)
        return label != self.field and (label in OWNERSHIP_KEYS or label.startswith(SERVER_KEY_PREFIX))


class Direct(NamedTuple):
    """By one request, which creates the resource or updates it in place."""


class Anew(NamedTuple):
    """By a new one in the place of the old one: a stream is empty then, a consumer stands where the old one stood."""


class Migrate(NamedTuple):
    """By way of a second stream, which has the messages of this one meanwhile. Also where an interrupted migration resumes."""

    temporary_stream: Ref


class Restore(NamedTuple):
    """Of a consumer: at the position that an interrupted replacement or migration has kept of it."""


_CONSUMERS_AFTER: Mapping[str, DesiredResource] = {}


@valueclass(frozen=True, slots=True, init=False)
class _Change:
    """What all changes have. `depends_on` must be done first, where it is in the plan."""

    hazards: tuple[Hazard, ...] = field(default=(), kw_only=True)
    depends_on: tuple[Ref, ...] = field(default=(), kw_only=True)
    archives_dead_letters: bool = field(default=False, kw_only=True)
    """What dead letters tell of is kept elsewhere first."""

    @property
    def is_rename(self) -> bool:
        """Whether a replace gives another name to what goes on: a consumer at its position, a stream with what it holds."""
        return False

    def __str__(self) -> str:
        return _in_words(cast("Change", self))


@valueclass(frozen=True, slots=True, init=False)
class _Possible(_Change):
    """What can be carried out. `reason`: why this action, in one clause; empty where it is plain."""

    problems: ClassVar[tuple[Problem, ...]] = ()
    cause: Cause = field(default=Cause.MANIFEST, kw_only=True)
    reason: str = field(default="", kw_only=True)


@valueclass(frozen=True, slots=True, init=False)
class _Made(_Possible):
    """What leads to a resource that is there, by one `method`.

    `consumers_after`: of a stream that is made or goes on, the name of a consumer now -> the desired one that shall stand
    where it does.
    """

    method: Direct | Anew | Migrate | Restore = field(kw_only=True)
    consumers_after: Mapping[str, DesiredResource] = field(
        default_factory=lambda: _CONSUMERS_AFTER, kw_only=True
    )

    @property
    def preserves_messages(self) -> bool:
        """Whether a stream is migrated, or a consumer goes on at the position that another apply has kept."""
        return isinstance(self.method, Migrate | Restore)


@valueclass(frozen=True, slots=True)
class Create(_Made):
    """The resource is not there."""

    action: ClassVar[Action] = Action.CREATE
    before: ClassVar[None] = None
    fields: ClassVar[tuple[FieldChange, ...]] = ()
    after: DesiredResource
    method: Direct | Migrate | Restore = field(default=Direct(), kw_only=True)
    current_ref: Ref = field(init=False, repr=False, compare=False)
    """The name under which it would be there."""
    ref: Ref = field(init=False, repr=False, compare=False)
    """What is created."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ref", self.after.ref)
        object.__setattr__(self, "current_ref", self.after.ref)


@valueclass(frozen=True, slots=True, init=False)
class _Differing(_Made):
    """The resource is there, and otherwise than it shall be."""

    before: LiveResource
    after: DesiredResource
    fields: tuple[FieldChange, ...] = ()
    current_ref: Ref = field(init=False, repr=False, compare=False)
    """What is there now: a replace may give it another name."""
    ref: Ref = field(init=False, repr=False, compare=False)
    """What is changed, by its name afterwards."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ref", self.after.ref)
        object.__setattr__(self, "current_ref", self.before.ref)


@valueclass(frozen=True, slots=True)
class Adopt(_Differing):
    """It is there without an owner: it is marked as owned, and updated where it differs."""

    action: ClassVar[Action] = Action.ADOPT
    method: Direct | Migrate | Restore = field(default=Direct(), kw_only=True)


@valueclass(frozen=True, slots=True)
class Update(_Differing):
    """It is there, and changed in place."""

    action: ClassVar[Action] = Action.UPDATE
    method: Direct | Migrate | Restore = field(default=Direct(), kw_only=True)


@valueclass(frozen=True, slots=True)
class Replace(_Differing):
    """It is there, and a new one takes its place, perhaps under another name."""

    action: ClassVar[Action] = Action.REPLACE
    method: Anew | Migrate | Restore = field(default=Anew(), kw_only=True)

    @property
    def is_rename(self) -> bool:
        """Whether it gives another name to what goes on: a consumer at its position, a stream with what it holds."""
        return self.current_ref != self.ref and (self.preserves_messages or bool(self.ref.consumer))


@valueclass(frozen=True, slots=True)
class Delete(_Possible):
    """It is there, and shall not be."""

    action: ClassVar[Action] = Action.DELETE
    after: ClassVar[None] = None
    fields: ClassVar[tuple[FieldChange, ...]] = ()
    preserves_messages: ClassVar[bool] = False
    before: LiveResource
    current_ref: Ref = field(init=False, repr=False, compare=False)
    """What is deleted."""
    ref: Ref = field(init=False, repr=False, compare=False)
    """What is deleted."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ref", self.before.ref)
        object.__setattr__(self, "current_ref", self.before.ref)


PossibleChange = Create | Adopt | Update | Replace | Delete
"""A change that an apply can carry out."""


@valueclass(frozen=True, slots=True)
class Blocked(_Change):
    """What the manifest asks for and cannot be done; `problems` say why. Printed and stored as `impossible`."""

    action: ClassVar[Action] = Action.IMPOSSIBLE
    change: PossibleChange
    problems: tuple[Problem, ...]

    @property
    def ref(self) -> Ref:
        """What would be changed."""
        return self.change.ref

    @property
    def current_ref(self) -> Ref:
        """What is there now, under whichever name, or would be."""
        return self.change.current_ref

    @property
    def before(self) -> LiveResource | None:
        """What is there; None if nothing is."""
        return self.change.before

    @property
    def after(self) -> DesiredResource | None:
        """What would be there; None if nothing would."""
        return self.change.after

    @property
    def fields(self) -> tuple[FieldChange, ...]:
        """What differs."""
        return self.change.fields

    @property
    def cause(self) -> Cause:
        """Why it differs."""
        return self.change.cause

    @property
    def reason(self) -> str:
        """Why this would be the action."""
        return self.change.reason

    @property
    def preserves_messages(self) -> bool:
        """Whether it would keep the messages, or the position."""
        return self.change.preserves_messages


Change = PossibleChange | Blocked
"""One action on one resource. Whoever handles each of them ends with `assert_never`."""


def _in_words(change: Change) -> str:
    """Return in one line what happens to what, in which fields, and what it costs or why it cannot be done."""
    renamed = f" (was {change.current_ref})" if change.is_rename else ""
    fields = ", ".join(field.field for field in change.fields if not field.is_mark)
    consequences = "; ".join(map(str, (*change.hazards, *change.problems)))
    return (
        f"{'rename' if change.is_rename else change.action} {change.ref}{renamed}"
        f"{f' ({fields})' if fields else ''}{f': {consequences}' if consequences else ''}"
    )


def temporary_stream_of(change: Change) -> Ref | None:
    """Return the stream by way of which a stream is migrated; None if it is not."""
    match change:
        case Blocked():
            return temporary_stream_of(change.change)
        case Delete():
            return None
        case Create() | Adopt() | Update() | Replace():
            return change.method.temporary_stream if isinstance(change.method, Migrate) else None
        case _:
            assert_never(change)


def as_replace(change: Adopt | Update | Replace, reason: str) -> Replace:
    """Return the replacement of a resource that would be changed otherwise. Only before it has hazards and an order."""
    method = Anew() if isinstance(change.method, Direct) else change.method
    return Replace(
        change.before,
        change.after,
        change.fields,
        method=method,
        cause=change.cause,
        reason=reason,
        consumers_after=change.consumers_after,
    )
