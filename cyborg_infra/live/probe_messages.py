"""The checks of what goes between the roles: inboxes, broadcasts, requests, status, events, follow-up tasks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterable
from typing import Any

from nats.aio.subscription import Subscription

from cyborg_infra.live.agent import heard, id_of
from cyborg_infra.live.trial import PATIENCE, NotConfigured, Trial, Unmet, named, now
from cyborg_infra.model.namespace import Subject
from cyborg_infra.model.org import ConsumerKind
from cyborg_infra.model.state import Ref


async def inbox(trial: Trial) -> None:
    """A message to each; each reads its own and nothing else."""
    readers = {role: trial.reader(ConsumerKind.INBOX_READER, role) for role in trial.roles()}
    await trial.emptied(readers[trial.roles()[0]].stream)
    sent = {role: trial.new_id(f"message-to-{role}") for role in readers}
    for role, message_id in sent.items():
        body = {"type": "note", "text": f"for {role}", "timestamp": now()}
        await trial.agent.publish(trial.subject(role, "inbox"), body, message_id)
    await _together(_reads_alone(trial, readers[role], sent[role]) for role in readers)


async def broadcast(trial: Trial) -> None:
    """All but the first role wait for it; the first one comes later."""
    readers = [trial.reader(ConsumerKind.BROADCAST_READER, role) for role in trial.roles()]
    await trial.emptied(readers[0].stream)
    message_id = trial.new_id("broadcast")
    away, *waiting = readers
    listening = asyncio.ensure_future(_together(_reads_alone(trial, ref, message_id) for ref in waiting))
    await trial.publish_broadcast(message_id)
    await _together([listening, _afterwards(listening, _reads_alone(trial, away, message_id))])


async def request(trial: Trial) -> None:
    """Nobody answers where no agent is; where one is, it does, and it alone."""
    if trial.stored_requests:
        raise Unmet(f"requests of the organisation are stored by {', '.join(trial.stored_requests)}")
    await _together(_is_answered(trial, role) for role in trial.roles())


async def _is_answered(trial: Trial, role: str) -> None:
    subject = trial.subject(role, "requests")
    question = {"type": "query", "question": "Are you there?", "reply_timeout_seconds": PATIENCE}
    answers = await trial.agent.listen()
    await trial.agent.tell(subject, question, reply=answers.subject)
    nobody = await heard(answers, PATIENCE)
    if nobody is None or (nobody.headers or {}).get("Status") != "503":
        raise Unmet(f"without an agent on {subject} {_who(nobody)}")
    async with trial.hire() as agent:
        asked = await agent.listen(subject)
        await trial.agent.tell(subject, question, reply=answers.subject)
        if (message := await heard(asked, PATIENCE)) is None:
            raise Unmet(f"the agent on {subject} heard no question within {PATIENCE:g}s")
        await agent.answer(message, {"status": "ok", "agent": role})
        reply = await heard(answers, PATIENCE)
    if reply is None or _json(reply.data).get("agent") != role:
        raise Unmet(f"with an agent on {subject} {_who(reply)}")


def _who(reply: Any) -> str:
    """Who answered a request, for people."""
    if reply is None:
        return f"there was no answer within {PATIENCE:g}s"
    told = _json(reply.data)
    return f"stream {told['stream']} answered" if "stream" in told else f"{reply.data!r} was the answer"


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def status(trial: Trial) -> None:
    """One subscription with a wildcard, a message of each role."""
    layer, _, channel = trial.subject(trial.roles()[0], "status").rsplit(".", 2)
    async with trial.hire() as monitor:
        heard_by = await monitor.listen(f"{layer}.*.{channel}")
        for role in trial.roles():
            body = {
                "task_id": "verification",
                "agent": role,
                "status": "in_progress",
                "previous_status": "accepted",
                "timestamp": now(),
            }
            await trial.agent.tell(trial.subject(role, "status"), body)
        seen = [await heard(heard_by, PATIENCE) for _ in trial.roles()]
    agents = [_json(message.data).get("agent") for message in seen if message]
    if sorted(map(str, agents)) != sorted(trial.roles()):
        missing = set(trial.roles()) - set(agents)
        raise Unmet(f"nothing was seen of {', '.join(sorted(missing))}")


async def event(trial: Trial) -> None:
    """Each event that has subscribers, and each of them."""
    events = [row for row in trial.subjects if row.layer == "events" and row.readers]
    if not events:
        raise NotConfigured("no event has a subscriber")
    durable = [event for event in events if event.durable]
    await _together(_is_heard(trial, event) for event in events if not event.durable)
    if durable:
        await _are_read(trial, durable)


async def _is_heard(trial: Trial, event: Subject) -> None:
    """By whoever listens at that moment."""
    subscriptions: dict[str, Subscription] = {}
    for role in event.readers:
        subscriptions[role] = await trial.agent.listen(event.subject)
    await trial.agent.tell(event.subject, {"timestamp": now()})
    for role, subscription in subscriptions.items():
        if await heard(subscription, PATIENCE) is None:
            raise Unmet(f"{role} did not hear {event.subject}")
        await subscription.unsubscribe()


async def _are_read(trial: Trial, events: list[Subject]) -> None:
    """By every subscriber, though it was away."""
    wanted: dict[str, set[str]] = {}
    for each in events:
        message_id = trial.new_id(each.channel)
        await trial.agent.publish(each.subject, {"timestamp": now()}, message_id)
        for role in each.readers:
            wanted.setdefault(role, set()).add(message_id)
    for role, ids in wanted.items():
        ref = trial.reader(ConsumerKind.EVENT_READER, role)
        for _ in range(len(ids)):
            message = await trial.take(ref)
            await message.ack_sync(PATIENCE)
            ids.discard(id_of(message))
        if ids:
            raise Unmet(f"{role} did not read {', '.join(sorted(ids))}")


async def chain(trial: Trial) -> None:
    """Each role's task ends with a task for the next role, published before the first one is acknowledged."""
    roles = trial.roles()
    nexts = dict(zip(roles, [*roles[1:], roles[0]], strict=True))
    workers = {role: await trial.worker(role) for role in roles}
    tasks = {}
    for role, follower in nexts.items():
        title = trial.new_id(f"review-of-{role}")
        after = {"publish_to": trial.subject(follower, "tasks"), "payload_template": {"title": title}}
        tasks[role] = (await trial.publish_task(role, on_complete=after), title)
    await _together(_completes(trial, workers[role], tasks[role][0], nexts[role]) for role in roles)
    await _together(_follows(trial, workers[nexts[role]], *tasks[role]) for role in roles)


