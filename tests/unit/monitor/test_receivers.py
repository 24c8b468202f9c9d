"""A receiver's URL is a secret: whatever goes wrong, it is in no error, log or output; and what is told arrives as it is."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyborg_infra.model.notification_settings import ReceiverSource
from cyborg_infra.model.notifications import Message, NotificationKind
from cyborg_infra.model.problems import UsageInvalid
from cyborg_infra.monitor.receivers import MAX_ANSWER_BYTES, NotTaken, Receiver
from cyborg_infra.operations.notifications import load_receivers
from tests.support.cli import Cli
from tests.support.ports import free_port
from tests.support.webhook import HANG, webhook

SECRET = "s3cr3t-t0ken"
MESSAGE = Message("7f00", "acme: cto: lag", "body <b>&amp; *so*\nid: 7f00", NotificationKind.FAILURE)


def refusal(url: str) -> str:
    """Return why it was not taken, with its traceback."""
    with pytest.raises(NotTaken) as refused:
        asyncio.run(Receiver("oncall", url).deliver(MESSAGE))
    return "".join(traceback.format_exception(refused.value))


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Yield what is logged by anybody, at any level, wherever the process logs to."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    root.addHandler(handler)
    level, root.level = root.level, logging.DEBUG
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


def test_a_message_arrives_as_it_is_with_its_id() -> None:
    with webhook() as hook:
        asyncio.run(Receiver("oncall", hook.url).deliver(MESSAGE))
        (taken,) = hook.taken
        assert taken == ("7f00", MESSAGE.title, MESSAGE.body, "failure")


def test_a_url_is_in_no_log_and_no_error_whatever_a_receiver_does(
    logged: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    with webhook() as hook:
        secret = hook.url.replace("json://", f"json://operator:{SECRET}@")
        url = f"{secret}{SECRET}?+Authorization={SECRET}&-token={SECRET}&:token={SECRET}&rto=0.3"
        asyncio.run(Receiver("oncall", url).deliver(MESSAGE))
        reasons = []
        for behaviour in ((0, 500), (0, 403), (1, 200), (0, 302)):
            hook.behaves = lambda behaviour=behaviour: behaviour  # type: ignore[misc]
            reasons.append(refusal(url))
    reasons.append(refusal(f"json://operator:{SECRET}@127.0.0.1:{free_port()}/{SECRET}"))
    reasons.append(refusal(f"jsons://operator:{SECRET}@127.0.0.1:{free_port()}/{SECRET}"))
    port = free_port()
    reasons += [
        refusal(other)
        for other in (
            f"mailto://operator:{SECRET}@b.example:{port}?smtp=127.0.0.1&to=a@b.example",
            f"gotify://127.0.0.1:{port}/{SECRET}",
            f"ntfy://operator:{SECRET}@127.0.0.1:{port}/{SECRET}",
        )
    ]
    assert "it answered 500" in reasons[0]
    assert "it answered 403" in reasons[1]
    assert SECRET not in "".join(reasons)
    assert SECRET not in logged.getvalue()
    assert SECRET not in "".join(capfd.readouterr())
    assert SECRET not in repr(Receiver("oncall", url))


def test_an_answer_that_does_not_end_is_read_no_further_than_anybody_needs() -> None:
    """It took the memory of the machine."""
    sent = 0

    def answer(listening: socket.socket) -> None:
        nonlocal sent
        client, _ = listening.accept()
        with client, contextlib.suppress(OSError):
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while sent < 100 * MAX_ANSWER_BYTES:
                sent += client.send(b"x" * 65536)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        url = f"json://127.0.0.1:{listening.getsockname()[1]}/"
        asyncio.run(Receiver("oncall", url).deliver(MESSAGE))
        thread.join()
    assert sent < 20 * MAX_ANSWER_BYTES  # what is on its way counts


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_receiver_that_sends_elsewhere_has_taken_nothing(status: int) -> None:
    """What http:// answers where https:// was meant: the message was left behind, and the page there answered 200."""
    with webhook() as elsewhere, webhook() as hook:
        hook.behaves, hook.location = lambda: (0, status), f"http://127.0.0.1:{elsewhere.port}/"
        assert f"it answered {status}" in refusal(hook.url)
        assert elsewhere.requests == 0
        if status in (307, 308):  # which send the message along, where the URL asks for that
            asyncio.run(Receiver("oncall", f"{hook.url}?redirect=yes").deliver(MESSAGE))
            assert len(elsewhere.taken) == 1


