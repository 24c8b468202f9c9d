"""An open connection: every request ends with its reply or, at once, with the reason why not."""

# ruff: noqa: S106 - passwords of the tests' own servers
from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cyborg_infra.live.connection.errors import (
    ConnectionLost,
    NoReply,
    NoResponders,
    PermissionDenied,
    TooLarge,
)
from cyborg_infra.live.connection.reconnecting import open_connection
from cyborg_infra.live.connection.target import Target
from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.attempts import both, fault
from tests.support.nats_client import Api
from tests.support.servers import StartServer

LONG = 60.0  # seconds; a test that waits for it has failed


def users(permissions: str) -> str:
    """Return a server's configuration with one user."""
    return f"authorization {{ users: [ {{ user: bob, password: x, permissions: {{ {permissions} }} }} ] }}"


def bob(server: EmbeddedServer, inbox_prefix: str = "_INBOX") -> Target:
    return Target(urls=(server.url,), user="bob", password="x", timeout=LONG, inbox_prefix=inbox_prefix)


def test_it_knows_the_server(any_server: EmbeddedServer) -> None:
    async def look() -> None:
        with Api(any_server.url) as api:
            info = api.info
        async with open_connection(Target(urls=(any_server.url,), timeout=LONG)) as connection:
            assert connection.server_version == info["version"]
            assert connection.server_name == info["server_name"]
            assert connection.max_payload == info["max_payload"]
            assert (connection.url, connection.cluster, connection.headers) == (any_server.url, "", True)
            assert (await connection.server_identity()).account == "$G"

    asyncio.run(look())


def test_overlapping_requests_get_their_own_replies(server: EmbeddedServer, api: Api) -> None:
    names = [f"S{number}" for number in range(200)]
    for name in names:
        api.request(f"$JS.API.STREAM.CREATE.{name}", {"name": name, "subjects": [name]})

    async def ask() -> list[str]:
        async with open_connection(Target(urls=(server.url,), timeout=LONG)) as connection:
            replies = await asyncio.gather(
                *(connection.request(f"$JS.API.STREAM.INFO.{name}") for name in names)
            )
            return [json.loads(reply)["config"]["name"] for reply in replies]

    assert asyncio.run(ask()) == names


def test_replies_larger_than_max_payload_arrive(start_server: StartServer) -> None:
    server = start_server(config="max_payload: 2KB")

    async def ask() -> int:
        async with open_connection(Target(urls=(server.url,), timeout=LONG)) as connection:
            for number in range(30):
                config = {"name": f"S{number}", "subjects": [f"s{number}"], "description": "x" * 1000}
                await connection.request(f"$JS.API.STREAM.CREATE.S{number}", json.dumps(config).encode())
            return len(await connection.request("$JS.API.STREAM.LIST"))

    assert asyncio.run(ask()) > 30_000


def test_a_request_that_is_too_large_is_not_sent(start_server: StartServer) -> None:
    server = start_server(config="max_payload: 1KB")
    error = fault(Target(urls=(server.url,), timeout=LONG), "$JS.API.STREAM.CREATE.X", b"x" * 1025)
    assert isinstance(error, TooLarge)
    assert "has 1025 bytes; the server accepts 1024" in str(error)


def test_nobody_listens(server: EmbeddedServer) -> None:
    assert isinstance(fault(Target(urls=(server.url,), timeout=LONG), "nobody.here"), NoResponders)


def test_a_reply_with_a_payload_is_one_whatever_its_status(server: EmbeddedServer, api: Api) -> None:
    """Nobody listens where the status 503 comes alone."""
    asked = api.subscribe("asked")

    async def ask() -> bytes:
        async with open_connection(Target(urls=(server.url,), timeout=LONG)) as connection:
            request = asyncio.create_task(connection.request("asked"))
            reply_to = (await asyncio.to_thread(asked.next)).reply
            api.send(f"HPUB {reply_to} 16 21\r\nNATS/1.0 503\r\n\r\nreply\r\n".encode())
            return await request

    assert asyncio.run(ask()) == b"reply"


def test_no_reply_says_that_it_may_have_been_executed(server: EmbeddedServer, api: Api) -> None:
    api.subscribe("deaf")
    error = fault(Target(urls=(server.url,), timeout=LONG), "deaf", within=0.05)
    assert isinstance(error, NoReply)
    assert "no reply on deaf within 0.05s; it may have been executed" in str(error)


