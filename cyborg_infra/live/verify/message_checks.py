"""Checks between the roles: inboxes, broadcasts, requests, status, events, follow-up tasks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterable
from typing import Any

from nats.aio.subscription import Subscription

from cyborg_infra.live import timing
from cyborg_infra.live.verify.agent import message_id_of, next_message
from cyborg_infra.live.verify.sandbox import (
    CheckFailed,
    NotConfigured,
    Sandbox,
    describe_message,
    utc_now,
)
from cyborg_infra.model.channels import Channel, ConsumerKind
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.naming import Subject
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource


async def check_inbox(sandbox: Sandbox) -> None:
    """Check that each role reads the message to its inbox, and no other."""
    readers = {role: sandbox.reader(ConsumerKind.INBOX_READER, role) for role in sandbox.roles()}
    await sandbox.purge(readers[sandbox.roles()[0]].stream)
    sent = {role: sandbox.new_id(f"message-to-{role}") for role in readers}
    for role, message_id in sent.items():
        body = {"type": "note", "text": f"for {role}", "timestamp": utc_now()}
        await sandbox.agent.publish(sandbox.subject(role, "inbox"), body, message_id)
    await _together(_expect_alone(sandbox, readers[role], sent[role]) for role in readers)


async def check_broadcast(sandbox: Sandbox) -> None:
    """Check that every role reads a broadcast; the first role only comes later."""
    readers = [sandbox.reader(ConsumerKind.BROADCAST_READER, role) for role in sandbox.roles()]
    await sandbox.purge(readers[0].stream)
    message_id = sandbox.new_id("broadcast")
    away, *waiting = readers
    listening = asyncio.ensure_future(_together(_expect_alone(sandbox, ref, message_id) for ref in waiting))
    try:
        await sandbox.publish_broadcast(message_id)
        await _together([listening, _afterwards(listening, _expect_alone(sandbox, away, message_id))])
    finally:  # nobody else waits for what it comes to
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def check_request(sandbox: Sandbox) -> None:
    """Check that a request is answered by the role's agent alone, and by nobody where there is none."""
    if sandbox.stored_requests:
        raise CheckFailed(f"requests of the organisation are stored by {', '.join(sandbox.stored_requests)}")
    await _together(_check_answered(sandbox, role) for role in sandbox.roles())


async def _check_answered(sandbox: Sandbox, role: str) -> None:
    subject = sandbox.subject(role, "requests")
    question = {
        "type": "query",
        "question": "Are you there?",
        "reply_timeout_seconds": timing.CHECK_WAIT_SECONDS,
    }
    answers = await sandbox.agent.subscribe()
    await sandbox.agent.publish_core(subject, question, reply=answers.subject)
    nobody = await next_message(answers, timing.CHECK_WAIT_SECONDS)
    if nobody is None or (nobody.headers or {}).get("Status") != "503":
        raise CheckFailed(f"without an agent on {subject} {_who(nobody)}")
    async with sandbox.connect_agent() as agent:
        asked = await agent.subscribe(subject)
        await sandbox.agent.publish_core(subject, question, reply=answers.subject)
        if (message := await next_message(asked, timing.CHECK_WAIT_SECONDS)) is None:
            raise CheckFailed(
                f"the agent on {subject} heard no question within {timing.CHECK_WAIT_SECONDS:g}s"
            )
        await agent.respond(message, {"status": "ok", "agent": role})
        reply = await next_message(answers, timing.CHECK_WAIT_SECONDS)
    if reply is None or _json(reply.data).get("agent") != role:
        raise CheckFailed(f"with an agent on {subject} {_who(reply)}")


