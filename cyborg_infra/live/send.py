"""Publishes messages through JetStream, one after the other, and says where each is stored. Decides on nothing."""

from __future__ import annotations

from cyborg_infra.live.faults import ApiError, NoReply, NoResponders
from cyborg_infra.live.jetstream import JetStream
from cyborg_infra.model.fields import MESSAGE_ID
from cyborg_infra.model.outgoing import Outgoing, Sent
from cyborg_infra.model.problems import Problem, SendRefused, ServerFault
from cyborg_infra.model.state import Ref

FULL = 10077
AGAIN = "send it again: within the stream's duplicate_window (2m by default) it is stored once"


async def send(server: JetStream, message: Outgoing) -> Sent:
    """The message is in its stream, and nowhere else, when this returns.

    Raises:
        SendRefused: the stream takes no more (10077); the message is not stored.
        ServerFault: the stream is not there, or another one has the subject; or, for NoReply and ConnectionLost,
            the message may be stored all the same.
    """
    headers = ((MESSAGE_ID, message.id),)
    doing = f"sending to {message.subject}"
    try:
        answer = await server.store(
            message.subject, message.data, headers, doing=doing, stream=message.stream.stream
        )
    except NoResponders:
        raise ServerFault(
            Problem(
                "no-stream", f"{doing}: no stream stores this subject", None, "cyborg-infra apply makes it"
            )
        ) from None
    except NoReply as fault:
        raise ServerFault(Problem("no-reply", fault.problems[0].message, None, AGAIN)) from None
    except ApiError as error:
        if error.err_code != FULL:
            raise
        raise SendRefused(takes_no_more(message.stream, error)) from None
    return Sent(message, answer["seq"], bool(answer.get("duplicate")))


def takes_no_more(stream: Ref, error: ApiError) -> Problem:
    """A stream that is full has refused a message: it is not stored."""
    said = f"{stream} takes no more: {error.description} (err_code {FULL})"
    hint = "wait until some are done; `cyborg-infra status` shows what keeps its place"
    return Problem("over-limit", said, None, hint)
