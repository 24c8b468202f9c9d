"""What the monitor serves is judged by Prometheus itself, in both formats, of an organisation that has something of everything."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.judges.conftest import RunJudge
from tests.judges.registry import ROOT
from tests.support.agents import publish, term
from tests.support.monitor import OPEN_METRICS, RunningMonitor, value
from tests.support.scenario import Scenario

MANIFEST = (
    "org: acme\nroles: [cto, backend]\ngroups: {all: [cto, backend]}\nkey_value: {drafts: {max_bytes: 1MB}}\n"
)


@pytest.mark.parametrize("accept", ["text/plain", OPEN_METRICS])
def test_promtool_finds_nothing_wrong_with_the_metrics(
    server: EmbeddedServer, project: Path, tmp_path: Path, judge: RunJudge, accept: str
) -> None:
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    with Scenario(server.url, tmp_path) as scene:
        scene.converge(MANIFEST)
        for _ in range(9):
            publish(scene.api, "acme.agents.cto.tasks", b"{}")
        publish(scene.api, "acme.org.broadcasts", b"{}")
        term(scene.api, "AGENT_CTO_TASKS/cto-worker", 'a reason with "quotes"')
        with RunningMonitor("--server", server.url, "--no-context", cwd=project) as monitor:
            monitor.until(lambda now: value(now, "up") == 1 and value(now, "plan_hazards") is not None)
            answer = monitor.get("/metrics", {"Accept": accept})
    assert answer.content_type.startswith(accept.partition(";")[0])
    ended = judge("promtool", "check", "metrics", text=answer.text)
    # It reads the text format alone, in which a counter's help is under the name of its samples, and not of its family.
    counters = set(re.findall(r"^(\w+_total)\{", answer.text, re.MULTILINE)) if accept == OPEN_METRICS else ()
    assert {*ended.stdout.splitlines()} == {f"{name} no help text" for name in counters}


def test_systemd_takes_the_unit_and_finds_it_closed(judge: RunJudge, tmp_path: Path) -> None:
    """Its program is wherever this one is; 2.0 is where systemd calls a service protected well."""
    text = (ROOT / "deploy/systemd/cyborg-infra-monitor.service").read_text(encoding="utf-8")
    unit = tmp_path / "cyborg-infra-monitor.service"
    ours = Path(sys.executable).with_name("cyborg-infra")
    unit.write_text(text.replace("/opt/cyborg-infra/bin/cyborg-infra", str(ours)), encoding="utf-8")
    verified = judge("systemd-analyze", "verify", unit)
    assert (verified.returncode, verified.stdout) == (0, "")
    assert judge("systemd-analyze", "security", "--offline=true", "--threshold=20", unit).returncode == 0
