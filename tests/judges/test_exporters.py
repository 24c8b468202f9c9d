"""The exporters of NATS really emit what our rules ask, of a real server; and the rules fire of what they emit.

Neither exporter is in a registry of packages: BENCH_PROVIDER_DIR names the directory with built ones.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyborg_infra.export.alerts import EXPORTER, SURVEYOR
from tests.judges.conftest import RunJudge, built
from tests.judges.test_exports import EMITTED, fires
from tests.support.cli import Cli
from tests.support.exports import exported
from tests.support.nats_client import Api
from tests.support.ports import free_port
from tests.support.servers import StartServer

MANIFEST = """
org: acme
roles: {cto: {}, backend: {}}
alerts: {lag: 2, dead_letters: {count: 1}}
key_value: {drafts: {max_bytes: 1MB}}
"""
ACCOUNTS = """
accounts {
  SYS { users: [{user: sys, password: sys}] }
  ACME { jetstream: enabled, users: [{user: acme, password: acme}] }
}
system_account: SYS
"""
FAMILIES = re.compile(r"^((?:jetstream|nats)_(?:consumer|stream)_\w+\{[^}]*\}) (\S+)$", re.MULTILINE)
PATIENCE_SECONDS, PAUSE_SECONDS = 60, 0.5
Scrape = Callable[..., str]


@pytest.fixture
def scrape() -> Iterator[Scrape]:
    """Yield what starts an exporter on a port, and returns what it says once it tells of consumers."""
    started: list[subprocess.Popen[bytes]] = []

    def run(name: str, port: int, *options: str) -> str:
        line = [str(built(name)), "-a", "127.0.0.1", "-p", str(port), *options]
        started.append(subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        text = ""
        for _ in range(int(PATIENCE_SECONDS / PAUSE_SECONDS)):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                    text = answer.read().decode()
            except (urllib.error.URLError, ConnectionError):
                text = ""
            if "_consumer_num_pending{" in text:
                return text
            time.sleep(PAUSE_SECONDS)
        pytest.fail(f"{name} tells of no consumer:\n{text[-2000:]}")

    yield run
    for process in started:
        process.terminate()
        process.wait()


@pytest.mark.parametrize(
    ("metrics", "name"), [(EXPORTER, "prometheus-nats-exporter"), (SURVEYOR, "nats-surveyor")]
)
def test_rules_fire_of_what_the_real_exporter_says_of_a_real_server(
    metrics: str,
    name: str,
    cli: Cli,
    project: Path,
    start_server: StartServer,
    scrape: Scrape,
    judge: RunJudge,
) -> None:
    built(name)
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    monitoring = free_port()
    server = start_server(config=f"http: 127.0.0.1:{monitoring}\n{ACCOUNTS}")
    login = ("--server", server.url, "--user", "acme", "--password", "acme")
    assert cli("apply", "--yes", *login).code == 0
    with Api(server.url.replace("://", "://acme:acme@")) as api:
        for number in range(3):
            api.publish("acme.agents.backend.tasks", b"task %d" % number)
        api.publish("acme.org.deadletter", b"given up")
        api.flush()
    options = {
        EXPORTER: ("-jsz=all", f"http://127.0.0.1:{monitoring}"),
        SURVEYOR: (
            "--servers",
            server.url,
            "--user",
            "sys",
            "--password",
            "sys",
            "--jsz",
            "all",
            "--count",
            "1",
        ),
    }[metrics]
    told = dict(FAMILIES.findall(scrape(name, free_port(), *options)))

    emitted = {each.partition("{")[0].split("_", 2)[2] for each in told}
    recorded = {metric for kind in EMITTED[metrics].values() for metric in kind["metrics"]}
    assert emitted <= recorded
    assert recorded - emitted <= {"last_ack_seconds", "last_delivery_seconds"}  # nothing was delivered
    rules = project / "alerts.yaml"
    rules.write_text(exported("alerts", MANIFEST, metrics=metrics).files["alerts.yaml"], encoding="utf-8")
    series = [{"series": each, "values": f"{float(value):.0f}x120"} for each, value in told.items()]
    expected = [
        fires("CyborgInfraLag", "5m", 1),
        fires("CyborgInfraNoWorker", "100m", 1),  # nobody has pulled for longer than its ack_wait
        fires("CyborgInfraDeadLetters", "5m", 1),
        fires("CyborgInfraMissing", "100m", 0),  # all consumers are seen
        fires("CyborgInfraNearLimit", "100m", 0),
    ]
    tests = {"interval": "1m", "input_series": series, "promql_expr_test": expected}
    (project / "tests.yaml").write_text(
        json.dumps({"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": [tests]})
    )
    fired = judge("promtool", "test", "rules", project / "tests.yaml", cwd=project)
    assert fired.returncode == 0, fired.stdout