def _who(reply: Any) -> str:
    """Return who answered a request, for people."""
    if reply is None:
        return f"there was no answer within {timing.CHECK_WAIT_SECONDS:g}s"
    answer = _json(reply.data)
    return f"stream {answer['stream']} answered" if "stream" in answer else f"{reply.data!r} was the answer"


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def check_status_subject(sandbox: Sandbox) -> None:
    """Check that one wildcard subscription sees the status of every role."""
    of_all = sandbox.org.subject(sandbox.channel("status").subject_of("*"))
    async with sandbox.connect_agent() as monitor:
        heard_by = await monitor.subscribe(of_all)
        for role in sandbox.roles():
            body = {
                "task_id": "verification",
                "agent": role,
                "status": "in_progress",
                "previous_status": "accepted",
                "timestamp": utc_now(),
            }
            await sandbox.agent.publish_core(sandbox.subject(role, "status"), body)
        seen = [await next_message(heard_by, timing.CHECK_WAIT_SECONDS) for _ in sandbox.roles()]
    agents = [_json(message.data).get("agent") for message in seen if message]
    if sorted(map(str, agents)) != sorted(sandbox.roles()):
        missing = set(sandbox.roles()) - set(agents)
        raise CheckFailed(f"nothing was seen of {', '.join(sorted(missing))}")


async def check_event(sandbox: Sandbox) -> None:
    """Check that every subscriber gets each event."""
    events = [row for row in sandbox.subjects if row.layer == "events" and row.readers]
    if not events:
        raise NotConfigured("no event has a subscriber")
    durable = [event for event in events if event.durable]
    await _together(_check_event_heard(sandbox, event) for event in events if not event.durable)
    if durable:
        await _check_events_read(sandbox, durable)


async def _check_event_heard(sandbox: Sandbox, event: Subject) -> None:
    """Check that an ephemeral event reaches whoever listens at that moment."""
    subscriptions: dict[str, Subscription] = {}
    for role in event.readers:
        subscriptions[role] = await sandbox.agent.subscribe(event.subject)
    await sandbox.agent.publish_core(event.subject, {"timestamp": utc_now()})
    for role, subscription in subscriptions.items():
        if await next_message(subscription, timing.CHECK_WAIT_SECONDS) is None:
            raise CheckFailed(f"{role} did not hear {event.subject}")
        await subscription.unsubscribe()


async def _check_events_read(sandbox: Sandbox, events: list[Subject]) -> None:
    """Check that durable events reach every subscriber, though it was away."""
    wanted: dict[str, set[str]] = {}
    for each in events:
        message_id = sandbox.new_id(each.channel)
        await sandbox.agent.publish(each.subject, {"timestamp": utc_now()}, message_id)
        for role in each.readers:
            wanted.setdefault(role, set()).add(message_id)
    for role, ids in wanted.items():
        ref = sandbox.reader(ConsumerKind.EVENT_READER, role)
        for _ in range(len(ids)):
            message = await sandbox.expect_message(ref)
            await message.ack_sync(timing.CHECK_WAIT_SECONDS)
            ids.discard(message_id_of(message))
        if ids:
            raise CheckFailed(f"{role} did not read {', '.join(sorted(ids))}")


async def check_channels(sandbox: Sandbox) -> None:
    """Check that what is published on any other channel reaches each of its readers, once, and nobody else."""
    others = sandbox.other_channels()
    if not others:
        raise NotConfigured("the manifest has no channel of its own")
    await _together(
        _check_handed_out(sandbox, channel) if channel.stream else _check_channel_heard(sandbox, channel)
        for channel in others
    )


async def _check_channel_heard(sandbox: Sandbox, channel: Channel) -> None:
    """Check that a message reaches whoever listens at that moment."""
    for member in sandbox.org.each_of(channel):
        subject = sandbox.subject(member, channel.name)
        heard_by = await sandbox.agent.subscribe(sandbox.org.subject(channel.subject_of(member)))
        await sandbox.agent.publish_core(subject, {"timestamp": utc_now()})
        if await next_message(heard_by, timing.CHECK_WAIT_SECONDS) is None:
            raise CheckFailed(f"nothing was heard on {subject} within {timing.CHECK_WAIT_SECONDS:g}s")


