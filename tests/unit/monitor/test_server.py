"""What the monitor serves: who may read it, where it listens, and in which formats; without a server of NATS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, build_opener, urlopen

import pytest
import trustme

from cyborg_infra.manifest.load import loads
from cyborg_infra.model.changes import Action
from cyborg_infra.model.monitor import Attempts, DriftReading, Observation
from cyborg_infra.model.organisation import Alerts
from cyborg_infra.model.problems import UsageInvalid
from cyborg_infra.model.status import (
    ALARMS,
    MONITOR_ALARMS,
    Alarm,
    Condition,
    DeadLetterSummary,
    OrgStatus,
)
from cyborg_infra.monitor.server import HttpSettings, refuse_unless_guarded, serve
from tests.support.agents import until
from tests.support.cli import COMMAND, SMALL, Cli, run_process
from tests.support.monitor import OPEN_METRICS, Answer, alarm, basic, get, samples, value
from tests.support.ports import free_port

TOKEN = "correct-horse"
STATUS = OrgStatus(
    "acme", None, None, "", Alerts(()), (), (), DeadLetterSummary(2), (), {}, {}, (Alarm(Condition.LAG, "x"),)
)
DRIFT = DriftReading(0.0, {Action.UPDATE: 3}, {Action.CREATE: 1}, 2, 1, True, 1_700_000_000.0, "0.1.0", True)
SEEN = Observation(
    "acme",
    None,
    STATUS,
    read_at=0.0,
    drift=DRIFT,
    alarms=(*STATUS.alarms, Alarm(Condition.DRIFT, 'with "quotes"\nand a \\')),
    readings=Attempts(5, 1),
)
NOTHING = Observation("acme", None)


class Fixed:
    """Observes one thing for ever."""

    org = loads(SMALL)
    interval = 15.0

    def __init__(self, observation: Observation) -> None:
        self.observation = observation

    async def changes(self) -> AsyncIterator[Observation]:
        yield self.observation
        await asyncio.Event().wait()


@contextlib.contextmanager
def served(observation: Observation, settings: HttpSettings) -> Iterator[str]:
    """Yield the URL of what is served until the end of the block."""
    urls: list[str] = []
    listening = threading.Event()
    loop = asyncio.new_event_loop()

    def heard(url: str) -> None:
        urls.append(url)
        listening.set()

    task = loop.create_task(serve(Fixed(observation), settings, heard))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert listening.wait(60)
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    with served(SEEN, HttpSettings(port=0, token=TOKEN)) as url:
        yield url


@pytest.fixture(scope="module")
def open_to_this_machine() -> Iterator[str]:
    with served(SEEN, HttpSettings(port=0)) as url:
        yield url


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer {TOKEN}"}, 200),
        (basic(TOKEN), 200),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": TOKEN}, 401),
        (basic(""), 401),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": "Basic é".encode().decode("latin-1")}, 401),
    ],
)
def test_metrics_take_the_token(guarded: str, headers: dict[str, str], code: int) -> None:
    assert get(f"{guarded}/metrics", headers).code == code


def test_each_way_to_say_the_token_is_named_in_a_header_of_its_own(guarded: str) -> None:
    """Chromium knows one in a header, and asked for no password where both were in one."""
    with pytest.raises(HTTPError) as refused:
        urlopen(f"{guarded}/", timeout=60)  # noqa: S310 - our own server's
    with refused.value as answer:
        assert [each.split()[0] for each in answer.headers.get_all("WWW-Authenticate", [])] == [
            "Basic",
            "Bearer",
        ]


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/metrics/", "//healthz", "/nowhere", "/healthz/../metrics"]
)
def test_whatever_is_not_a_probe_takes_the_token(guarded: str, path: str) -> None:
    """Also what is not there: nobody learns which paths there are."""
    assert get(guarded + path).code == 401


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:9464", 200),
        ("localhost", 200),
        ("[::1]:80", 200),
        ("127.0.0.2", 200),
        ("evil.example.org:9464", 421),
        ("localhost.evil.example.org", 421),
        ("127.0.0.1.evil.example.org", 421),
        ("evil@127.0.0.1", 200),  # no browser sends one with a user
        ("[", 421),
        ("10.0.0.1", 421),
    ],
)
def test_without_a_token_this_machine_is_asked_by_its_own_name(
    open_to_this_machine: str, host: str, code: int
) -> None:
    """A page of somebody else, whose name comes to mean 127.0.0.1 while it is open, reads nothing."""
    assert get(f"{open_to_this_machine}/metrics", {"Host": host}).code == code


def test_everybody_reads_by_any_name_if_that_was_asked_for() -> None:
    with served(SEEN, HttpSettings(port=0, anonymous=True)) as url:
        assert get(url, {"Host": "monitor.example.org"}).code == 200


def test_probes_take_none_and_tell_no_more_than_yes_or_no(guarded: str) -> None:
    assert [get(f"{guarded}/{name}") for name in ("healthz", "readyz")] == [
        Answer(200, "text/plain; charset=utf-8", "ok\n")
    ] * 2


def test_it_is_ready_once_a_reading_has_succeeded_and_as_long_as_the_newest_did() -> None:
    with served(NOTHING, HttpSettings(port=0)) as url:
        assert (get(f"{url}/healthz").code, get(f"{url}/readyz").code) == (200, 503)
        found = samples(get(f"{url}/metrics"))
    assert value(found, "up") == 0
    assert {name for name, _ in found} == {"up", "readings_total", "plans_total", "alarms"}
    assert [code.value for code in Condition if alarm(found, code) is not None] == [
        "unreadable",
        "notification",
    ]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (OPEN_METRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            f"{OPEN_METRICS};q=0.5,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
def test_each_format_has_the_same_samples(accept: str, content_type: str) -> None:
    with served(SEEN, HttpSettings(port=0)) as url:
        answer = get(f"{url}/metrics", {"Accept": accept})
    assert answer.content_type.startswith(content_type.partition(";")[0])
    found = samples(answer)
    assert value(found, "dead_letters") == 2
    assert value(found, "drift_changes", action="update") == 3
    assert value(found, "pending_changes", action="create") == 1
    assert value(found, "last_applied_timestamp_seconds") == 1_700_000_000
    assert value(found, "readings_total", result="failed") == 1
    assert {code: alarm(found, code) for code in (*ALARMS, *MONITOR_ALARMS)} == {
        code: int(code in (Condition.LAG, Condition.DRIFT)) for code in (*ALARMS, *MONITOR_ALARMS)
    }


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.com", ""])  # noqa: S104
def test_an_address_that_others_reach_takes_a_token_or_leave_by_name(host: str) -> None:
    with pytest.raises(UsageInvalid, match="there is no token"):
        refuse_unless_guarded(HttpSettings(host))
    refuse_unless_guarded(HttpSettings(host, token=TOKEN))
    refuse_unless_guarded(HttpSettings(host, anonymous=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_loopback_address_takes_none(host: str) -> None:
    refuse_unless_guarded(HttpSettings(host))


def issued(directory: Path) -> tuple[Path, Path, ssl.SSLContext]:
    """Return the files of a certificate and of its key, and how a client trusts it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = directory / "chain.pem", directory / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return chain, key, context


