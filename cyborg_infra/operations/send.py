"""Send messages to a role or to all roles: check them, enforce the limit, store each once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex

from cyborg_infra.core.desired.settings import enforces_admission
from cyborg_infra.core.operate import outgoing as core
from cyborg_infra.core.operate.assignment import check_sender, check_senders
from cyborg_infra.live.api.jetstream import JetStream, connect_account
from cyborg_infra.live.api.publish import publish as store
from cyborg_infra.live.connection.target import Target
from cyborg_infra.manifest import messages
from cyborg_infra.manifest.load import load
from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.organisation import LAG, Org
from cyborg_infra.model.outgoing import Destination, NewTask, OutgoingMessage, SendResult
from cyborg_infra.model.problems import CyborgError, Problem, ServerFault, UsageInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource
from cyborg_infra.model.wording import Command, worded
from cyborg_infra.operations.event_loop import run_coroutine
from cyborg_infra.operations.expected_server import OnServer, require_expected_server
from cyborg_infra.operations.status import require_role


@dataclass(frozen=True, slots=True)
class SendRequest:
    """What shall be sent to whom."""

    org: Org
    channel: Destination
    role: str
    messages: tuple[OutgoingMessage, ...]


def load_send_request(
    path: str,
    env: str | None,
    channel: Destination,
    role: str,
    source: str | NewTask,
    kind: MessageKind | None = None,
    sender: str | None = None,
) -> SendRequest:
    """Return the messages of a file, of standard input if it is `-`, or one new task, ready to be sent. Needs no server.

    `sender` is the role that sends; without one it is somebody outside of the organisation.
    Raises ManifestInvalid, UsageInvalid for an unknown role, MessageInvalid for what cannot be sent so, SendRefused for
    a sender that may not send it.
    """
    org = load(path, env)
    if channel is Destination.GROUP_BROADCAST:
        _require_group(org, role)
    elif channel is not Destination.BROADCAST:
        require_role(org, role)
    if sender is not None:
        require_role(org, sender)
        check_sender(org, sender, channel, role)
    if isinstance(source, NewTask):
        found = messages.check_messages(_task_from_options(source, role), OPTIONS, kind)
    else:
        found = messages.load_message_file(source, kind)
    check_senders(org, found)
    return SendRequest(org, channel, role, tuple(core.prepare_messages(org, channel, role, found)))


def _require_group(org: Org, name: str) -> None:
    """Raise UsageInvalid unless the organisation has this group."""
    names = [group.name for group in org.groups]
    if name not in names:
        hint = f"groups: {', '.join(names[:12])}" if names else "name it under groups"
        raise UsageInvalid(Problem("unknown-group", f"{name!r} is no group of {org.name}", None, hint))


OPTIONS = "<options>"
"""Where a task that is worded on the command line is said to stand."""


def _task_from_options(task: NewTask, role: str) -> str:
    """Return the task's JSON: assigned now, by this machine's clock."""
    now = datetime.now(UTC)
    document = {
        "task_id": task.task_id or f"task-{now:%Y%m%d}-{token_hex(6)}",
        "type": task.type,
        "title": task.title,
        "description": task.description,
        "assigned_by": task.assigned_by,
        "assigned_to": role,
        "priority": task.priority,
        "lifecycle": {"status": "assigned", "assigned_at": now.isoformat(timespec="seconds")},
    }
    return json.dumps(document | ({"context": dict(task.context)} if task.context else {}))


def send(
    post: SendRequest, target: Target, on_server: OnServer, *, over_limit: bool = False, dry_run: bool = False
) -> list[SendResult]:
    """Send the messages, and return one result each, in order; `on_server` hears of the server before. After the first that fails nothing more is sent.

    A dry run sends nothing and has sequence 0 for all. Raises SendRefused, with nothing sent, if more would wait for
    the role than `alerts.lag`, unless `over_limit` or its stream itself counts what is unfinished; and ServerFault if
    what has to store them is not there.
    """

    async def sent() -> list[SendResult]:
        async with connect_account(target) as server:
            await require_expected_server(server, post.org, on_server)
            await _refuse_if_unfit(server)
            results = [SendResult(message) for message in post.messages]
            for position, message in enumerate(() if dry_run else post.messages):
                try:
                    results[position] = await store(server, message)
                except CyborgError as error:
                    if len(results) == 1:
                        raise
                    results[position] = SendResult(message, problem=error.problems[0])
                    break
            return results

    async def _refuse_if_unfit(server: JetStream) -> None:
        stream = await _require_resource(server, post.messages[0].stream)
        reader = core.queue_consumer(post.org, post.channel, post.role)
        if reader is None:
            return
        found = await _require_resource(server, reader)
        if not (over_limit or enforces_admission(stream)):
            most = post.org.alerts.of(LAG, post.role, core.CHANNELS[post.channel])
            core.refuse_over_limit(post.role, found, len(post.messages), most)

    return run_coroutine(sent())


async def _require_resource(server: JetStream, ref: Ref) -> LiveResource:
    """Raise ServerFault if the resource is not on the server."""
    if (found := await server.info(ref)) is None:
        raise ServerFault(
            Problem(
                "no-stream",
                f"{ref} is not on the server",
                None,
                worded(
                    "{} creates it; if an apply is replacing it now, try again afterwards", Command("apply")
                ),
            )
        )
    return found
