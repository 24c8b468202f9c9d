"""The monitor's page in a real browser, beside a real server: it says what `status` says, to whoever looks, and harms nobody."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.judges import registry
from tests.judges.conftest import RunJudge
from tests.support.agents import TASK, fetch, nack, nothing_comes, publish, term, until
from tests.support.cli import run_process
from tests.support.monitor import RunningMonitor, alarm, value
from tests.support.nats_client import Api

MARKUP = '<img src=x onerror="document.title=1"> {{7*7}} \'"&amp; \u202egpj.exe \x07'
VISIBLE = '<img src=x onerror="document.title=1"> {{7*7}} \'"&amp; \\u202egpj.exe \\x07'
"""What one sees of it: what would deceive an eye is written out."""

MANIFEST = """\
org: genbrain
roles:
  ceo:
  cto: {reports_to: ceo, assigns: [cso], description: '<img src=x onerror="document.title=1"> {{7*7}}'}
  cso: {reports_to: ceo, assigns: [engineering]}
  marketing: {reports_to: ceo}
  backend: {reports_to: cto}
  frontend: {reports_to: cto}
  devops: {reports_to: cto}
groups: {engineering: [backend, frontend, devops]}
consumers: {worker: {max_deliver: 1}}
alerts: {lag: 3, broadcast_ack: 1s}
"""


def task(title: str) -> bytes:
    return json.dumps(TASK | {"task_id": title, "title": title}).encode()


class Watched(NamedTuple):
    """A living organisation in trouble, and the monitor that watches it."""

    server: EmbeddedServer
    api: Api
    monitor: RunningMonitor
    directory: Path

    def json(self, *command: str) -> Any:
        """Return what a command prints as JSON."""
        ended = run_process(*command, "--server", self.server.url, "--format", "json", cwd=self.directory)
        assert ended.code == 0, ended
        return ended.json


@pytest.fixture
def watched(server: EmbeddedServer, tmp_path: Path) -> Iterator[Watched]:
    (tmp_path / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    assert run_process("apply", "--yes", "--server", server.url, cwd=tmp_path).code == 0
    with Api(server.url) as api:
        for number in range(5):
            publish(api, "genbrain.agents.backend.tasks", task(f"task {number}"))
        publish(api, "genbrain.agents.frontend.tasks", task("in flight"))
        fetch(api, "AGENT_FRONTEND_TASKS/frontend-worker")
        publish(api, "genbrain.agents.ceo.inbox", b"{}")
        publish(api, "genbrain.agents.cto.tasks", task(MARKUP))
        term(api, "AGENT_CTO_TASKS/cto-worker", VISIBLE)
        publish(api, "genbrain.agents.devops.tasks", task("Deploy"))
        nack(api, "AGENT_DEVOPS_TASKS/devops-worker", 1)
        nothing_comes(api, "AGENT_DEVOPS_TASKS/devops-worker")
        publish(api, "genbrain.org.broadcasts", b"{}")
        with RunningMonitor("--server", server.url, cwd=tmp_path) as monitor:
            monitor.until(
                lambda found: (
                    value(found, "dead_letters") == 2
                    and alarm(found, "broadcast-ack")
                    and alarm(found, "drift") == 0
                )
            )
            yield Watched(server, api, monitor, tmp_path)


def look(node: RunJudge, monitor: RunningMonitor, *mode: str | Path) -> Any:
    """Return what the browser tells."""
    registry.install(registry.named("chromium"))
    axe = registry.install(registry.named("axe-core")).parent / "axe-core" / "axe.min.js"
    chromium = shutil.which("chromium")
    assert chromium
    ended = node("monitor.mjs", chromium, monitor.url, axe, *mode)
    assert ended.returncode == 0, ended.stdout
    return json.loads(ended.stdout)


def without_ages(text: str) -> str:
    """Return a text without the durations in it: they differ from one look to the next."""
    return re.sub(r"\b\d+(d|h|m|s)(\d+(h|m|s))?\b", "AGE", text)


def test_it_says_what_status_says_on_every_screen(node: RunJudge, watched: Watched) -> None:
    """No console error, nothing fetched, no violation of axe's, no sideways scrolling; by keyboard, and without scripts."""
    told = look(node, watched.monitor, "look")
    status, letters = watched.json("status"), watched.json("dlq", "list")["dead_letters"]
    assert told["found"] == []
    assert told["rules"] > 20
    shown = told["shown"]
    for name, page in (*shown.items(), ("without scripts", told["without"])):
        assert page["images"] == 0
        assert page["title"] == f"({len(status['alarms'])}) genbrain"
        if name.startswith("/?"):
            continue  # a part of it
        assert {
            (row["role"], row["queue"], row["state"], row["waiting"], row["in_flight"], row["workers"])
            for row in page["queues"]
        } == {
            (
                role["name"],
                queue["channel"],
                queue["state"],
                *(str(queue[each]) for each in ("waiting", "in_flight", "workers")),
            )
            for role in status["roles"]
            for position, queue in enumerate(role["queues"])
            if not position or queue["state"] != "idle"
        }
        assert sorted(without_ages(said) for group in page["alarms"] for said in group["said"]) == sorted(
            without_ages(each["message"]) for each in status["alarms"]
        )
        assert {group["code"].split()[0] for group in page["alarms"]} == {
            each["code"] for each in status["alarms"]
        }
        assert [each["number"] for each in page["letters"]] == sorted(
            (each["number"] for each in letters), reverse=True
        )
        (broadcast,) = status["broadcasts"]
        assert len(page["broadcasts"]) == 1
        assert f"acknowledged by 0 of {len(broadcast['open'])}" in page["broadcasts"][0]
        assert page["chart"] == [["backend", "5"]]
    by_role = {each["said"].split()[0]: each["said"] for each in shown["/ 375 light"]["letters"]}
    assert by_role["cto"].count(VISIBLE) == 3  # title, reason, task id
    assert "cyborg-infra dlq replay" in by_role["devops"]
    assert "<img src=x onerror" in shown["/?role=cto 375 light"]["all"]
    assert [each["role"] for each in shown["/?role=cto 375 light"]["queues"]] == ["cto", "cto"]
    reach, reached = told["keyboard"]
    assert reached == reach
    assert [each["key"] for each in told["again"]["queues"]] == [
        each["key"] for each in told["without"]["queues"]
    ]