def test_it_serves_by_tls(tmp_path: Path) -> None:
    chain, key, context = issued(tmp_path)
    with served(NOTHING, HttpSettings(port=0, tls_cert=chain, tls_key=key)) as url:
        assert url.startswith("https://")
        with build_opener(HTTPSHandler(context=context)).open(f"{url}/healthz", timeout=60) as answer:
            assert answer.read() == b"ok\n"
    key.write_text("no key\n", encoding="utf-8")
    with (
        pytest.raises(UsageInvalid, match="the certificate and its key cannot be used"),
        served_at_once(HttpSettings(port=0, tls_cert=chain, tls_key=key)),
    ):
        pass


@contextlib.contextmanager
def served_at_once(settings: HttpSettings) -> Iterator[None]:
    """Raise what keeps it from serving."""
    asyncio.run(serve(Fixed(NOTHING), settings, lambda _: None))
    yield


def test_an_address_that_is_taken_is_one_line(guarded: str) -> None:
    port = int(guarded.rpartition(":")[2])
    with pytest.raises(UsageInvalid, match=f"cannot listen on 127.0.0.1, port {port}: "):
        asyncio.run(serve(Fixed(NOTHING), HttpSettings(port=port), lambda _: None))


def connected(url: str, sent: bytes = b"") -> socket.socket:
    """Return a connection on which this was sent."""
    host, _, port = url.rpartition("/")[2].rpartition(":")
    found = socket.create_connection((host, int(port)), timeout=60)
    found.sendall(sent)
    return found


def is_hung_up(connection: socket.socket) -> bool:
    """Return whether the other side ends it, once it says or does anything."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow:",
        b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nX-Slow:",
    ],
    ids=["silent", "slow headers", "slow body", "slow second request"],
)
def test_who_asks_for_nothing_is_hung_up_on(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the token is said: a thousand such clients left no descriptor for a message to anybody."""
    monkeypatch.setattr("cyborg_infra.monitor.server.ASK_SECONDS", 0.2)
    with served(SEEN, HttpSettings(port=0, token=TOKEN)) as url, connected(url, sent) as client:
        client.settimeout(60)
        while not is_hung_up(client):
            pass