def test_a_reply_that_comes_too_late_reaches_nobody_else(server: EmbeddedServer, api: Api) -> None:
    asked = api.subscribe("slow")

    async def ask() -> bytes:
        async with open_connection(Target(urls=(server.url,), timeout=LONG)) as connection:
            with pytest.raises(NoReply):
                await connection.request("slow", timeout=0.05)
            api.publish(asked.next().reply, b"late")
            second = asyncio.create_task(connection.request("slow"))
            question = await asyncio.to_thread(asked.next)
            api.publish(question.reply, b"in time")
            return await second

    assert asyncio.run(ask()) == b"in time"


def test_a_reply_that_came_while_this_process_stood_still_is_in_time(
    server: EmbeddedServer, api: Api
) -> None:
    """As on a busy machine, or one that was suspended: by its own clock it is late, and it has arrived."""
    asked = api.subscribe("asked")

    async def ask() -> bytes:
        async with open_connection(Target(urls=(server.url,), timeout=LONG)) as connection:
            request = asyncio.create_task(connection.request("asked", timeout=1.0))
            question = await asyncio.to_thread(asked.next)
            api.publish(question.reply, b"reply")
            time.sleep(2)  # noqa: ASYNC251 - this process stands still
            return await request

    assert asyncio.run(ask()) == b"reply"


def test_what_a_stranger_sends_to_our_inbox_harms_nobody(server: EmbeddedServer, api: Api) -> None:
    """Not even a subject that is no text: the server takes any bytes."""
    asked = api.subscribe("asked")

    async def ask() -> bytes:
        async with open_connection(Target(urls=(server.url,), timeout=LONG)) as connection:
            request = asyncio.create_task(connection.request("asked"))
            reply_to = (await asyncio.to_thread(asked.next)).reply
            inbox = reply_to.rpartition(".")[0].encode()
            api.send(b"PUB " + inbox + b".\xff 0\r\n\r\nPUB " + inbox + b".0 3\r\nour\r\n")
            api.publish(reply_to, b"reply")
            return await request

    assert asyncio.run(ask()) == b"reply"


@pytest.mark.parametrize("name", ["Tasks", 'with"quote', "Größe"])
def test_a_denied_subject_is_named_as_it_was_asked_for_and_harms_nobody_else(
    start_server: StartServer, name: str
) -> None:
    server = start_server(config=users('publish: { deny: "$JS.API.STREAM.CREATE.>" }'))

    async def ask() -> list[bytes | BaseException]:
        async with open_connection(bob(server)) as connection:
            return await both(connection, f"$JS.API.STREAM.CREATE.{name}", "$JS.API.INFO")

    denied, info = asyncio.run(ask())
    assert isinstance(denied, PermissionDenied)
    assert f"may not publish to $JS.API.STREAM.CREATE.{name}" in str(denied)
    assert isinstance(info, bytes)


@pytest.mark.parametrize("subject", ["$JS.API.INFO", "other"])
def test_a_denied_inbox_fails_every_request_and_names_the_remedy(
    start_server: StartServer, subject: str
) -> None:
    server = start_server(config=users('subscribe: { allow: "_INBOX_bob.>" }'))
    error = fault(bob(server), subject)
    assert isinstance(error, PermissionDenied)
    assert "may not receive replies on _INBOX." in str(error)
    assert "with `inbox_prefix`" in str(error)


def test_an_inbox_prefix_serves_a_restricted_user(start_server: StartServer) -> None:
    server = start_server(config=users('subscribe: { allow: "_INBOX_bob.>" }'))

    async def ask() -> bytes:
        async with open_connection(bob(server, "_INBOX_bob")) as connection:
            return await connection.request("$JS.API.INFO")

    assert json.loads(asyncio.run(ask()))["streams"] == 0


def test_an_account_that_may_not_be_asked_for_is_unknown(start_server: StartServer) -> None:
    server = start_server(config=users('publish: { deny: "$SYS.>" }'))

    async def ask() -> str:
        async with open_connection(bob(server)) as connection:
            return (await connection.server_identity()).account

    assert asyncio.run(ask()) == ""


