"""Publish a message to its stream, and say where it is stored."""

from __future__ import annotations

from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.errors import NoReply, NoResponders
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import MESSAGE_ID
from cyborg_infra.model.outgoing import OutgoingMessage, SendResult
from cyborg_infra.model.problems import Problem, SendRefused, ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.wording import Command, worded

AGAIN = "send it again: within the stream's duplicate_window (2m by default) it is stored once"


async def publish(server: JetStream, message: OutgoingMessage) -> SendResult:
    """Publish a message, and return once its stream, and no other, has stored it.

    Raises:
        SendRefused: the stream takes no more (10077); the message is not stored.
        ServerFault: the stream is not there, or another one has the subject; or, for NoReply and ConnectionLost,
            the message may be stored all the same.
    """
    headers = ((MESSAGE_ID, message.id),)
    doing = f"sending to {message.subject}"
    try:
        answer = await server.publish_to(
            message.subject, message.data, headers, doing=doing, stream=message.stream.stream
        )
    except NoResponders:
        raise ServerFault(
            Problem(
                "no-stream",
                f"{doing}: no stream stores this subject",
                None,
                worded("{} makes it", Command("apply")),
            )
        ) from None
    except NoReply as fault:
        raise ServerFault(Problem("no-reply", fault.problems[0].message, None, AGAIN)) from None
    except ApiError as error:
        if error.err_code != ErrorCode.JSStreamStoreFailedF:
            raise
        raise SendRefused(full_stream_problem(message.stream, error)) from None
    return SendResult(message, answer["seq"], bool(answer.get("duplicate")))


def full_stream_problem(stream: Ref, error: ApiError) -> Problem:
    """Return the problem that a full stream has refused a message, which is not stored."""
    said = f"{stream} takes no more: {error.description} (err_code {ErrorCode.JSStreamStoreFailedF})"
    hint = worded("wait until some are done; `{}` shows what keeps its place", Command("status"))
    return Problem("over-limit", said, None, hint)
