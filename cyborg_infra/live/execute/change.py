"""Execute one change of a plan: read, compare with the plan, write, compare with the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, assert_never

from cyborg_infra.live import timing
from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.fencing import fenced_config, parks_first
from cyborg_infra.live.api.idempotent import (
    count_older_messages,
    create_consumer,
    create_stream,
    delete,
    is_configured_like,
    matches_server,
    update_consumer,
    update_stream,
)
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.api.replication import wait_until_idle, wait_until_replicated
from cyborg_infra.live.execute import advisories, consumer_limits
from cyborg_infra.live.execute.consumer import replacement
from cyborg_infra.live.execute.consumer.creation import create_at_saved_position, ensure_exists
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.consumer.pausing import resume
from cyborg_infra.live.execute.consumer.placeholder import placeholder_ref
from cyborg_infra.live.execute.migrate import migration
from cyborg_infra.live.records.journal import has_begun
from cyborg_infra.model.changes import (
    Adopt,
    Anew,
    Blocked,
    Change,
    Create,
    Delete,
    Direct,
    Migrate,
    Replace,
    Restore,
    Update,
)
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.fields import FIELDS, Config, Kind
from cyborg_infra.model.metadata_keys import APPLIED_KEY, KIND_KEY, START_KEY
from cyborg_infra.model.problems import PlanStale, Problem, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import (
    ConsumerCounts,
    DesiredResource,
    LiveResource,
    Resource,
    StreamCounts,
    origin_of,
)

START_FIELDS = ("deliver_policy", "opt_start_seq", "opt_start_time")


async def execute_change(server: JetStream, change: Change, options: ApplyOptions) -> None:
    """Execute one change, and wait until every replica has it. Writes nothing, and raises PlanStale, if the resource is not as planned.

    Raises:
        PlanStale: somebody changed the resource after the plan was made.
        ServerFault: the server refused, dropped a field, or did not answer; what it did is in the message.
    """
    await _write_all(server, change, options)
    if change.after is not None and _is_asynchronous(change, change.after):
        born = isinstance(change, Create | Replace)
        await wait_until_replicated(server, change.after, options.on_wait, born=born)


async def _write_all(server: JetStream, change: Change, options: ApplyOptions) -> None:
    """Send every write of the change; each is accepted when this returns."""
    match change:
        case Blocked():
            raise PlanStale(*change.problems)
        case Delete():
            await _delete(server, change, options)
        case Create() | Adopt() | Update():
            await _make(server, change, options)
        case Replace():
            await _replace(server, change, options)
        case _:
            assert_never(change)


async def _make(server: JetStream, change: Create | Adopt | Update, options: ApplyOptions) -> None:
    match change.method:
        case Migrate() as method:
            await _migrate(server, change, method, options, required=False)
        case Restore():
            await _restore_consumer(server, change, options)
        case Direct():
            if isinstance(change, Create):
                if change.archives_dead_letters:  # or the new consumer begins with them
                    stream = Ref(change.ref.stream)
                    await options.archive_dead_letters(stream, stream)
                await _create(server, change.after, change.consumers_after.values())
            else:
                await _update(server, change, options)
        case _:
            assert_never(change.method)


async def _replace(server: JetStream, change: Replace, options: ApplyOptions) -> None:
    match change.method:
        case Migrate() as method:
            await _migrate(server, change, method, options, required=True)
        case Anew() | Restore() if change.ref.kind is Kind.CONSUMER:
            await _replace_consumer(server, change, options)
        case Anew() | Restore():
            await _delete(server, change, options)
            await _create(server, change.after, change.consumers_after.values())
        case _:
            assert_never(change.method)


async def _restore_consumer(
    server: JetStream, change: Create | Adopt | Update, options: ApplyOptions
) -> None:
    """Create a consumer at the position that its placeholder keeps."""
    live = await server.info(change.ref)
    if change.fields and live is not None and not live.is_refilling:  # what an undone migration has put back
        await _update_to(server, live, change.after)
    await server.retry(partial(create_at_saved_position, server, change.after, options, change.current_ref))


async def _replace_consumer(server: JetStream, change: Replace, options: ApplyOptions) -> None:
    if await _was_created_with_stream(server, change):
        return
    await _read_unchanged(server, change)
    after = change.after

    async def attempt() -> None:
        if change.current_ref == change.ref and await matches_server(server, after):
            # The last attempt did all but the end of it.
            await create_at_saved_position(server, after, options, change.current_ref)
        else:
            await replacement.replace_consumer(server, change.current_ref, after, options)

    await server.retry(attempt)


async def _was_created_with_stream(server: JetStream, change: Replace) -> bool:
    """Return whether the consumer was made anew, as wanted, before its new stream took anything in."""
    live = await server.info(change.ref)
    anew = live is not None and live.created != change.before.created
    return anew and await matches_server(server, change.after)


async def _migrate(
    server: JetStream,
    change: Create | Adopt | Update | Replace,
    method: Migrate,
    options: ApplyOptions,
    *,
    required: bool,
) -> None:
    """Migrate a stream. An interrupted migration resumes from what there is, whatever the plan found."""
    via, after = method.temporary_stream, change.after
    if not has_begun(await server.info(via)):
        await _read_unchanged(server, change)

    migrate = partial(
        migration.migrate_stream, server, via, after, change.consumers_after, options, required=required
    )
    if after.metadata.get(KIND_KEY) == StreamKind.DEAD_LETTERS:
        places = {after.ref, change.current_ref}
        async with advisories.listening(server, places, options.on_wait) as notices:
            await migrate(notices=notices)
    else:
        await migrate()


def _is_asynchronous(change: Change, after: DesiredResource) -> bool:
    """Return whether the server has only accepted the change when it answers: copies come, go or move."""
    changed = {field.field for field in change.fields}
    made = isinstance(change, Create | Replace) and after.get("num_replicas") > 1
    return made or bool(changed & {"num_replicas", "placement"})


def _only_scales_down(live: LiveResource, desired: DesiredResource) -> bool:
    """Return whether it only loses copies: which of them are current does not matter, and it is what cures a lost one."""
    fewer: bool = desired.get("num_replicas") < live.get("num_replicas")
    return fewer


async def _create(
    server: JetStream, desired: DesiredResource, readers: Collection[DesiredResource] = ()
) -> None:
    if readers and desired.get("retention") == "interest" and desired.get("subjects"):
        closed = DesiredResource(desired.ref, fenced_config(desired))
        await _create_resource(server, closed)
        await _create_consumers_first(server, readers)
        await _update_to(server, closed, desired)
    else:
        await _create_resource(server, desired)


async def _create_consumers_first(server: JetStream, readers: Collection[DesiredResource]) -> None:
    """Create the consumers first: an interest stream without consumers acknowledges a publish and discards the message.

    A placeholder waits for what is stored as well as its consumer.
    """
    for reader in readers:
        if await server.info(placeholder_ref(reader.ref)) is None:
            await ensure_exists(server, reader)


async def _create_resource(server: JetStream, desired: DesiredResource) -> None:
    doing = f"creating {desired.ref}"
    if desired.ref.kind is Kind.CONSUMER:
        await _require_applied(server, desired, await create_consumer(server, desired, doing))
        return
    answer = await create_stream(server, desired, doing)
    if answer is None:  # it was lost, and only that, or the stream itself, tells what the stream began with
        answer = await server.request_with_retry(f"STREAM.INFO.{desired.ref}", doing=doing)
    await _require_applied(server, desired, answer)
    if older := count_older_messages(answer):
        raise ServerFault(
            Problem(
                "older-messages",
                f"{desired.ref} was created, and holds {older:,} messages that are older: the server still had the files of an earlier stream of that name",
                desired.origin,
                "nothing was deleted; look whether they are wanted, and apply again to go on with them",
            )
        )


async def _update(server: JetStream, change: Adopt | Update, options: ApplyOptions) -> None:
    live, desired = await _read_unchanged(server, change), change.after
    if live is None:
        raise _stale_error(change.ref, "deleted")
    if _is_asynchronous(change, desired) and not _only_scales_down(live, desired):
        # It may be on its way still, since a run that was interrupted.
        await wait_until_idle(server, live, options.on_wait)
    await _archive_dead_letters(server, change, options)
    if live.is_fenced and desired.get("retention") == "interest":
        await _create_consumers_first(server, change.consumers_after.values())  # `_create` was interrupted
    if {"num_replicas", "placement"} <= {field.field for field in change.fields}:
        halfway = _intermediate_config(live, desired)
        await _update_to(server, live, halfway)
        await wait_until_replicated(server, halfway, options.on_wait)
    await _update_to(server, live, desired)
    if live.is_left_paused:
        await resume(server, live.ref)


async def _archive_dead_letters(
    server: JetStream, change: Adopt | Update | Replace | Delete, options: ApplyOptions
) -> None:
    """Archive dead letters before a change after which an interest stream deletes their messages: nobody waits for them any more."""
    ref, after, changed = change.current_ref, change.after, {field.field for field in change.fields}
    if ref.consumer:
        forgets = after is None or bool(changed & {"filter_subject", "filter_subjects"})
        stream: Resource | None = await server.info(Ref(ref.stream)) if forgets else None
    else:
        stream = after if "retention" in changed else None
    if stream is not None and stream.get("retention") == "interest":
        await options.archive_dead_letters(Ref(ref.stream), Ref(change.ref.stream))


async def _update_to(server: JetStream, live: Resource, desired: Resource) -> None:
    """Update the live resource to the desired one."""
    ref = live.ref
    update = update_stream if ref.kind is Kind.STREAM else update_consumer
    if live.is_ephemeral:
        await _make_durable(server, live)
    if ref.kind is Kind.STREAM:
        await consumer_limits.fit_placeholders(server, live, desired)
    wanted = Resource(ref, merge_config(ref.kind, live.config, desired.config))
    try:
        answer = await update(server, wanted, f"updating {ref}")
    except ApiError as fault:
        if fault.is_disk_failure and ref.kind is Kind.STREAM:
            await _restore_in_memory_config(server, live)
        raise
    await _require_applied(server, desired, answer)


async def _make_durable(server: JetStream, live: Resource) -> None:
    """Make the consumer durable, with all its other settings as they are.

    An update judges inactive_threshold by what the consumer was before: one that makes it durable and sets 0 gives it
    the 5 s of an ephemeral one, and it expires (2.10.26 to 2.15.1).
    """
    kept = {**live.config, "durable_name": live.ref.consumer}
    await update_consumer(server, Resource(live.ref, kept), f"making {live.ref} durable")


async def update_dead_letter_subjects(
    server: JetStream, change: Adopt | Update | Replace, subjects: Sequence[str]
) -> LiveResource | None:
    """Have the live DEAD_LETTERS store these subjects until it is changed, and return it. Its label then says that they were applied."""
    live = await _read_unchanged(server, change)
    if live is None or set(live.get("subjects")) == set(subjects):
        return live
    wider = Resource(live.ref, {**live.config, "subjects": list(subjects)})
    metadata = (
        {**live.metadata, APPLIED_KEY: wider.digest()} if APPLIED_KEY in live.metadata else live.metadata
    )
    await _update_to(server, live, Resource(live.ref, {**wider.config, "metadata": metadata}))
    return await server.info(live.ref)


def _intermediate_config(live: LiveResource, desired: DesiredResource) -> Resource:
    """Return the live stream with its new placement or its new number of replicas: never both in one update (10123).

    It moves with the smaller number of copies, which every place that is wanted has room for. Interrupted here,
    the next plan is about the rest: the digest is that of what was applied so far.
    """
    fewer = desired.get("num_replicas") < live.get("num_replicas")
    name = "num_replicas" if fewer else "placement"
    config = {key: value for key, value in live.config.items() if key != name}
    config |= desired.config_part([name])
    marked = Resource(live.ref, config)
    if live.owner is None:  # to be adopted: not before all is done
        return marked
    return Resource(live.ref, {**config, "metadata": {**live.metadata, APPLIED_KEY: marked.digest()}})


async def _delete(server: JetStream, change: Delete | Replace, options: ApplyOptions) -> None:
    """Delete the resource. One that is already gone is fine: its stream went, or an earlier run got this far."""
    live = await _read_unchanged(server, change)
    if live is None:
        return
    if live.ref.kind is Kind.STREAM:
        await _fence_before_delete(server, change, live)
    else:
        _refuse_if_delivered(change, live)
        await _archive_dead_letters(server, change, options)
    await delete(server, live.ref, f"deleting {live.ref}")


async def _fence_before_delete(server: JetStream, change: Delete | Replace, live: LiveResource) -> None:
    """Fence a stream before it is deleted, where nothing unfinished was to go with it, and look whether a message came.

    A publisher that comes too late is told so, instead of losing an acknowledged message. If a message came
    before, the stream is put back as it was. Raises PlanStale then.
    """
    if not parks_first(change, live):
        return
    await update_stream(server, Resource(live.ref, fenced_config(live)), f"parking {live.ref}")
    await asyncio.sleep(timing.FLUSH_DELAY_SECONDS)
    arrived = _arrived(change, await server.info(live.ref))
    if arrived:
        await _restore_stream(server, live)
        raise PlanStale(
            Problem(
                "stale",
                f"{live.ref}: {arrived} messages arrived since the plan was made; it was left as it is",
                None,
                "plan again",
            )
        )


def _arrived(change: Delete | Replace, now: LiveResource | None) -> int:
    """Return how many messages have arrived in the stream since the plan was made."""
    before = change.before.counts
    if now is None or not isinstance(before, StreamCounts) or not isinstance(now.counts, StreamCounts):
        return 0
    return min(now.counts.messages, now.counts.last_seq - before.last_seq)


def _refuse_if_delivered(change: Delete | Replace, live: LiveResource) -> None:
    """Refuse if a consumer that cost nothing in the plan has delivered anything since."""
    before = change.before.counts
    if (
        change.hazards
        or not isinstance(before, ConsumerCounts)
        or not isinstance(live.counts, ConsumerCounts)
    ):
        return
    if (before.delivered_stream_seq, before.num_pending) != (
        live.counts.delivered_stream_seq,
        live.counts.num_pending,
    ):
        raise PlanStale(
            Problem(
                "stale",
                f"{live.ref} has been worked with since the plan was made; it was left as it is",
                None,
                "plan again",
            )
        )


async def _read_unchanged(server: JetStream, change: Change) -> LiveResource | None:
    """Return the live resource that the change is about; None if it is gone. Raises PlanStale unless it is as in the plan."""
    live = await server.info(change.current_ref)
    if live is None or change.before is None:
        return live
    if live.created != change.before.created:
        raise _stale_error(live.ref, "deleted and created again")
    if not is_configured_like(live, change.before):
        raise _stale_error(live.ref, "changed")
    return live


async def _restore_in_memory_config(server: JetStream, live: Resource) -> None:
    """Restore what the server has in memory from what is on its disk: an update of a stream that failed there still shows (2.15.1).

    Otherwise the next plan would be in sync, until a restart takes the change back.
    """
    with contextlib.suppress(ServerFault):  # it fails on disk again
        await _restore_stream(server, live)


async def _restore_stream(server: JetStream, live: Resource) -> None:
    """Restore the stream's former configuration."""
    was = Resource(live.ref, merge_config(Kind.STREAM, live.config, live.config))
    await update_stream(server, was, f"putting {live.ref} back")