def test_a_browser_asks_for_the_token_and_hears_of_readings(
    node: RunJudge, server: EmbeddedServer, tmp_path: Path
) -> None:
    (tmp_path / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    (tmp_path / "token").write_text("correct-horse\n", encoding="utf-8")
    assert run_process("apply", "--yes", "--server", server.url, cwd=tmp_path).code == 0
    with RunningMonitor("--server", server.url, "--token-file", "token", cwd=tmp_path) as monitor:
        told = look(node, monitor, "token", "correct-horse")
    assert (told["found"], told["shown"]["verdict"]) == ([], "Nothing is above a threshold")


def test_it_changes_by_itself_and_shows_nothing_that_is_not_known(
    node: RunJudge, watched: Watched, tmp_path: Path
) -> None:
    """A dead letter appears without a reload, where one reads; then the server is gone, and then the monitor."""
    ready = tmp_path / "ready"
    with ThreadPoolExecutor(1) as beside:
        looking = beside.submit(look, node, watched.monitor, "live", ready)

        def wait_for(word: str) -> None:
            until(lambda: looking.done() or (ready.exists() and ready.read_text(encoding="utf-8") == word))

        wait_for("opened")
        publish(watched.api, "genbrain.agents.marketing.tasks", task("arrives"))
        term(watched.api, "AGENT_MARKETING_TASKS/marketing-worker", "too late")
        wait_for("arrived")
        watched.server.kill()
        wait_for("unreadable")
        watched.monitor.end()
        told = looking.result(timeout=120)
    assert told["found"] == []
    newest = told["arrived"]["letters"][0]
    assert re.match(r"marketing arrives terminated by an agent: too late task arrives ", newest["said"])
    assert told["marked_as_new"] == [newest["number"]]
    assert told["announced"] == "The server cannot be read"
    gone = told["unreadable"]
    assert (gone["queues"], gone["letters"], gone["broadcasts"], gone["chart"]) == ([], [], [], [])
    assert re.search(r"Nothing is known since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", gone["all"])
    assert told["away"].startswith("This is old: the monitor has not been heard of for ")
