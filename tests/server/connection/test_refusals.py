"""A server that cannot be used is refused at once, in one line that says why, and with no secret in it."""

# ruff: noqa: S106 - passwords of the tests' own servers
from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyborg_infra.live.connection.errors import NoResponders
from cyborg_infra.live.connection.target import DEFAULT, Flags, Target, resolve
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.problems import ConnectFailed, CyborgError
from tests.support.attempts import account_info, fault, refusal, shown
from tests.support.nats_client import Api
from tests.support.servers import StartServer

LONG = 60.0  # seconds; far more than any of these may take


@contextlib.contextmanager
def listener(greeting: bytes | None) -> Iterator[str]:
    """Return the URL of a listener that says `greeting` and hangs up, or for None says nothing and stays."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    kept.append(client)
                    if greeting is not None:
                        client.sendall(greeting)
                        client.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"nats://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for client in kept:
            client.close()


@pytest.fixture
def dead_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"nats://127.0.0.1:{closed.getsockname()[1]}"


def test_nobody_listens(dead_url: str) -> None:
    expected = f"cannot connect to {dead_url}: connection refused: no server listens there"
    assert refusal(Target(urls=(dead_url,), timeout=LONG)) == expected


def test_nobody_listens_where_nobody_has_named_a_server(dead_url: str) -> None:
    said = refusal(Target(urls=(dead_url,), sources={"url": DEFAULT}, timeout=LONG))
    assert said == (
        f"cannot connect to {dead_url}: connection refused: no server listens there "
        "(this is the default: name the server with --server or NATS_URL, or start one with cyborg-infra dev)"
    )


def test_nobody_listens_on_any_address_of_a_name(dead_url: str) -> None:
    url = dead_url.replace("127.0.0.1", "localhost")
    assert "connection refused" in refusal(Target(urls=(url,), timeout=LONG))


def test_unknown_host() -> None:
    assert "host name is not known" in refusal(Target(urls=("nats://nowhere.invalid:4222",), timeout=LONG))


def test_mute_listener() -> None:
    with listener(None) as url:
        assert "nothing that speaks NATS answered within 0.2s" in refusal(Target(urls=(url,), timeout=0.2))


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"INFO {not json}\r\n",
        b"INFO \xff\r\n",
        b"x" * 200_000,
    ],
)
def test_something_else_than_nats(greeting: bytes) -> None:
    with listener(greeting) as url:
        assert "not a NATS server" in refusal(Target(urls=(url,), timeout=LONG))


def test_hanging_up_after_info() -> None:
    with listener(b'INFO {"version":"2.15.1","max_payload":1024}\r\n') as url:
        assert "the server closed the connection during login" in refusal(Target(urls=(url,), timeout=LONG))


def test_the_next_url_is_tried_in_order(server: EmbeddedServer, dead_url: str) -> None:
    assert account_info(Target(urls=(dead_url, server.url), timeout=LONG))["streams"] == 0


def test_all_reasons_are_told_if_no_url_works(dead_url: str, start_server: StartServer) -> None:
    guarded = start_server(config="authorization { token: x }").url
    with pytest.raises(ConnectFailed) as caught:
        account_info(Target(urls=(dead_url, guarded), token="y", timeout=LONG))
    first, second = (str(problem) for problem in caught.value.problems)
    assert dead_url in first
    assert "connection refused" in first
    assert guarded in second
    assert "login refused (token)" in second


def test_a_server_that_is_full_says_so(start_server: StartServer) -> None:
    url = start_server(config="max_connections: 1").url
    with Api(url):
        # Whether the server's own words arrive before its reset is a race that we cannot win.
        text = refusal(Target(urls=(url,), timeout=LONG))
        assert "maximum connections exceeded" in text or "take no more connections" in text


def test_without_jetstream_on_the_server_nobody_answers(start_server: StartServer) -> None:
    error = fault(Target(urls=(start_server(jetstream=False).url,), timeout=LONG), "$JS.API.INFO")
    assert isinstance(error, NoResponders)
    assert "the server has no JetStream" in str(error)


MARKER = "m4rk3r"


def _wrong_logins(url: str, folder: Path) -> Iterator[tuple[Flags, dict[str, str]]]:
    host = url.removeprefix("nats://")
    (folder / "nats" / "context").mkdir(parents=True)
    context = folder / "nats" / "context" / "c.json"
    context.write_text(f'{{"url": "nats://u:{MARKER}@{host}"}}')
    broken = folder / "broken.json"
    broken.write_text(f'{{"password": "{MARKER}" "token": 1}}')
    creds = folder / "x.creds"
    creds.write_text(
        f"-----BEGIN NATS USER JWT-----\n{MARKER}\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{MARKER}\n------END USER NKEY SEED------\n"
    )
    yield Flags(server=url, user="bob", password=MARKER), {}
    yield Flags(server=url, user=MARKER), {}
    yield Flags(server=url, token=MARKER), {}
    yield Flags(server=url, jwt=MARKER, seed=MARKER), {}
    yield Flags(server=url, jwt=MARKER), {}
    yield Flags(server=url, creds=str(creds)), {}
    yield Flags(server=f"nats://bob:{MARKER}@{host}"), {}
    yield Flags(server=f"nats://{MARKER}@{host}"), {}
    yield Flags(server=f"tls://bob:{MARKER}@{host}"), {}
    yield Flags(server=f"http://bob:{MARKER}@{host}"), {}
    yield Flags(server=f"nats://bob:{MARKER}@{host}:x:y"), {}
    yield Flags(server=f"nats://bob:{MARKER}/,{MARKER}@{host}"), {}
    yield Flags(server=f"nats://bob:{MARKER}\u2100@{host}"), {}
    yield Flags(server=f"nats://bob:{MARKER}@[{host}"), {}
    yield Flags(server=f"nats://a:{MARKER}@{host},nats://b:{MARKER}@{host}"), {}
    yield Flags(server=url), {"NATS_USER": "bob", "NATS_PASSWORD": MARKER}
    yield Flags(), {"NATS_URL": f"nats://bob:{MARKER}@{host}", "NATS_TOKEN": MARKER}
    yield Flags(context="c"), {"XDG_CONFIG_HOME": str(folder)}
    yield Flags(context=str(broken)), {}


def test_no_secret_shows_anywhere(start_server: StartServer, tmp_path: Path) -> None:
    url = start_server(config="authorization { user: bob, password: other }").url
    for flags, environ in _wrong_logins(url, tmp_path):
        texts = [repr(flags)]
        try:
            target = resolve(flags, environ)
            texts += [repr(target), str(target), target.described, target.login, repr(target.sources)]
            texts += target.warnings
            account_info(target)
        except CyborgError as error:
            texts.append(shown(error))
        else:
            pytest.fail("a wrong login was accepted")
        assert MARKER not in "\n".join(texts)
