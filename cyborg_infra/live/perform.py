"""One change of a plan, made true on the server: read, compare with the plan, write, compare with the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from cyborg_infra.live import carry, move
from cyborg_infra.live.carry import Manner
from cyborg_infra.live.faults import ApiError
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.live.journal import has_begun
from cyborg_infra.live.parking import parked
from cyborg_infra.live.settle import settled
from cyborg_infra.live.write import (
    create_consumer,
    create_stream,
    delete,
    is_held,
    is_like,
    older_messages,
    update_consumer,
    update_stream,
)
from cyborg_infra.model.canonical import sendable
from cyborg_infra.model.fields import FIELDS, PAUSE_SINCE, Config, Kind
from cyborg_infra.model.plan import Action, Change, HazardName
from cyborg_infra.model.problems import PlanStale, Problem, ServerFault
from cyborg_infra.model.state import (
    APPLIED,
    START,
    ConsumerCounts,
    Ref,
    Resource,
    StreamCounts,
)

START_FIELDS = ("deliver_policy", "opt_start_seq", "opt_start_time")
SETTLED = 0.05  # seconds in which a parked stream must not grow: publishes that were under way have landed


async def perform(server: JetStream, change: Change, manner: Manner) -> None:
    """The server holds what the change says, every copy of it. Nothing is written where the server is not as the plan found it.

    Raises:
        PlanStale: somebody changed the resource after the plan was made.
        ServerFault: the server refused, dropped a field, or did not answer; what it did is in the message.
    """
    await _write_all(server, change, manner)
    if change.after is not None and _travels(change, change.after):
        born = change.action in (Action.CREATE, Action.REPLACE)
        await settled(server, change.after, manner.waits, born=born)


async def _write_all(server: JetStream, change: Change, manner: Manner) -> None:
    """Every write of the change is accepted."""
    match change.action:
        case Action.IMPOSSIBLE:
            raise PlanStale(*change.problems)
        case _ if change.carried:
            await _carry(server, change, manner)
        case Action.CREATE:
            await _create(server, _after(change), change.readers.values())
        case Action.ADOPT | Action.UPDATE:
            await _update(server, change, manner)
        case Action.REPLACE if change.ref.kind is Kind.CONSUMER:
            await _replace_consumer(server, change, manner)
        case Action.REPLACE:
            await _delete(server, change)
            await _create(server, _after(change), change.readers.values())
        case Action.DELETE:
            await _delete(server, change)


async def _carry(server: JetStream, change: Change, manner: Manner) -> None:
    """A stream with its messages; a consumer that goes on where its placeholder stands."""
    if change.ref.kind is Kind.STREAM:
        await _move(server, change, manner)
    elif change.action is Action.REPLACE:
        await _replace_consumer(server, change, manner)
    else:
        live, desired = await server.info(change.ref), _after(change)
        if change.fields and live is not None:  # which may be what an undone move has put back
            await _become(server, live, desired)
        await server.patiently(partial(carry.finish, server, desired, manner.version))


async def _replace_consumer(server: JetStream, change: Change, manner: Manner) -> None:
    if await _came_with_its_stream(server, change):
        return
    await _unchanged(server, change)
    after, announced = (
        _after(change),
        any(hazard.name is HazardName.REPEATS_WORK for hazard in change.hazards),
    )
    if (
        manner.version < PAUSE_SINCE and not announced
    ):  # the plan says of each consumer whether somebody works there
        manner = replace(manner, repeats_work=False)

    async def attempt() -> None:
        if change.place == change.ref and await is_held(server, after):
            await carry.finish(server, after, manner.version)  # the last attempt did all but the end of it
        else:
            await carry.replace(server, change.place, after, manner)

    await server.patiently(attempt)


async def _came_with_its_stream(server: JetStream, change: Change) -> bool:
    """Whether the consumer was made anew, as wanted, before its new stream took anything in."""
    live = await server.info(change.ref)
    anew = live is not None and change.before is not None and live.created != change.before.created
    return anew and await is_held(server, _after(change))


async def _move(server: JetStream, change: Change, manner: Manner) -> None:
    """Replaced with its messages. An interrupted replace goes on from what there is, whatever the plan found."""
    if change.via is None:
        raise ValueError("messages are carried by way of a stream")
    if not has_begun(await server.info(change.via)):
        await _unchanged(server, change)
    must = change.action is Action.REPLACE
    await move.replace(server, change.via, _after(change), change.readers, manner, must=must)


def _travels(change: Change, after: Resource) -> bool:
    """Whether the server has only accepted the change when it answers: copies come, go or move."""
    changed = {field.field for field in change.fields}
    made = change.action in (Action.CREATE, Action.REPLACE) and after.config.get("num_replicas", 0) > 1
    return made or bool(changed & {"num_replicas", "placement"})


async def _create(server: JetStream, desired: Resource, readers: Collection[Resource] = ()) -> None:
    if readers and desired.config.get("retention") == "interest" and desired.config.get("subjects"):
        closed = Resource(desired.ref, parked(desired))
        await _make(server, closed)
        await _read_first(server, readers)
        await _become(server, closed, desired)
    else:
        await _make(server, desired)


async def _read_first(server: JetStream, readers: Collection[Resource]) -> None:
    """An interest stream takes nothing in before its `readers` are there: it would acknowledge it, and forget it.

    A placeholder waits for what is stored as well as its consumer.
    """
    for reader in readers:
        if await server.info(carry.placeholder(reader.ref)) is None:
            await carry.begin(server, reader)


async def _make(server: JetStream, desired: Resource) -> None:
    doing = f"creating {desired.ref}"
    if desired.ref.kind is Kind.CONSUMER:
        await _refuse_unless_kept(server, desired, await create_consumer(server, desired, doing))
        return
    answer = await create_stream(server, desired, doing)
    if answer is None:  # it was lost, and only that, or the stream itself, tells what the stream began with
        answer = await server.insist(f"STREAM.INFO.{desired.ref}", doing=doing)
    await _refuse_unless_kept(server, desired, answer)
    if older := older_messages(answer):
        raise ServerFault(
            Problem(
                "older-messages",
                f"{desired.ref} was created, and holds {older:,} messages that are older: the server still had the files of an earlier stream of that name",
                desired.origin,
                "nothing was deleted; look whether they are wanted, and apply again to go on with them",
            )
        )


async def _update(server: JetStream, change: Change, manner: Manner) -> None:
    live, desired = await _unchanged(server, change), _after(change)
    if live is None:
        raise _stale(change.ref, "deleted")
    if _travels(change, desired):  # and may be on its way still, since a run that was interrupted
        await settled(server, live, manner.waits)
    if live.is_parked and desired.config.get("retention") == "interest":
        await _read_first(server, change.readers.values())  # `_create` was interrupted
    if {"num_replicas", "placement"} <= {field.field for field in change.fields}:
        halfway = _halfway(live, desired)
        await _become(server, live, halfway)
        await settled(server, halfway, manner.waits)
    await _become(server, live, desired)


async def _become(server: JetStream, live: Resource, desired: Resource) -> None:
    """What is `live` is as desired."""
    ref = live.ref
    update = update_stream if ref.kind is Kind.STREAM else update_consumer
    wanted = Resource(ref, merged(ref.kind, live.config, desired.config))
    try:
        answer = await update(server, wanted, f"updating {ref}")
    except ApiError as fault:
        if fault.unwritten and ref.kind is Kind.STREAM:
            await _forget(server, live)
        raise
    await _refuse_unless_kept(server, desired, answer)


def _halfway(live: Resource, desired: Resource) -> Resource:
    """The live stream in its new place or with its new number of copies: never both in one update (10123).

    It moves with the smaller number of copies, which every place that is wanted has room for. Interrupted here,
    the next plan is about the rest: the digest is that of what was applied so far.
    """
    fewer = desired.config["num_replicas"] < live.config["num_replicas"]
    name = "num_replicas" if fewer else "placement"
    config = {key: value for key, value in live.config.items() if key != name}
    config |= {name: desired.config[name]} if name in desired.config else {}
    marked = Resource(live.ref, config)
    if live.owner is None:  # to be adopted: not before all is done
        return marked
    return Resource(live.ref, {**config, "metadata": {**live.metadata, APPLIED: marked.digest()}})


async def _delete(server: JetStream, change: Change) -> None:
    """Gone. A resource that is already gone is as wanted: its stream went, or an earlier run got this far."""
    live = await _unchanged(server, change)
    if live is None:
        return
    if live.ref.kind is Kind.STREAM:
        await _retire(server, change, live)
    else:
        _refuse_if_moved(change, live)
    await delete(server, live.ref, f"deleting {live.ref}")


async def _retire(server: JetStream, change: Change, live: Resource) -> None:
    """A stream that was empty in the plan is parked on a subject that nobody uses, and still empty.

    A publisher that comes too late is told so, instead of losing an acknowledged message. If a message came
    before, the stream is put back as it was. Raises PlanStale then.
    """
    if any(hazard.name is HazardName.DELETES_MESSAGES for hazard in change.hazards) or not live.config.get(
        "subjects"
    ):
        return
    await update_stream(server, Resource(live.ref, sendable(parked(live))), f"parking {live.ref}")
    await asyncio.sleep(SETTLED)
    now = await server.info(live.ref)
    if now is not None and isinstance(now.counts, StreamCounts) and now.counts.messages:
        await _put_back(server, live)
        raise PlanStale(
            Problem(
                "stale",
                f"{live.ref}: {now.counts.messages} messages arrived since the plan was made; it was left as it is",
                None,
                "plan again",
            )
        )


def _refuse_if_moved(change: Change, live: Resource) -> None:
    """A consumer that cost nothing in the plan must not have been worked with since."""
    before = change.before.counts if change.before else None
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


async def _unchanged(server: JetStream, change: Change) -> Resource | None:
    """What the change is of, as it is now, which is as the plan found it; None if it is gone."""
    live = await server.info(change.place)
    if live is None or change.before is None:
        return live
    if live.created != change.before.created:
        raise _stale(live.ref, "deleted and created again")
    if not is_like(live, change.before):
        raise _stale(live.ref, "changed")
    return live


async def _forget(server: JetStream, live: Resource) -> None:
    """The server shows again what is on its disk: an update of a stream that failed there holds in memory (2.15.1).

    Otherwise the next plan would be in sync, until a restart takes the change back.
    """
    with contextlib.suppress(ServerFault):  # it fails on disk again
        await _put_back(server, live)


async def _put_back(server: JetStream, live: Resource) -> None:
    """The stream is as it was."""
    was = Resource(live.ref, merged(Kind.STREAM, live.config, live.config))
    await update_stream(server, was, f"putting {live.ref} back")


def _lacking(config: Config, wanted: Resource) -> list[str]:
    """The fields of `wanted` that a configuration does not have."""
    held, asked = Resource(wanted.ref, config).canonical(), wanted.canonical()
    if held == asked:
        return []
    return [name for name in FIELDS[wanted.ref.kind] if held.get(name) != asked.get(name)]


async def _refuse_unless_kept(server: JetStream, after: Resource, answer: Mapping[str, Any] | None) -> None:
    """Returns if the server holds `after`, whether its answer to the write says so or not.

    The first answer about a consumer after a restart shows what it was before (measured 2.10.26 and 2.15.1).
    Before 2.12 a server drops silently what it does not know: raises ServerFault then.
    """
    if answer is None or not _lacking(answer["config"], after):
        return
    live = await server.info(after.ref)
    names = _lacking(live.config if live else {}, after)
    if names:
        raise ServerFault(
            Problem(
                "not-kept",
                f"{after.ref}: the server answered OK and did not keep {', '.join(names)}",
                after.origin,
                "this server version may not know the field; plan again to see what it holds",
            )
        )


def merged(kind: Kind, live: Config, desired: Config) -> dict[str, Any]:
    """What an update sends: desired laid over live, so that a field newer than our table survives.

    A managed field that is absent from desired goes back to its default; the server's own labels are not sent.
    A start that a replace had to write stays, with its note: it cannot be changed on a living consumer.
    """
    kept = {name: value for name, value in live.items() if name not in FIELDS[kind]}
    noted = (live.get("metadata") or {}).get(START)
    if noted is None:
        return sendable({**kept, **desired})
    start = {name: live[name] for name in START_FIELDS if name in live}
    rest = {name: value for name, value in desired.items() if name not in START_FIELDS}
    metadata = {**(desired.get("metadata") or {}), START: noted}
    return sendable({**kept, **rest, **start, "metadata": metadata})


def _after(change: Change) -> Resource:
    if change.after is None:
        raise ValueError(f"{change.action} of {change.ref} without an after")
    return change.after


def _stale(ref: Ref, what: str) -> PlanStale:
    return PlanStale(
        Problem(
            "stale", f"{ref} was {what} since the plan was made; it was left as it is", None, "plan again"
        )
    )
