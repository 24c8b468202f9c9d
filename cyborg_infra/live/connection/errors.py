"""Errors of a connection: no answer, no permission, no server, no TLS. No text has a secret in it."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl

from cyborg_infra.live.connection.target import Target
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.wording import Option, worded


class Unanswered(ServerFault):
    """Nobody answered. Once a server is there again, asking again can help: after reading what was executed."""


class NoReply(Unanswered):
    """No answer in time. The request may have been executed all the same: read before deciding to retry."""

    def __init__(self, subject: str, seconds: float) -> None:
        self.subject = subject
        super().__init__(
            Problem(
                "no-reply",
                f"no reply on {subject} within {seconds:g}s; it may have been executed all the same",
                hint=worded(
                    "raise {}, or check that the server knows this request and the user may receive replies",
                    Option("timeout"),
                ),
            )
        )


class NoResponders(Unanswered):
    """Nobody listens on the subject: for the JetStream API, no server with JetStream is reachable."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(
            Problem(
                "no-responders",
                f"nobody answers on {subject}: the server has no JetStream, or not under this domain or API prefix",
                hint=worded(
                    "enable jetstream in the server's configuration, or check {} and {}",
                    Option("js_domain"),
                    Option("js_api_prefix"),
                ),
            )
        )


class ConnectionLost(Unanswered):
    """The connection ended. What was under way may have been executed."""

    def __init__(self, url: str, reason: str = "") -> None:
        because = f" ({reason})" if reason else ""
        super().__init__(
            Problem(
                "connection-lost",
                f"lost the connection to {url}{because}; what was under way may have been executed all the same",
            )
        )


class PermissionDenied(ServerFault):
    """The user may not publish to the subject, or not receive replies on it."""

    def __init__(self, subject: str, *, receiving: bool = False, asked: str = "") -> None:
        """Say that `subject` is denied; `asked` is what was published to, where the server knows it by another name."""
        self.subject = subject
        what = "receive replies on" if receiving else "publish to"
        hint = (
            worded("give an inbox that the user may subscribe to, with {}", Option("inbox_prefix"))
            if receiving
            else "let the account's administrator allow it, or use other credentials"
        )
        if asked and asked != subject:
            hint = f"{asked} is what a server of the domain itself knows as {subject}: allow that one"
        super().__init__(
            Problem("permission-denied", f"permission denied: this user may not {what} {subject}", hint=hint)
        )


class TooLarge(ServerFault):
    """The request is larger than the server accepts; it was not sent."""

    def __init__(self, subject: str, size: int, limit: int) -> None:
        self.subject = subject
        super().__init__(
            Problem("too-large", f"the request on {subject} has {size} bytes; the server accepts {limit}")
        )


class PlaintextOnly(Exception):
    """TLS is wanted and the server offers none; raised before credentials are sent."""


class NotNats(Exception):
    """What the server says of itself is no INFO of a NATS server; the text says why."""


class ClosedDuringLogin(Exception):
    """The server closed the connection without a word when we logged in."""


def why_not_connected(error: BaseException, target: Target) -> str:
    """Return one line on why a connection attempt failed; says how the login was tried, never a secret."""
    if isinstance(error, PlaintextOnly):
        return "TLS is wanted, but the server offers none; nothing was sent"
    if isinstance(error, NotNats):
        return f"not a NATS server that we know: its INFO does not fit: {error}"
    if isinstance(error, ClosedDuringLogin | ConnectionResetError | BrokenPipeError):
        return _why_closed(target)
    if isinstance(error, ssl.SSLError):
        return _why_tls_failed(error)
    if isinstance(error, TimeoutError):
        guess = "does the server speak first, without {}?" if target.tls_first else "does it want {}?"
        guess = worded(guess, Option("tlsfirst"))
        said = "nothing that speaks NATS answered within {}s (a firewall, another service; {})"
        return worded(said, f"{target.timeout:g}", guess)
    if isinstance(error, OSError):
        return _why_unreachable(error)
    return _why_refused(str(error), target.login)


def _why_closed(target: Target) -> str:
    certificate = "reject the client certificate" if target.tls_cert else "want a client certificate"
    return (
        f"the server closed the connection during login ({target.login}); "
        f"does it {certificate}, or take no more connections?"
    )


def _why_unreachable(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "this host name is not known"
    # A name with several addresses gives one OSError without a number, whose text lists all reasons.
    numbers = {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))}
    if numbers == {errno.ECONNREFUSED}:
        return "connection refused: no server listens there"
    return error.strerror or "; ".join(os.strerror(number) for number in sorted(numbers)) or str(error)


def _why_tls_failed(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if "mismatch" in error.verify_message:
            return f"TLS: the server's certificate is for another name: {error.verify_message}"
        said = "TLS: the server's certificate is not trusted: {} (give its CA with {})"
        return worded(said, error.verify_message, Option("tlsca"))
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "certificate required" in reason or "handshake failure" in reason:
        return worded(
            "TLS: the server requires a client certificate ({}, {})", Option("tlscert"), Option("tlskey")
        )
    if "alert" in reason and ("certificate" in reason or "unknown ca" in reason):
        return f"TLS: the server rejects the client certificate: {reason}"
    if re.search("wrong version number|record layer failure|packet length", reason):
        said = "TLS: the server does not answer in TLS (does it speak first, without {}?)"
        return worded(said, Option("tlsfirst"))
    return f"TLS: {reason}"


def _why_refused(text: str, login: str) -> str:
    said = text.removeprefix("nats: ").strip("'")
    if "authorization" in said.lower():
        return f"login refused ({login}): {said}"
    if re.search("INFO message|json parse|chunk|codec", said, re.IGNORECASE):
        return "not a NATS server: it closed the connection or sent something else than INFO"
    return f"the server refuses the connection ({login}): {said}"