async def _check_handed_out(sandbox: Sandbox, channel: Channel) -> None:
    """Check that a message is stored, and handed out to those that it is for."""
    handed = await sandbox.publish_to_readers(channel)
    await _together(
        _check_handed(sandbox, sandbox.state.resources[ref], wanted) for ref, wanted in handed.items()
    )


async def _check_handed(sandbox: Sandbox, reader: Resource, wanted: set[str]) -> None:
    """Pull what is meant for one reader, and see that nothing else comes."""
    begun, missing = sandbox.clock(), set(wanted)
    acknowledges = reader.get("ack_policy") != "none"
    ref = sandbox.reader(ConsumerKind(reader.metadata[KIND_KEY]), reader.role) if acknowledges else reader.ref
    for _ in wanted:
        message = await sandbox.expect_message(ref)
        if acknowledges:
            await message.ack_sync(timing.CHECK_WAIT_SECONDS)
        if (found := message_id_of(message)) not in missing:
            raise CheckFailed(f"{ref} handed out {describe_message(message)}, which is not for it")
        missing.discard(found)
    await sandbox.expect_no_more(ref, begun)


async def check_chain(sandbox: Sandbox) -> None:
    """Check that each role's task ends with a task for the next role, published before the first one is acknowledged."""
    roles = sandbox.roles()
    nexts = dict(zip(roles, [*roles[1:], roles[0]], strict=True))
    workers = {role: await sandbox.worker(role) for role in roles}
    tasks = {}
    for role, follower in nexts.items():
        title = sandbox.new_id(f"review-of-{role}")
        after = {"publish_to": sandbox.subject(follower, "tasks"), "payload_template": {"title": title}}
        tasks[role] = (await sandbox.publish_task(role, on_complete=after), title)
    await _together(_complete_task(sandbox, workers[role], tasks[role][0], nexts[role]) for role in roles)
    await _together(_expect_follow_up(sandbox, workers[nexts[role]], *tasks[role]) for role in roles)


async def _complete_task(sandbox: Sandbox, ref: Ref, task: str, follower: str) -> None:
    message = await sandbox.expect_message(ref, task)
    after = json.loads(message.data)["on_complete"]
    if after["publish_to"] != sandbox.subject(follower, "tasks"):
        raise CheckFailed(f"{task} says that it goes on at {after['publish_to']}")
    await sandbox.publish_task(follower, task_id=f"{task}-after", **after["payload_template"])
    await message.ack_sync(timing.CHECK_WAIT_SECONDS)


async def _expect_follow_up(sandbox: Sandbox, ref: Ref, task: str, title: str) -> None:
    message = await sandbox.expect_message(ref, f"{task}-after")
    if json.loads(message.data)["title"] != title:
        raise CheckFailed(f"{describe_message(message)} is not what its template says")
    await message.ack_sync(timing.CHECK_WAIT_SECONDS)


async def _expect_alone(sandbox: Sandbox, ref: Ref, message_id: str) -> None:
    """Expect the message, and no other."""
    begun = sandbox.clock()
    message = await sandbox.expect_message(ref, message_id)
    await message.ack_sync(timing.CHECK_WAIT_SECONDS)
    await sandbox.expect_no_more(ref, begun)


async def _afterwards(first: asyncio.Future[None], then: Awaitable[None]) -> None:
    """Await `then` once `first` has ended, however it did."""
    await asyncio.wait([first])
    await then


async def _together(attempts: Iterable[Awaitable[None]]) -> None:
    """Run all attempts at once, to their ends. Raises CheckFailed with what every one saw that failed."""
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None and not isinstance(outcome, CheckFailed):
            raise outcome
    if seen := [str(outcome) for outcome in outcomes if outcome is not None]:
        raise CheckFailed("; ".join(seen))