@pytest.mark.parametrize(
    "url",
    [
        f"nosuch://{SECRET}",
        f"slack://{SECRET}",
        f"json://{SECRET}:notaport/",
        f"{SECRET}",
        f"pagerduty://{SECRET}",
        f"mailto://{SECRET}",
        "://",
    ],
)
def test_a_url_that_apprise_does_not_take_is_named_and_not_shown(
    url: str, logged: io.StringIO, cli: Cli
) -> None:
    with pytest.raises(UsageInvalid) as refused:
        Receiver("oncall", url)
    (problem,) = refused.value.problems
    assert problem.message == "the URL of the receiver oncall is none that Apprise knows"
    ended = cli("monitor", "--notify", f"oncall={url}")
    assert ended.code == 1
    assert SECRET not in ended.err + ended.out + logged.getvalue() + str(refused.value)


def test_a_delivery_that_hangs_is_left_alone_and_not_more_than_three_are() -> None:
    async def reasons(receiver: Receiver) -> list[str]:
        found = []
        for _ in range(4):
            with pytest.raises(NotTaken) as refused:
                await receiver.deliver(MESSAGE)
            found.append(str(refused.value))
        return found

    with webhook() as hook:
        hook.behaves = lambda: HANG
        found = asyncio.run(reasons(Receiver("oncall", f"{hook.url}?rto=600", seconds=0.2)))
    assert found == ["no answer within 0.2s"] * 3 + ["earlier deliveries to it still hang"]


@pytest.mark.parametrize(
    "given", [f"env:slack://a/{SECRET}", f"file:slack://a/{SECRET}", f"file:slack:{SECRET}://"]
)
def test_a_url_in_the_place_of_a_variable_or_a_file_is_not_shown(given: str, cli: Cli) -> None:
    ended = cli("monitor", "--notify", given)
    assert (ended.code, ended.out, SECRET in ended.err) == (1, "", False)
    assert "receiver notify-1: a URL is no environment variable and no file" in ended.err


def test_receivers_are_tried_by_a_message_each_without_a_server(cli: Cli, project: Path) -> None:
    none = cli("monitor", "--try-receivers")
    assert (none.code, "there are no receivers" in none.err) == (1, True)
    with webhook() as good, webhook() as failing:
        failing.behaves = lambda: (0, 404)
        (project / "ops").write_text(f"{failing.url}{SECRET}\n", encoding="utf-8")
        manifest = f"org: acme\nroles: [cto]\nalerts: {{notify: [{{name: oncall, url: '{good.url}'}}, {{file: ops}}]}}\n"
        (project / "org.yaml").write_text(manifest, encoding="utf-8")
        tried = cli("monitor", "--try-receivers")
        assert (tried.code, tried.out) == (1, "oncall: delivered\nops: not delivered: it answered 404\n")
        assert (good.taken[0].title, good.taken[0].kind) == ("acme: a trial", "success")
        assert cli("monitor", "--try-receivers", "--notify", good.url).out == "notify-1: delivered\n"


def test_a_receiver_without_a_url_is_named_with_its_place(project: Path) -> None:
    (project / "two").write_text(f"json://{SECRET}\njson://b", encoding="utf-8")
    sources = [
        ReceiverSource("a", env="NOT_SET"),
        ReceiverSource("b", file="none"),
        ReceiverSource("c", file="two"),
        ReceiverSource("d", env="GOOD"),
        ReceiverSource("d", url="json://127.0.0.1"),
    ]
    with pytest.raises(UsageInvalid) as refused:
        load_receivers(sources, {"GOOD": f"json://127.0.0.1/{SECRET}\n"})
    assert [problem.message for problem in refused.value.problems] == [
        "receiver a: the environment variable NOT_SET is not set, or empty",
        "receiver b: the file none cannot be read: No such file or directory",
        "receiver c: the file two has more than one URL",
        "two receivers are called d",
    ]
