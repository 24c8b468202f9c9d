"""True things about a plan that are worth knowing and stop nothing. Counts nothing: what costs something is a hazard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.core import consumer_hazards
from cyborg_infra.core.costs import counted
from cyborg_infra.model.fields import Kind, Version
from cyborg_infra.model.org import StreamKind
from cyborg_infra.model.plan import Action, Change
from cyborg_infra.model.state import KIND, Facts, Resource, StreamCounts

# Measured: 2.15.1 sends MAX_DELIVERIES when a lowered max_deliver drops a message; 2.10.26 to 2.15.0 do not.
ADVISES_LOWERED_MAX_DELIVER = Version(2, 15, 1)

# Measured in clusters of three: 2.12.8 and later forget the id of a refused message. 2.11.11 answers it with 10158,
# and 2.10.26 with `duplicate`, though it was never stored. A stream without replicas has always forgotten it.
KNOWS_REFUSED_IDS = Version(2, 12, 0)

# Measured on 2.10.26, and read in its source: 2.11.11 tells consumers when their stream gets limits retention.
TELLS_CONSUMERS_OF_LIMITS = Version(2, 11, 0)

FEW = 3
"""So many roles are told by name."""


def of_plan(
    changes: Sequence[Change], orphans: Sequence[Resource], targets: Sequence[str], facts: Facts
) -> Iterator[str]:
    """Each in a sentence."""
    yield from _of_lowered_max_deliver(changes, facts)
    yield from _of_dead_letters(changes)
    yield from _of_admission(changes)
    yield from _of_refused_ids(changes, facts)
    yield from _of_former_interest(changes, facts)
    yield from _of_renames(changes, orphans)
    if targets and any(
        change.action is Action.CREATE and change.ref.kind is Kind.STREAM for change in changes
    ):
        yield "dead letters of a new stream are kept from the next apply without --target on"
    yield from _of_replicas(changes, facts)


def _of_lowered_max_deliver(changes: Sequence[Change], facts: Facts) -> Iterator[str]:
    lowered = [
        change
        for change in changes
        if change.before
        and any(
            field.field == "max_deliver" and consumer_hazards.fewer(field.after, field.before)
            for field in change.fields
        )
    ]
    if lowered and facts.version < ADVISES_LOWERED_MAX_DELIVER:
        yield f"nats-server {facts.version} sends no notice for messages that a lowered max_deliver gives up: they become no dead letters"


def _of_replicas(changes: Sequence[Change], facts: Facts) -> Iterator[str]:
    """How many servers a cluster has, nobody tells: those that are down are not counted."""
    copies = max(
        (change.after.config.get("num_replicas", 0) for change in changes if change.after), default=0
    )
    if 0 < facts.peers < copies:
        yield f"{copies} replicas need {copies} servers, and {facts.peers} of the cluster are known of: unless others are down, the server will refuse"


def _of_dead_letters(changes: Sequence[Change]) -> Iterator[str]:
    """The server sends a notice once, and nobody repeats it."""
    for change in changes:
        if change.carried and change.after and change.after.metadata.get(KIND) == StreamKind.DEAD_LETTERS:
            yield f"notices of messages that fail for good while {change.place} is replaced become no dead letters"
        elif (
            change.action is Action.UPDATE
            and change.after
            and change.after.metadata.get(KIND) == StreamKind.DEAD_LETTERS
        ):
            gone = [
                found.ref.stream
                for found in changes
                if found.action is Action.DELETE and not found.ref.consumer
            ]
            if gone:
                yield f"notices of messages that fail for good while {_some(gone)} is deleted become no dead letters"


def _of_admission(changes: Sequence[Change]) -> Iterator[str]:
    """A smaller max_msgs deletes nothing under discard new: the stream is over-full, and takes nothing new."""
    for change in changes:
        before, after = change.before, change.after
        kept = change.action is not Action.REPLACE or change.carried
        if not kept or before is None or after is None or not isinstance(before.counts, StreamCounts):
            continue
        limited = {field.field for field in change.fields} & {"retention", "discard", "max_msgs"}
        most, held = after.config["max_msgs"], before.counts.messages
        if limited and after.config["discard"] == "new" and 0 < most <= held:
            worked = after.config["retention"] == "workqueue" != before.config.get("retention")
            yield (
                f"{change.place} holds {counted(held, 'message')}{' (the worked ones included)' if worked else ''}: "
                f"as long as {most:,} or more are left, publishers are refused; nothing is deleted"
            )


def _of_refused_ids(changes: Sequence[Change], facts: Facts) -> Iterator[str]:
    """Who tries again under the same message id is refused for nothing, or told that it is stored."""
    admitting = [
        change.ref
        for change in changes
        if change.after
        and change.ref.kind is Kind.STREAM
        and change.after.config["discard"] == "new"
        and change.after.config["max_msgs"] > 0
        and change.after.config["num_replicas"] > 1
    ]
    if admitting and facts.version < KNOWS_REFUSED_IDS:
        yield (
            f"nats-server {facts.version} with replicas remembers the Nats-Msg-Id of a task that a full stream has refused, "
            "and does not take it again within duplicate_window: a new try needs a new id"
        )


def _of_former_interest(changes: Sequence[Change], facts: Facts) -> Iterator[str]:
    """Nothing unfinished is lost by it: only a filter that becomes narrower leaves that to nobody, which is a hazard."""
    former = [
        change.ref.stream
        for change in changes
        if change.action in (Action.UPDATE, Action.ADOPT)
        and any(
            (field.field, field.before, field.after) == ("retention", "interest", "limits")
            for field in change.fields
        )
    ]
    if former and facts.version < TELLS_CONSUMERS_OF_LIMITS:
        yield (
            f"nats-server {facts.version} does not tell the consumers of {_some(former)} that its retention has changed: until it "
            "restarts, changing one of them may delete what all of them have finished"
        )


def _of_renames(changes: Sequence[Change], orphans: Sequence[Resource]) -> Iterator[str]:
    """A role's stream is left behind and another role's is created: it may be the same role."""
    old = [found.role or "" for found in orphans if found.metadata.get(KIND) == StreamKind.TASKS]
    new = [
        change.after.role or ""
        for change in changes
        if change.action is Action.CREATE and change.after and change.after.metadata[KIND] == StreamKind.TASKS
    ]
    if old and new:
        yield (
            f"{_some(old)} left the manifest and {_some(new)} came: if that is one role with a new name, "
            "renamed_from takes its tasks, inbox and progress along"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")
