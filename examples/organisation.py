"""A miniature organisation at work, in plain nats-py on what `cyborg-infra apply` has made.

The ceo assigns a task, the cto does it, and its review goes to the cso. The ceo asks devops a question. A deployment is
announced to three others. One task breaks whoever touches it: it becomes a dead letter, and is replayed once mended.

The names come from `messaging.py`, which `cyborg-infra export python organisation.yaml --out .` has written.

    python examples/organisation.py     on a server of its own, where every agent has a key and may do what its role does
    python examples/organisation.py --server nats://...     on yours
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import nats
from messaging import CONSUMERS, EVENTS, EVERY_ROLE, ROLES, Bucket, RoleName, Task
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NothingCame
from nats.js.errors import KeyNotFoundError

TASK_STATE: Bucket = "mini-tasks"
MANIFEST = Path(__file__).with_name("organisation.yaml")
HEARTBEAT = 60
"""Seconds; `ack_wait` is half an hour."""
Work = Callable[["Agent", dict[str, Any]], Awaitable[None]]


class Agent:
    """One role at work: it pulls its tasks, says how they go, and hands on what comes after them."""

    def __init__(self, connection: Client, role: RoleName, work: Work) -> None:
        self.role = role
        self._connection = connection
        self._stream = connection.jetstream()
        self._work = work

    async def run(self) -> None:
        """Works until it is cancelled."""
        worker = ROLES[self.role].consumers["worker"]
        tasks = await self._stream.pull_subscribe_bind(worker.name, stream=worker.stream)
        while True:
            try:
                (message,) = await tasks.fetch(1, timeout=5)
            except NothingCame:
                continue
            await self._do(message)

    async def _do(self, message: Msg) -> None:
        """A task that comes again goes on where its document says it stands: what is done is not done twice."""
        task = json.loads(message.data)
        task_id, heartbeat = task["task_id"], asyncio.create_task(still_working(message))
        try:
            status, _ = await self.standing(task_id)
            if status == "assigned":
                await self.report(task_id, "accepted")
            if status not in ("completed_unverified", "completed"):
                await self.report(task_id, "in_progress")
                await self._work(self, task)
                await self.report(task_id, "completed_unverified")
            if follow_up := task.get("on_complete"):
                await publish(self._stream, follow_up["publish_to"], follow_up["payload_template"])
            elif status != "completed":  # nobody reviews it
                await self.report(task_id, "completed")
        except Exception as error:  # noqa: BLE001 - an agent survives whatever a task does to it
            say(f"{self.role} fails with {task_id}: {error}")
            await message.nak()  # it comes again, until max_deliver is used up
        else:
            await message.ack_sync()  # last, and answered: what dies before that comes again
        finally:
            heartbeat.cancel()

    async def standing(self, task_id: str) -> tuple[str, int]:
        """Return the status in the task's document, and its revision; a task without one is assigned."""
        documents = await self._stream.key_value(TASK_STATE)
        try:
            entry = await documents.get(task_id)
        except KeyNotFoundError:
            return "assigned", 0
        return json.loads(entry.value or b"{}")["status"], entry.revision or 0

    async def report(self, task_id: str, status: str) -> None:
        """The task's document says it, and whoever listens to `<org>.agents.*.status` hears of it.

        Raises KeyWrongLastSequenceError if somebody else has changed the document meanwhile.
        """
        previous, revision = await self.standing(task_id)
        told = {"task_id": task_id, "agent": self.role, "status": status, "previous_status": previous}
        body = json.dumps(told | {"timestamp": now()}).encode()
        documents = await self._stream.key_value(TASK_STATE)
        await documents.update(task_id, body, last=revision)
        await self._connection.publish(ROLES[self.role].subjects["status"], body)


async def still_working(message: Msg) -> None:
    """While an agent reasons, it says so well within `ack_wait`; else the task is handed to the next one."""
    while True:
        await asyncio.sleep(HEARTBEAT)
        await message.in_progress()


async def publish(stream: Any, subject: str, task: dict[str, Any]) -> None:
    """The task is stored, once, however often this is called: its id is the message's id."""
    await stream.publish(subject, json.dumps(task).encode(), headers={"Nats-Msg-Id": task["task_id"]})