def test_a_killed_server_fails_what_is_under_way_at_once(server: EmbeddedServer, api: Api) -> None:
    asked = api.subscribe("deaf")

    async def ask() -> None:
        async with open_connection(Target(urls=(server.url,), timeout=LONG)) as connection:
            asking = asyncio.gather(both(connection, "deaf", "deaf"))
            await asyncio.to_thread(asked.next)
            server.kill()
            (outcomes,) = await asking
            assert [type(outcome) for outcome in outcomes] == [ConnectionLost, ConnectionLost]
            assert "may have been executed" in str(outcomes[0])
            with pytest.raises(ConnectionLost):
                await connection.request("$JS.API.INFO")

    asyncio.run(ask())


def test_a_server_that_stops_in_order_is_a_lost_connection_too(server: EmbeddedServer, api: Api) -> None:
    asked = api.subscribe("deaf")

    async def ask() -> None:
        async with open_connection(Target(urls=(server.url,), timeout=LONG)) as connection:
            asking = asyncio.create_task(connection.request("deaf"))
            await asyncio.to_thread(asked.next)
            await asyncio.to_thread(server.stop)
            with pytest.raises(ConnectionLost):
                await asking

    asyncio.run(ask())


def test_a_lost_connection_is_made_anew_to_the_same_server_and_to_no_stranger(
    start_server: StartServer,
) -> None:
    """Another server of the same cluster would do; these two are strangers to each other."""
    server, stranger = start_server(), start_server()

    async def ask() -> None:
        async with open_connection(Target(urls=(server.url, stranger.url), timeout=LONG)) as connection:
            server.kill()
            for _ in range(2):
                with pytest.raises(ConnectionLost):
                    await connection.request("$JS.API.INFO")
            server.start()
            assert json.loads(await connection.request("$JS.API.INFO"))["streams"] == 0
            assert connection.url == server.url

    asyncio.run(ask())


def test_a_stalled_server_holds_no_request_longer_than_its_timeout(server: EmbeddedServer) -> None:
    """Even with more bytes waiting than the socket takes."""

    async def ask() -> None:
        async with open_connection(Target(urls=(server.url,), timeout=LONG)) as connection:
            os.kill(server.pid, signal.SIGSTOP)
            await asyncio.to_thread(os.waitpid, server.pid, os.WUNTRACED)  # every thread of it has stopped
            payload = b"x" * connection.max_payload
            requests = (connection.request("$JS.API.INFO", payload, timeout=0.2) for _ in range(20))
            outcomes = await asyncio.gather(*requests, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {NoReply}

    asyncio.run(ask())


def test_closing_ends_what_is_under_way(server: EmbeddedServer, api: Api) -> None:
    asked = api.subscribe("deaf")

    async def ask() -> None:
        async with open_connection(Target(urls=(server.url,), timeout=LONG)) as connection:
            asking = asyncio.create_task(connection.request("deaf"))
            await asyncio.to_thread(asked.next)
        with pytest.raises(ConnectionLost):
            await asking

    asyncio.run(ask())


def test_a_cancelled_request_leaves_the_connection_usable(server: EmbeddedServer, api: Api) -> None:
    asked = api.subscribe("deaf")

    async def ask() -> bytes:
        async with open_connection(Target(urls=(server.url,), timeout=LONG)) as connection:
            asking = asyncio.create_task(connection.request("deaf"))
            await asyncio.to_thread(asked.next)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            return await connection.request("$JS.API.INFO")

    assert json.loads(asyncio.run(ask()))["streams"] == 0


SCRIPT = """
import asyncio, os, signal, sys
from cyborg_infra.live.connection.reconnecting import open_connection
from cyborg_infra.live.connection.target import Target
from cyborg_infra.model.problems import CyborgError

async def main(url, pid):
    try:
        async with open_connection(Target(urls=("nats://127.0.0.1:1",))):
            pass
    except CyborgError as error:
        print(error)
    async with open_connection(Target(urls=(url,), timeout=60)) as connection:
        asking = asyncio.gather(*(connection.request("deaf") for _ in range(9)), return_exceptions=True)
        await asyncio.sleep(0)
        os.kill(int(pid), signal.SIGKILL)
        print({type(outcome).__name__ for outcome in await asking})

asyncio.run(main(*sys.argv[1:]))
"""


def test_nothing_but_our_errors_is_ever_printed(server: EmbeddedServer, api: Api, tmp_path: Path) -> None:
    api.subscribe("deaf")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "default", str(script), server.url, str(server.pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "cannot connect to nats://127.0.0.1:1: connection refused: no server listens there",
        "{'ConnectionLost'}",
    ]
    assert done.stderr == ""
