"""The claims of accounts as servers in operator mode hold them: read, and pushed, by a user of the system account.

Every server with a resolver of type `full` answers for itself (measured, 2.10.26 and 2.15.1): who asks collects answers until
all servers have spoken. A server stores what is pushed without asking who has signed it, and then goes on with what it had;
so that whoever pushes has to know that the operator has signed. A resolver in memory answers to nothing of this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import orjson

from cyborg_infra.live import timing
from cyborg_infra.live.connection.errors import NoReply, NoResponders, PermissionDenied
from cyborg_infra.live.connection.reconnecting import ReconnectingConnection, open_connection
from cyborg_infra.live.connection.target import Target
from cyborg_infra.model.auth_plan import LiveClaims
from cyborg_infra.model.claims import MAX_TOKEN_BYTES, Claims, NoClaims, decode
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.wording import Option, worded

_PING = "$SYS.REQ.SERVER.PING"
_LOOKUP = "$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP"
_UPDATE = "$SYS.REQ.CLAIMS.UPDATE"
_CONNECTIONS = "$SYS.REQ.SERVER.PING.CONNZ"
_SETTINGS = "$SYS.REQ.SERVER.PING.VARZ"
_MOST_CONNECTIONS = 1_000_000  # of one server; 1,024 if it is not told
_NOBODY = b"NATS/1.0 503"


class Resolver:
    """The servers that hold the claims of accounts, by way of a connection as a user of the system account."""

    def __init__(self, connection: ReconnectingConnection, expected: int, timeout: float) -> None:
        self._connection = connection
        self._expected = expected  # servers that there are
        self._timeout = timeout

    async def read(self, account: str) -> LiveClaims:
        """Return the claims of an account, the newest of all that servers hold. `account` is its public key.

        Raises ServerFault where no server has any, or none can be asked.
        """
        tokens = await self._tokens(account)
        found = sorted((decode(token) for token in tokens), key=_issued)
        newest = found[-1]
        operators, connections = await asyncio.gather(self._operators(), self._count_connections(account))
        return LiveClaims(
            newest,
            self._connection.url,
            servers=len(found),
            expected=max(self._expected, len(found)),
            behind=sum(claims != newest for claims in found),
            connections=connections,
            most_bytes=min(self._connection.max_payload, MAX_TOKEN_BYTES),
            operators=operators,
        )

    async def push(self, account: str, token: str) -> None:
        """Have every server take the claims, and read them back. Raises ServerFault unless all that answer hold them."""
        answers = await self._required_answers(_UPDATE, token.encode())
        refused = dict(_refusals(answers))
        if refused:
            raise ServerFault(
                *(
                    Problem("push-refused", f"server {server} did not take the claims: {why}")
                    for server, why in refused.items()
                )
            )
        held: list[str] = []
        for pause in (0.0, *timing.CLAIMS_BACKOFF_SECONDS):
            await asyncio.sleep(pause)
            held = await self._tokens(account)
            if len(held) >= len(answers) and set(held) == {token}:
                return
        others = sum(each != token for each in held)
        raise ServerFault(
            Problem(
                "not-held",
                f"the claims were pushed, and {others} of {len(held)} servers, read back, hold others",
                None,
                "somebody pushed at the same time: plan again",
            )
        )

    async def _tokens(self, account: str) -> list[str]:
        """Return what each server holds of an account. Raises ServerFault where that is nothing."""
        answers = await self._required_answers(_LOOKUP.format(account), b"")
        tokens = [answer.decode(errors="replace") for answer in answers if answer]
        if not tokens:
            raise ServerFault(
                Problem(
                    "no-such-account",
                    f"no server has claims of the account {account}",
                    None,
                    worded(
                        "push them once with what made the account, such as `nsc push`, or check {}",
                        Option("account"),
                    ),
                )
            )
        try:
            for token in tokens:
                decode(token)
        except NoClaims as error:
            raise ServerFault(
                Problem("no-claims", f"what a server holds of {account} cannot be used: {error}")
            ) from None
        return tokens

    async def _operators(self) -> tuple[Claims, ...]:
        """Return the claims of the operators that the servers trust, of those that tell."""
        found: list[Claims] = []
        for answer in await self._answers(_SETTINGS, b""):
            for claims in _data(answer).get("trusted_operators_claim") or ():
                if isinstance(claims, dict) and claims not in found:
                    found.append(claims)
        return tuple(found)

    async def _count_connections(self, account: str) -> Mapping[str, int] | None:
        """Return how many connections of an account each signing key has let in; None unless every server tells."""
        body = {"auth": True, "acc": account, "limit": _MOST_CONNECTIONS}
        answers = await self._answers(_CONNECTIONS, orjson.dumps(body))
        if len(answers) < self._expected:
            return None
        return Counter(
            row.get("issuer_key", "")
            for answer in answers
            for row in _data(answer).get("connections") or ()
            if isinstance(row, dict)
        )

    async def _required_answers(self, subject: str, payload: bytes) -> list[bytes]:
        """Return as `_answers`. Raises ServerFault if nobody answers, PermissionDenied if this user may not ask."""
        answers = await self._answers(subject, payload)
        if answers:
            return answers
        try:
            return [await self._connection.request(subject, payload)]  # which says what is denied
        except (NoResponders, NoReply):
            raise ServerFault(_NO_FULL_RESOLVER) from None

    async def _answers(self, subject: str, payload: bytes) -> list[bytes]:
        """Return the answers of all servers, or of those that answer in time; an empty list if nobody listens."""
        loop = asyncio.get_running_loop()
        heard: list[bytes] = []
        complete: asyncio.Future[None] = loop.create_future()

        def hear(_subject: str, _reply: str, answer: bytes, headers: bytes) -> None:
            nobody = headers.startswith(_NOBODY)
            if not nobody:
                heard.append(answer)
            if not complete.done() and (nobody or len(heard) >= self._expected):
                complete.set_result(None)

        await self._connection.ensure_connected()
        reply_to = self._connection.inbox()
        end = await self._connection.subscribe(reply_to, hear)
        try:
            await self._connection.send(subject, payload, reply_to)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await complete
        finally:
            await end()
        return heard


@contextlib.asynccontextmanager
async def connect_resolver(target: Target) -> AsyncIterator[Resolver]:
    """Yield the servers' resolver. Raises ConnectFailed, and ServerFault for a user who is not of the system account."""
    async with open_connection(target) as connection:
        try:
            answer = await connection.request(_PING)
        except (NoResponders, NoReply, PermissionDenied):
            raise ServerFault(
                Problem(
                    "no-system-user",
                    worded(
                        "{} is no user of the system account, or the server is not in operator mode",
                        target.described,
                    ),
                    None,
                    worded(
                        "log in as one: the claims of accounts are the system account's, for example with {}",
                        Option("creds", "sys.creds"),
                    ),
                )
            ) from None
        stats = _object(answer).get("statsz")
        servers = stats.get("active_servers", 1) if isinstance(stats, dict) else 1
        yield Resolver(connection, servers if isinstance(servers, int) else 1, target.timeout)


_NO_FULL_RESOLVER = Problem(
    "no-resolver",
    "no server takes or tells claims: its resolver is not of type full",
    None,
    worded(
        "configure `resolver: {type: full, dir: ./jwt}`; of claims in its configuration file give the token with {}",
        Option("claims", "FILE"),
    ),
)


def _issued(claims: Claims) -> float:
    issued = claims.get("iat")
    return issued if isinstance(issued, int | float) else 0


def _refusals(answers: list[bytes]) -> Iterator[tuple[str, str]]:
    """Yield each server that has not taken the claims, and why."""
    for answer in map(_object, answers):
        error, server = answer.get("error"), answer.get("server")
        if error is not None or _member(answer, "data").get("code") != _OK:
            name = server.get("name", "") if isinstance(server, dict) else ""
            yield (
                str(name),
                str(error.get("description", "")) if isinstance(error, dict) else "no reason given",
            )


_OK = 200


def _data(answer: bytes) -> dict[str, Any]:
    return _member(_object(answer), "data")


def _member(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _object(answer: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(answer)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