def test_who_never_ends_the_handshake_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No client is counted before that: each held a descriptor for the minute that asyncio gives him."""
    monkeypatch.setattr("cyborg_infra.monitor.server.ASK_SECONDS", 0.2)
    chain, key, _ = issued(tmp_path)
    with served(SEEN, HttpSettings(port=0, tls_cert=chain, tls_key=key)) as url, connected(url) as client:
        client.settimeout(30)
        assert is_hung_up(client)


def test_who_comes_when_too_many_are_connected_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyborg_infra.monitor.server.MAX_CONNECTIONS", 2)
    with served(SEEN, HttpSettings(port=0)) as url, connected(url) as one, connected(url):
        with connected(url) as third:
            assert is_hung_up(third)
        one.close()
        until(lambda: _answers(url))


def test_who_is_in_the_handshake_is_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as liked to were, and each of them had a descriptor."""
    monkeypatch.setattr("cyborg_infra.monitor.server.MAX_CONNECTIONS", 2)
    chain, key, context = issued(tmp_path)
    with (
        served(SEEN, HttpSettings(port=0, tls_cert=chain, tls_key=key)) as url,
        connected(url) as one,
        connected(url),
        connected(url) as third,
    ):
        assert is_hung_up(third)
        one.close()
        until(lambda: _answers(url, context))


def _answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    opener = build_opener(*(HTTPSHandler(context=each) for each in (context,) if each))
    try:
        with opener.open(f"{url}/healthz", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_it_ends_without_a_word_while_pages_listen(caplog: pytest.LogCaptureFixture) -> None:
    """Each of them was a traceback: of a task that was cancelled."""
    with served(SEEN, HttpSettings(port=0)) as url:
        listening = [connected(url, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(3)]
        for each in listening:
            assert each.recv(12) == b"HTTP/1.1 200"
    for each in listening:
        each.close()
    assert not caplog.records


# The command line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--listen", "9464"), "is no address"),
        (("--listen", "localhost:http"), "is no address"),
        (("--listen", "localhost:70000"), "is no address"),
        (("--listen", "0.0.0.0:0"), "there is no token"),
        (("--listen", "192.0.2.1:1", "--anonymous"), "cannot listen on 192.0.2.1, port 1: Cannot assign"),
        (("--interval", "100ms"), "--interval: at least 1s"),
        (("--drift-interval", "soon"), "--drift-interval"),
        (("--tls-cert", "chain.pem"), "--tls-cert and --tls-key go together"),
        (("--token-file", "absent"), "--token-file: absent: No such file or directory"),
        (("--token-file", "empty"), "--token-file: empty has no token in it"),
        (("--token-file", "/dev/zero"), "--token-file: /dev/zero: it is a device"),
        (("--tls-cert", "pipe", "--tls-key", "empty"), "cannot be used: it is a pipe, and has to be a file"),
        (("--tls-cert", "empty", "--tls-key", "/dev/zero"), "cannot be used: it is a device"),
        (("--env", "nowhere"), "no environment nowhere"),
        (("absent.yaml",), "absent.yaml"),
    ],
)
def test_what_cannot_be_used_ends_it_at_once(
    cli: Cli, project: Path, options: tuple[str, ...], said: str
) -> None:
    """Whether or not a server answers."""
    (project / "empty").write_text("\n", encoding="utf-8")
    os.mkfifo(project / "pipe")
    ended = cli("monitor", *options, "--server", "nats://127.0.0.1:1", "--no-context")
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err


def test_without_the_extra_it_says_what_to_install(project: Path, tmp_path: Path) -> None:
    """And no other command needs it."""
    for name in ("starlette", "uvicorn", "prometheus_client", "jinja2", "apprise"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError(name={name!r})\n", encoding="utf-8")
    without = {"PYTHONPATH": str(tmp_path)}
    ended = run_process("monitor", cwd=project, env=without)
    assert (ended.code, ended.out) == (1, "")
    assert "which is not installed" in ended.err
    assert "pip install 'cyborg-infra[monitor] @ git+https://" in ended.err
    assert run_process("validate", cwd=project, env=without).code == 0
    assert run_process("monitor", "--help", cwd=project, env=without).code == 0


def test_a_log_on_a_full_disk_keeps_it_from_nothing(project: Path) -> None:
    """It is not told where it serves, and is there all the same."""
    port = free_port()
    words = ("monitor", "--server", "nats://127.0.0.1:1", "--no-context", "--listen", f"127.0.0.1:{port}")
    with (
        Path("/dev/full").open("w", encoding="utf-8") as full,
        subprocess.Popen([*COMMAND, *words], cwd=project, stderr=full) as process,
    ):
        try:
            until(lambda: process.poll() is not None or _answers(f"http://127.0.0.1:{port}"))
        finally:
            process.terminate()
    assert process.returncode == 0