async def _completes(trial: Trial, ref: Ref, task: str, follower: str) -> None:
    message = await trial.take(ref, task)
    after = json.loads(message.data)["on_complete"]
    if after["publish_to"] != trial.subject(follower, "tasks"):
        raise Unmet(f"{task} says that it goes on at {after['publish_to']}")
    await trial.publish_task(follower, task_id=f"{task}-after", **after["payload_template"])
    await message.ack_sync(PATIENCE)


async def _follows(trial: Trial, ref: Ref, task: str, title: str) -> None:
    message = await trial.take(ref, f"{task}-after")
    if json.loads(message.data)["title"] != title:
        raise Unmet(f"{named(message)} is not what its template says")
    await message.ack_sync(PATIENCE)


async def _reads_alone(trial: Trial, ref: Ref, message_id: str) -> None:
    """The message, and no other."""
    begun = trial.clock()
    message = await trial.take(ref, message_id)
    await message.ack_sync(PATIENCE)
    await trial.nothing_more(ref, begun)


async def _afterwards(first: asyncio.Future[None], then: Awaitable[None]) -> None:
    """Begun once the first has ended, however it did."""
    await asyncio.wait([first])
    await then


async def _together(attempts: Iterable[Awaitable[None]]) -> None:
    """All of them at once, to their ends. Raises Unmet with what every one saw that failed."""
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None and not isinstance(outcome, Unmet):
            raise outcome
    if seen := [str(outcome) for outcome in outcomes if outcome is not None]:
        raise Unmet("; ".join(seen))
