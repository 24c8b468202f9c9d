"""Notes of a plan: facts worth knowing that stop nothing. What costs something is a hazard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.core.desired.naming import stores_dead_letters
from cyborg_infra.core.planning.hazards import consumers
from cyborg_infra.core.planning.hazards.building_blocks import format_count
from cyborg_infra.model.changes import Action, Change
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.counting import CountKind, CountQuery, MessageCount
from cyborg_infra.model.fields import Config, Kind
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.naming import handed_in_subject
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, LiveState, StreamCounts
from cyborg_infra.model.server import ServerInfo
from cyborg_infra.model.server_versions import Capability, forgets_updated_streams
from cyborg_infra.model.wording import Option, first_few, worded

UNKNOWN_PERMISSIONS = (
    "the server does not say what this user may do ($SYS.REQ.USER.INFO): "
    "a permission that is missing would be found on the way"
)

_MAX_NAMED = 3
"""So many roles or resources are told by name."""


def plan_notes(
    changes: Sequence[Change],
    orphans: Sequence[LiveResource],
    copied: Sequence[LiveResource],
    targets: Sequence[str],
    server_info: ServerInfo,
    live: LiveState,
    environment: str | None,
) -> Iterator[str]:
    """Return the notes of a plan, each a sentence. `copied` are foreign streams with our labels."""
    yield from _applied_record_notes(changes, server_info, environment)
    yield from _foreign_copy_notes(copied)
    of_living = [change for change in changes if change.before]
    yield from _lowered_max_deliver_notes(of_living, server_info)
    yield from _dead_letter_notes(changes, live)
    yield from _archived_letter_notes(changes, live)
    yield from _admission_notes(of_living)
    yield from _direct_read_notes(of_living)
    yield from _terminated_notes(of_living)
    yield from _refused_id_notes(changes, server_info)
    yield from _former_interest_notes(of_living, server_info)
    yield from _forgotten_stream_notes(of_living, server_info)
    yield from _rename_notes(changes, orphans)
    if targets and any(
        change.action is Action.CREATE and change.ref.kind is Kind.STREAM for change in changes
    ):
        yield worded(
            "dead letters of a new stream are kept from the next apply without {} on", Option("targets")
        )
    yield from _replica_notes(changes, server_info)
    yield from _placement_notes(changes, server_info, live)


def unread_notes(unread: Sequence[Ref]) -> Iterator[str]:
    """Yield a note on resources that could not be read; none of them stores a subject of ours."""
    if unread:
        yield (
            f"{first_few([str(ref) for ref in unread], _MAX_NAMED)} cannot be read, on servers that are down or too old for it: "
            "not of this organisation, and left alone"
        )


def _applied_record_notes(
    changes: Sequence[Change], server_info: ServerInfo, environment: str | None
) -> Iterator[str]:
    """Yield notes on what the account does not tell; and on another environment that comes to the same, which is no hazard."""
    if server_info.record_error:
        yield (
            f"what was applied last is not known, for {server_info.record_error}: "
            "no other environment is told, nor what of it is gone altogether"
        )
    elif (
        server_info.applied_record is not None
        and server_info.applied_record.environment != environment
        and not changes
    ):
        last, this = (
            f"environment {name}" if name else "no environment"
            for name in (server_info.applied_record.environment, environment)
        )
        yield f"what was applied last was {last}, and this is {this}: on this server they come to the same"


def _foreign_copy_notes(copied: Sequence[LiveResource]) -> Iterator[str]:
    """Yield notes on foreign copies: a copy belongs to whoever made it."""
    if copied:
        names = first_few([str(found.ref) for found in copied], _MAX_NAMED)
        what = "is a copy that somebody made" if len(copied) == 1 else "are copies that somebody made"
        yield f"{names} {what}, with the labels of what was copied: not managed, and left alone"


def permission_notes(forbidden: Sequence[Problem]) -> Iterator[str]:
    """Yield what the user who plans may not do of it."""
    if forbidden:
        more = f", and {len(forbidden) - 1:,} more" if len(forbidden) > 1 else ""
        yield f"this user may not apply it. {forbidden[0].message}{more}"


def _lowered_max_deliver_notes(changes: Sequence[Change], server_info: ServerInfo) -> Iterator[str]:
    lowered = [
        change
        for change in changes
        if change.before
        and any(
            field.field == "max_deliver" and consumers.is_lower_max_deliver(field.after, field.before)
            for field in change.fields
        )
    ]
    if lowered and server_info.version < Capability.ADVISE_OF_LOWERED_MAX_DELIVER.since:
        yield f"nats-server {server_info.version} sends no notice for messages that a lowered max_deliver gives up: they become no dead letters"


def _replica_notes(changes: Sequence[Change], server_info: ServerInfo) -> Iterator[str]:
    """Yield notes on replicas. How many servers a cluster has, nobody tells: those that are down are not counted, nor are those of other clusters."""
    if not server_info.peers:
        return  # a single server, or nobody tells
    here = [
        resource
        for change in changes
        if (resource := change.after)
        and resource.get("placement").get("cluster", server_info.cluster) == server_info.cluster
    ]
    copies = max((resource.get("num_replicas") for resource in here), default=0)
    if 0 < server_info.peers < copies:
        yield f"{copies} replicas need {copies} servers, and {server_info.peers} of the cluster are known of: unless others are down, the server will refuse"


def _placement_notes(changes: Sequence[Change], server_info: ServerInfo, live: LiveState) -> Iterator[str]:
    """Yield notes on placement. Which clusters and tags there are, nobody tells: known is what a living stream is placed by, and the cluster that answers."""
    held: list[Config] = []
    for stream in live.streams():
        if (placement := stream.get("placement")) not in held:
            held.append(placement)
    placed: dict[str, list[str]] = {}
    for change in changes:
        wanted = change.after.get("placement") if change.after else {}
        if not wanted or change.action is Action.IMPOSSIBLE:
            continue
        known = wanted in held or wanted == {"cluster": server_info.cluster}
        if not (known and server_info.cluster):
            words = [f"cluster {wanted['cluster']}"] if wanted.get("cluster") else []
            words += [f"tag {tag}" for tag in wanted.get("tags") or ()]
            placed.setdefault(" and ".join(words), []).append(str(change.ref))
    for what, names in placed.items():
        if server_info.cluster:
            yield f"whether there is a server with {what} cannot be seen from here: if there is none, {first_few(names, _MAX_NAMED)} will be refused (10005)"
        else:
            yield f"a single server keeps the placement of {first_few(names, _MAX_NAMED)} ({what}) without looking at it"


def _dead_letter_notes(changes: Sequence[Change], live: LiveState) -> Iterator[str]:
    """Yield a note on dead letters: the server sends an advisory once, and nobody repeats it."""
    for change in changes:
        if (
            change.preserves_messages
            and change.after
            and change.after.metadata.get(KIND_KEY) == StreamKind.DEAD_LETTERS
        ):
            if not stores_dead_letters(handed_in_subject(change.after.owner or "", change.after), live):
                yield (
                    "no stream has stored notices of what fails for good since the apply was interrupted: "
                    "what has failed since then is no dead letter"
                )
            yield (
                f"what fails for good in the milliseconds in which {change.current_ref} is handed over is stored when that is done; "
                "if the apply is killed in that moment, it becomes no dead letter, and neither may what fails until the next apply"
            )
        elif (
            change.action is Action.UPDATE
            and change.after
            and change.after.metadata.get(KIND_KEY) == StreamKind.DEAD_LETTERS
        ):
            gone = [
                found.ref.stream
                for found in changes
                if found.action is Action.DELETE and not found.ref.consumer
            ]
            if gone:
                yield f"a message of {first_few(gone, _MAX_NAMED)} that fails for good during this apply becomes no dead letter"


def note_queries(changes: Sequence[Change], live: LiveState) -> tuple[CountQuery, ...]:
    """Return what has to be measured for the notes: whether there are dead letters of what would lose their messages."""
    return tuple(query for _, queries in _losing_streams(changes, live) for query in queries)


def _losing_streams(changes: Sequence[Change], live: LiveState) -> Iterator[tuple[str, Sequence[CountQuery]]]:
    """Yield each stream whose dead letters an apply would copy, with what tells whether there are any; nothing where that cannot be asked."""
    letters = [
        found
        for found in live.streams()
        if found.metadata.get(KIND_KEY) == StreamKind.DEAD_LETTERS
        and isinstance(found.counts, StreamCounts)
        and found.counts.messages
    ]
    if not letters:
        return
    begins = [found.get("subject_transform").get("dest", "").partition(".{{")[0] for found in letters]
    for name in sorted({change.current_ref.stream for change in changes if change.archives_dead_letters}):
        yield (
            name,
            [
                CountQuery(found.ref, CountKind.PRESENT, subjects=(f"{begin}.{name}.*",))
                for found, begin in zip(letters, begins, strict=True)
            ]
            if all(begins)
            else (),
        )


def _archived_letter_notes(changes: Sequence[Change], live: LiveState) -> Iterator[str]:
    """Yield notes on dead letters that would lose their messages, or no longer find them; not where it is known that there are none."""
    answers: dict[CountQuery, MessageCount] = {}
    for found in live.streams():
        answers |= found.counts_by_query
    losing = [
        name
        for name, queries in _losing_streams(changes, live)
        if not queries or any(answers.get(query, MessageCount(1)).messages for query in queries)
    ]
    if losing:
        yield (
            f"the messages of dead letters of {first_few(losing, _MAX_NAMED)} are copied into DEAD_LETTERS first: dlq finds them there, "
            "and whoever is alerted by it is alerted once more"
        )


def _admission_notes(changes: Sequence[Change]) -> Iterator[str]:
    """Yield a note on admission: a smaller max_msgs deletes nothing under discard new: the stream is over-full, and takes nothing new."""
    for change in changes:
        before, after = change.before, change.after
        kept = change.action is not Action.REPLACE or change.preserves_messages
        if not kept or before is None or after is None or not isinstance(before.counts, StreamCounts):
            continue
        limited = {field.field for field in change.fields} & {"retention", "discard", "max_msgs"}
        most, held = after.get("max_msgs"), before.counts.messages
        if limited and after.get("discard") == "new" and 0 < most <= held:
            worked = after.get("retention") == "workqueue" != before.get("retention")
            yield (
                f"{change.current_ref} holds {format_count(held, 'message')}{' (the worked ones included)' if worked else ''}: "
                f"as long as {most:,} or more are left, publishers are refused; nothing is deleted"
            )


def _direct_read_notes(changes: Sequence[Change]) -> Iterator[str]:
    """Yield a note on buckets that lose allow_direct: a client looks at it when it opens one, and never again (nats-py 2.16, nats.go)."""
    for change in changes:
        bucket = change.after and change.after.metadata.get(KIND_KEY) == StreamKind.KEY_VALUE
        if bucket and any(field.field == "allow_direct" and not field.after for field in change.fields):
            yield (
                f"{change.current_ref}: who has this bucket open reads from any copy and is told that nobody answers, until it is "
                "opened again; a read from a copy that is behind is what this prevents"
            )


def _terminated_notes(changes: Sequence[Change]) -> Iterator[str]:
    """Yield a note on terminated messages: under limits retention they stay in their stream, where `dlq` finds them."""
    deleting = [
        change.current_ref.stream
        for change in changes
        if change.before and change.after
        for field in change.fields
        if field.field == "retention" and field.before == "limits"
    ]
    if deleting:
        yield (
            f"what an agent terminates is deleted from {first_few(deleting, _MAX_NAMED)} from then on: "
            "its dead letter has no message, which nobody can look at or send again"
        )


def _refused_id_notes(changes: Sequence[Change], server_info: ServerInfo) -> Iterator[str]:
    """Yield a note on refused message ids: who tries again under the same one is refused for nothing, or told that it is stored."""
    if server_info.version >= Capability.FORGET_ID_OF_REFUSED_MESSAGE.since:
        return
    admitting = [
        change.ref
        for change in changes
        if change.after
        and change.ref.kind is Kind.STREAM
        and change.after.get("discard") == "new"
        and change.after.get("max_msgs") > 0
        and change.after.get("num_replicas") > 1
    ]
    if admitting:
        yield (
            f"nats-server {server_info.version} with replicas remembers the Nats-Msg-Id of a task that a full stream has refused, "
            "and does not take it again within duplicate_window: a new try needs a new id"
        )


def _former_interest_notes(changes: Sequence[Change], server_info: ServerInfo) -> Iterator[str]:
    """Yield a note on a stream that no longer has interest retention. Nothing unfinished is lost by it: only a filter that becomes narrower leaves that to nobody, which is a hazard."""
    former = [
        change.ref.stream
        for change in changes
        if change.action in (Action.UPDATE, Action.ADOPT)
        and any(
            (field.field, field.before, field.after) == ("retention", "interest", "limits")
            for field in change.fields
        )
    ]
    if former and server_info.version < Capability.TELL_CONSUMERS_OF_RETENTION.since:
        yield (
            f"nats-server {server_info.version} does not tell the consumers of {first_few(former, _MAX_NAMED)} that its retention has changed: until it "
            "restarts, changing one of them may delete what all of them have finished"
        )


def _forgotten_stream_notes(changes: Sequence[Change], server_info: ServerInfo) -> Iterator[str]:
    """Yield a note on streams that a killed server of a cluster forgets: those that were updated since the last snapshot of the cluster's state, at most a minute ago."""
    updated = [
        change.ref.stream
        for change in changes
        if change.ref.kind is Kind.STREAM and change.action in (Action.UPDATE, Action.ADOPT, Action.REPLACE)
    ]
    if updated and server_info.cluster and forgets_updated_streams(server_info.version):
        yield (
            f"nats-server {server_info.version} in a cluster: a server that is killed within a minute after this apply forgets "
            f"{first_few(updated, _MAX_NAMED)}, and deletes its copies: let none be killed, or use 2.12.3 or later"
        )


def _rename_notes(changes: Sequence[Change], orphans: Sequence[LiveResource]) -> Iterator[str]:
    """Yield a note where a role's stream is orphaned and another role's created: it may be the same role.

    A stream that is one for all roles, before or after, is no role's.
    """
    old = [found.role for found in orphans if found.metadata.get(KIND_KEY) == StreamKind.TASKS and found.role]
    if not old:
        return
    new = [
        change.after.role
        for change in changes
        if change.action is Action.CREATE
        and change.after
        and change.after.metadata[KIND_KEY] == StreamKind.TASKS
        and change.after.role
    ]
    if new:
        yield (
            f"{first_few(old, _MAX_NAMED)} left the manifest and {first_few(new, _MAX_NAMED)} came: if that is one role with a new name, "
            "renamed_from takes its tasks, inbox and progress along"
        )