def assignment(role: RoleName, task_id: str, title: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """Return the subject and the content of a task for `role`."""
    task: Task = {
        "task_id": task_id,
        "type": "feature_implementation",
        "title": title,
        "description": f"{title}, as agreed.",
        "assigned_by": "ceo",
        "assigned_to": role,
        "priority": "normal",
        "lifecycle": {"status": "assigned", "assigned_at": now()},
    }
    return ROLES[role].subjects["tasks"], {**task, **more}


async def think(agent: Agent, task: dict[str, Any]) -> None:
    """Twenty minutes of reasoning, in short."""
    await asyncio.sleep(0.01)
    say(f"{agent.role} works on {task['task_id']}: {task['title']}")


async def review(agent: Agent, task: dict[str, Any]) -> None:
    """As `think`, and what was reviewed is completed by it."""
    await think(agent, task)
    for task_id in task["context"]["related_tasks"]:
        await agent.report(task_id, "completed")


class Stumbling:
    """Work that fails with one task until somebody has mended what is wrong with it."""

    def __init__(self) -> None:
        self.mended = False

    async def work(self, agent: Agent, task: dict[str, Any]) -> None:
        """As `think`, where it does not fail."""
        if task["task_id"] == "t-poison" and not self.mended:
            raise ValueError("cannot make sense of it")
        await think(agent, task)


class Server(NamedTuple):
    """Where the organisation works. With a directory of keys everybody is who they are; without one nobody is asked."""

    url: str
    keys: Path | None = None

    async def connect(self, name: str) -> Client:
        """Return the connection of a role, or of somebody who is none: with the key of that name, and an inbox of its own."""
        if self.keys is None:
            return await nats.connect(self.url)
        seed, inbox = str(self.keys / f"{name}.nk"), f"_INBOX.{name}".encode()
        return await nats.connect(self.url, nkeys_seed=seed, inbox_prefix=inbox)

    def options(self, name: str) -> list[str]:
        """Return how the command line connects as somebody."""
        found = ["--server", self.url, "--no-context"]
        if self.keys:
            found += ["--nkey", str(self.keys / f"{name}.nk"), "--inbox-prefix", f"_INBOX.{name}"]
        return found


async def story(server: Server) -> None:
    """What happens in this organisation on one day."""
    async with AsyncExitStack() as stack:
        people = {
            name: await stack.enter_async_context(await server.connect(name))
            for name in (*ROLES, "monitor", "alerts")
        }
        heard = asyncio.Queue[str]()

        async def hear(message: Msg) -> None:
            status = json.loads(message.data)
            heard.put_nowait(f"{status['task_id']} is {status['status']}")

        async def answer(message: Msg) -> None:
            await message.respond(json.dumps({"status": "healthy"}).encode())

        await listen(people["monitor"], EVERY_ROLE["status"], hear)
        await listen(people["devops"], ROLES["devops"].subjects["requests"], answer)
        stumbling = Stumbling()
        at_work: dict[RoleName, Work] = {"cto": think, "cso": review, "backend": stumbling.work}
        agents = [
            asyncio.create_task(Agent(people[role], role, work).run()) for role, work in at_work.items()
        ]
        try:
            await a_task_and_its_review(people["ceo"].jetstream(), heard)
            await a_question(people["ceo"])
            await a_deployment(people)
            await a_dead_letter(people, heard, stumbling, server)
        finally:
            while not all(agent.done() for agent in agents):  # nats-py may swallow a cancellation
                for agent in agents:
                    agent.cancel()
                await asyncio.wait(agents, timeout=0.5)


async def listen(connection: Client, subject: str, hear: Callable[[Msg], Awaitable[None]]) -> None:
    """In force on the server when this returns: what others publish afterwards is heard."""
    await connection.subscribe(subject, cb=hear)
    await connection.flush()


async def a_task_and_its_review(stream: Any, heard: asyncio.Queue[str]) -> None:
    """The review is part of the task: nobody has to remember it."""
    more = {"type": "security_review", "context": {"related_tasks": ["t-1"]}}
    subject, template = assignment("cso", "t-1-review", "Review: log in with passkeys", **more)
    follow_up = {"publish_to": subject, "payload_template": template}
    await publish(stream, *assignment("cto", "t-1", "Log in with passkeys", on_complete=follow_up))
    await until(heard, "t-1 is completed_unverified")
    await until(heard, "t-1 is completed")
    await until(heard, "t-1-review is completed")


async def a_question(connection: Client) -> None:
    """Asked on `requests`, which no stream stores: so it is the agent that answers."""
    question = {"type": "query", "question": "Is staging healthy?", "reply_timeout_seconds": 5}
    asked = ROLES["devops"].subjects["requests"]
    reply = await connection.request(asked, json.dumps(question).encode(), timeout=5)
    say(f"devops answers: {json.loads(reply.data)['status']}")


async def a_deployment(people: Mapping[str, Client]) -> None:
    """An event is for whoever listens at that moment."""
    roles = ("backend", "frontend", "marketing")
    listeners = [await people[role].subscribe(EVENTS["deploy.complete"]) for role in roles]
    for role in roles:
        await people[role].flush()
    event = {"service": "web", "version": "2.0", "environment": "staging", "timestamp": now()}
    await people["devops"].publish(EVENTS["deploy.complete"], json.dumps(event).encode())
    for role, listener in zip(roles, listeners, strict=True):
        deployed = json.loads((await listener.next_msg(timeout=5)).data)
        say(f"{role} hears of {deployed['service']} {deployed['version']}")


async def a_dead_letter(
    people: Mapping[str, Client], heard: asyncio.Queue[str], stumbling: Stumbling, server: Server
) -> None:
    """Three failures are enough for the server; a person mends what was wrong, and replays it."""
    task = assignment("backend", "t-poison", "Parse the file that nobody can parse")
    await publish(people["ceo"].jetstream(), *task)
    reader = CONSUMERS["dead_letter_alerts"]
    alerts = await people["alerts"].jetstream().pull_subscribe_bind(reader.name, stream=reader.stream)
    (alert,) = await alerts.fetch(1, timeout=30)
    await alert.ack_sync()
    letters = json.loads(await command(server, "dlq", "list"))["dead_letters"]
    say(f"{letters[0]['role']} has a dead letter after {letters[0]['deliveries']} deliveries")
    stumbling.mended = True
    await command(server, "dlq", "replay", str(letters[0]["number"]))
    await until(heard, "t-poison is completed")


async def command(server: Server, *verb: str) -> str:
    """Return what `cyborg-infra` prints as JSON, for the operator."""
    line = (*verb, str(MANIFEST), *server.options("operator"), "--format", "json")
    done = await asyncio.to_thread(cyborg_infra, *line)
    return done.stdout


def cyborg_infra(*words: str) -> subprocess.CompletedProcess[str]:
    """Return the command line, which has to succeed."""
    line = [sys.executable, "-m", "cyborg_infra", *words]
    return subprocess.run(line, capture_output=True, text=True, check=True)


async def until(heard: asyncio.Queue[str], news: str) -> None:
    """Return when this has been heard; everything that was heard before is told."""
    async with asyncio.timeout(30):
        while (last := await heard.get()) != news:
            say(last)
        say(last)


def say(text: str) -> None:
    """One line of the story."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def now() -> str:
    """RFC 3339, UTC."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def main() -> None:
    """Applies the manifest and lets the organisation work."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server")
    url = parser.parse_args().server
    if url:
        live_on(Server(url))
        return
    from cyborg_infra.operations import provision

    with tempfile.TemporaryDirectory() as store:
        keys, config = Path(store, "keys"), Path(store, "agents.conf")
        cyborg_infra("auth", "keys", str(MANIFEST), "--dir", str(keys))
        cyborg_infra("auth", "config", str(MANIFEST), "--keys", str(keys), "--out", str(config))
        with provision.embedded_server(Path(store), config=config.read_text(encoding="utf-8")) as server:
            live_on(Server(server.url, keys))


def live_on(server: Server) -> None:
    """One day on this server."""
    cyborg_infra("apply", str(MANIFEST), *server.options("writer"), "--yes")
    asyncio.run(story(server))


if __name__ == "__main__":
    main()