def _missing_fields(config: Config, wanted: Resource) -> list[str]:
    """Return the fields of `wanted` that a configuration does not have."""
    held, asked = Resource(wanted.ref, config).normalised(), wanted.normalised()
    if held == asked:
        return []
    return [name for name in FIELDS[wanted.ref.kind] if held.get(name) != asked.get(name)]


async def _require_applied(server: JetStream, after: Resource, answer: Mapping[str, Any] | None) -> None:
    """Raise ServerFault unless the server holds `after`, whether its answer to the write says so or not.

    The first answer about a consumer after a restart shows what it was before (measured 2.10.26 and 2.15.1).
    Before 2.12 a server drops silently what it does not know: raises ServerFault then.
    """
    if answer is None or not _missing_fields(answer["config"], after):
        return
    live = await server.info(after.ref)
    names = _missing_fields(live.config if live else {}, after)
    if names:
        raise ServerFault(
            Problem(
                "not-kept",
                f"{after.ref}: the server answered OK and did not keep {', '.join(names)}",
                origin_of(after),
                "this server version may not know the field; plan again to see what it holds",
            )
        )


def merge_config(kind: Kind, live: Config, desired: Config) -> dict[str, Any]:
    """Return what an update sends: desired laid over live, so that a field newer than our table survives.

    A managed field that is absent from desired goes back to its default; the server's own labels are not sent.
    A start that a replace had to write stays, with its note: it cannot be changed on a living consumer.
    """
    kept = {name: value for name, value in live.items() if name not in FIELDS[kind]}
    noted = (live.get("metadata") or {}).get(START_KEY)
    if noted is None:
        return {**kept, **desired}
    start = {name: live[name] for name in START_FIELDS if name in live}
    rest = {name: value for name, value in desired.items() if name not in START_FIELDS}
    metadata = {**(desired.get("metadata") or {}), START_KEY: noted}
    return {**kept, **rest, **start, "metadata": metadata}


def _stale_error(ref: Ref, what: str) -> PlanStale:
    return PlanStale(
        Problem(
            "stale", f"{ref} was {what} since the plan was made; it was left as it is", None, "plan again"
        )
    )
