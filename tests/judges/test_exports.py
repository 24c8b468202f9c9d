"""What is exported is what the other tool takes, strictly: by its own program, its own parser, or its own schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from cyborg_infra.export.alerts import EXPORTER, OURS, SURVEYOR
from cyborg_infra.live.embedded import EmbeddedServer
from tests.judges import registry
from tests.judges.conftest import RunJudge
from tests.support.cli import Cli
from tests.support.exports import exported

MANIFEST = """
org: acme
roles:
  ceo: {}
  cto: {reports_to: ceo, scaling: {max: 3}, tasks: {admission: {max_pending: 5}}, alerts: {lag: 9}}
  backend: {reports_to: cto, scaling: {min: 1, max: 9}, worker: {backoff: [1m, 5m], max_deliver: 3}}
groups: {heads: [ceo, cto]}
events: {deploy.complete: {durable: true, publishers: [cto], subscribers: [backend, cto]}, ci.result: {publishers: [cto]}}
channels: {group_broadcasts: true, huddle: {of: group}, control: {of: role, durable: true, publishers: [cto]}, meetings: {of: org, subject: "meetings.*", readers: [ceo]}}
streams: {inboxes: {compression: s2, consumer_limits: {max_ack_pending: 100}, metadata: {team: platform}}}
alerts: {dead_letters: {count: 2, within: 1h}}
task_state: true
key_value: {drafts: {history: 3, max_bytes: 10MB}}
"""
EMITTED = json.loads((Path(__file__).parents[1] / "cases/exporters.json").read_bytes())
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
RULES = "example/prometheus-operator-crd/*_prometheusrules.yaml"
NACK, KEDA = "github.com/nats-io/nack@v0.23.0", "github.com/kedacore/keda/v2@v2.21.0"


@pytest.fixture
def acme(project: Path) -> Path:
    """Return the working directory, with the manifest of these tests."""
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    return project


def test_the_nats_cli_makes_the_organisation_and_a_plan_has_nothing_to_do(
    cli: Cli, acme: Path, server: EmbeddedServer
) -> None:
    assert cli("export", "nats", "--out", "exported").code == 0
    programs = registry.install(registry.named("nats"))
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "NATS_URL": server.url,
        "HOME": str(acme),
    }
    made = subprocess.run(
        ["sh", "exported/add.sh"],  # noqa: S607 - a shell is wherever it is
        cwd=acme,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "No changes." in cli("plan", "--server", server.url).out
    # And what the CLI says of each is read back as the same organisation.
    (acme / "told").mkdir()
    for path in sorted(acme.glob("exported/streams/*.json")) + sorted(
        acme.glob("exported/consumers/*/*.json")
    ):
        words = (
            ("stream", path.stem)
            if path.parent.name == "streams"
            else ("consumer", path.parent.name, path.stem)
        )
        line = ("nats", words[0], "info", *words[1:], "--json")
        told = subprocess.run(line, env=environment, capture_output=True, text=True, check=True, cwd=acme)
        (acme / "told" / f"{'.'.join(words)}.json").write_text(told.stdout, encoding="utf-8")
    read = ("--from", "nats", "told", "--org", "acme", "--naming", "org.yaml")
    imported = cli("import", *read, "--out", "again.yaml")
    assert (imported.code, "Note:" in imported.err) == (0, False), imported.err
    assert "No changes." in cli("plan", "again.yaml", "--server", server.url).out


def test_terraform_s_parser_reads_the_resources_and_would_write_them_alike(
    acme: Path, judge: RunJudge
) -> None:
    file = acme / "jetstream.tf"
    file.write_text(exported("terraform", MANIFEST, server="nats://nats:4222").files["jetstream.tf"])
    assert judge("hclfmt", "-require-no-change", file).returncode == 0
    assert judge("hclfmt", "-check", file).returncode == 0


@pytest.mark.parametrize(
    ("name", "settings", "module", "files"),
    [
        (
            "nack",
            {"namespace": "agents", "account": "acme", "servers": "nats://a,nats://b"},
            NACK,
            "deploy/crds.yml",
        ),
        ("nack", {"buckets": "KeyValue"}, NACK, "deploy/crds.yml"),
        ("keda", {}, KEDA, "config/crd/bases/keda.sh_scaled*.yaml"),
        ("keda", {"queues": "tasks,inbox"}, KEDA, "config/crd/bases/keda.sh_scaled*.yaml"),
        ("alerts", {"kind": "PrometheusRule"}, OPERATOR, RULES),
        ("alerts", {"kind": "PrometheusRule", "metrics": SURVEYOR}, OPERATOR, RULES),
        ("keda", {"kind": "ScaledJob", "image": "a/b:1"}, KEDA, "config/crd/bases/keda.sh_scaled*.yaml"),
    ],
)
def test_kubernetes_objects_fit_their_definitions_to_the_last_field(
    name: str, settings: dict[str, str], module: str, files: str
) -> None:
    schemas = {key: found for path in go_module(module).glob(files) for key, found in definitions(path)}
    (text,) = exported(name, MANIFEST, **settings).files.values()
    objects = list(yaml.safe_load_all(text))
    assert objects
    for found in objects:
        validator = Draft202012Validator(schemas[found["apiVersion"], found["kind"]])
        assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(found)] == []


def go_module(name: str) -> Path:
    """Return the folder of a Go module, fetched by Go itself."""
    told = subprocess.run(
        ["go", "mod", "download", "-json", name],  # noqa: S607 - as `registry` does
        capture_output=True,
        text=True,
        check=True,
        cwd=registry.PROGRAMS,
    )
    return Path(json.loads(told.stdout)["Dir"])


def definitions(path: Path) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield each kind's schema, in which what is not defined is refused, as an API server would drop it."""
    for crd in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if crd:
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                # Every object's.
                schema["properties"] |= dict.fromkeys(("apiVersion", "kind", "metadata"), True)
                yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), schema


def strict(schema: Any) -> Any:
    """Return the schema without room for what it does not define; metadata is Kubernetes' own."""
    match schema:
        case {"properties": dict(properties), **rest}:
            closed = (
                {}
                if {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & rest.keys()
                else {"additionalProperties": False}
            )
            kept = {key: value if key == "metadata" else strict(value) for key, value in properties.items()}
            return {**{key: strict(value) for key, value in rest.items()}, "properties": kept, **closed}
        case dict():
            return {key: strict(value) for key, value in schema.items()}
        case list():
            return [strict(each) for each in schema]
    return schema


@pytest.mark.parametrize("metrics", [OURS, EXPORTER, SURVEYOR])
def test_prometheus_takes_the_rules_and_they_fire_where_they_should(
    acme: Path, judge: RunJudge, metrics: str
) -> None:
    rules = acme / "alerts.yaml"
    rules.write_text(exported("alerts", MANIFEST, metrics=metrics).files["alerts.yaml"], encoding="utf-8")
    checked = judge("promtool", "check", "rules", rules)
    assert (checked.returncode, "FAILED" in checked.stdout) == (0, False), checked.stdout
    tests = acme / "tests.yaml"
    tests.write_text(json.dumps(RULE_TESTS[metrics]), encoding="utf-8")
    fired = judge("promtool", "test", "rules", tests, cwd=acme)
    assert fired.returncode == 0, fired.stdout


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{inner}}}", "values": values}


def fires(alert: str, at: str, number: int) -> dict[str, Any]:
    """Return what promtool asks of one alert: how many of it fire at this time."""
    return {
        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
        "eval_time": at,
        "exp_samples": [{"labels": "{}", "value": number}],
    }


def replicas(name: str, recorded: list[str], values: str, others: str, **labels: str) -> list[dict[str, str]]:
    """Return what is told of one thing by two servers: by its leader, and by one whose numbers are others."""
    other = dict.fromkeys(recorded, "")
    told = (("s1", values), ("s2", others))
    return [series(name, numbers, **(other | {"server_name": server} | labels)) for server, numbers in told]


def exporter_tests(tool: str, prefix: str, stream: str) -> dict[str, Any]:
    """Return the same story for both exporters: four tasks too many wait, and nobody pulls.

    A replica that does not lead says 0 of what waits and of who pulls, which was recorded on a cluster of 2.15.1.
    """
    labels = {kind: found["labels"] for kind, found in EMITTED[tool].items()}
    consumer = {stream: "AGENT_BACKEND_TASKS", "consumer_name": "backend-worker"}
    letters = {stream: "DEAD_LETTERS"}
    return {
        "rule_files": ["alerts.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    *replicas(
                        f"{prefix}_consumer_num_pending", labels["consumer"], "9x200", "0x200", **consumer
                    ),
                    *replicas(
                        f"{prefix}_consumer_num_ack_pending", labels["consumer"], "0x200", "0x200", **consumer
                    ),
                    *replicas(
                        f"{prefix}_consumer_num_waiting", labels["consumer"], "0x200", "0x200", **consumer
                    ),
                    *replicas(
                        f"{prefix}_stream_last_seq", labels["stream"], "5x70 8x130", "5x71 8x129", **letters
                    ),
                ],
                "promql_expr_test": [
                    fires("CyborgInfraLag", "5m", 1),
                    fires("CyborgInfraNoWorker", "10m", 1),  # its ack_wait is a minute
                    fires("CyborgInfraDeadLetters", "65m", 0),
                    fires("CyborgInfraDeadLetters", "80m", 1),  # three within the hour
                    fires("CyborgInfraDeadLetters", "180m", 0),
                    fires("CyborgInfraMissing", "10m", 1),  # only one of all consumers is watched
                    fires("CyborgInfraNearLimit", "10m", 0),
                ],
            }
        ],
    }


RULE_TESTS = {
    OURS: {
        "rule_files": ["alerts.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    series("cyborg_infra_alarms", "0x5 2x5 0x30", org="acme", code="lag"),
                    series("cyborg_infra_alarms", "1x40", org="another", code="stuck"),
                    series("cyborg_infra_alarms", "0x5 1x35", org="acme", code="drift"),
                    series("cyborg_infra_alarms", "0x40", org="acme", code="unreadable"),
                    series("cyborg_infra_reading_age_seconds", "0+60x40", org="acme"),
                    series("node_textfile_mtime_seconds", "60x40", file="/var/lib/node_exporter/acme.prom"),
                ],
                "promql_expr_test": [
                    fires("CyborgInfraLag", "3m", 0),
                    fires("CyborgInfraLag", "9m", 1),
                    fires("CyborgInfraStuck", "9m", 0),
                    fires("CyborgInfraStatusStale", "5m", 0),
                    fires("CyborgInfraStatusStale", "20m", 1),
                    fires("CyborgInfraStatusMissing", "30m", 0),
                    fires("CyborgInfraDrift", "4m", 0),
                    fires("CyborgInfraDrift", "9m", 1),
                    fires("CyborgInfraUnreadable", "30m", 0),
                    fires("CyborgInfraMonitorStale", "9m", 0),
                    fires("CyborgInfraMonitorStale", "20m", 1),
                ],
            },
            {  # a monitor that nobody can reach any more
                "interval": "1m",
                "input_series": [
                    series("cyborg_infra_alarms", "0x5 _x40", org="acme", code="drift"),
                    series("cyborg_infra_reading_age_seconds", "9x5 _x40", org="acme"),
                ],
                "promql_expr_test": [
                    fires("CyborgInfraStatusMissing", "5m", 0),
                    fires("CyborgInfraStatusMissing", "30m", 1),
                ],
            },
        ],
    },
    EXPORTER: exporter_tests(EXPORTER, "jetstream", "stream_name"),
    SURVEYOR: exporter_tests(SURVEYOR, "nats", "stream"),
}


def test_grafana_s_own_types_take_the_dashboard_and_prometheus_its_expressions(
    acme: Path, judge: RunJudge
) -> None:
    text = exported("dashboard", MANIFEST).files["dashboard.json"]
    place = registry.install(registry.named("@grafana/schema")).parents[1]  # where its types are found
    begin = 'import type { Dashboard } from "@grafana/schema";\nexport const board: Dashboard = '
    line = (
        "--strict",
        "--noEmit",
        "--skipLibCheck",
        "--module",
        "nodenext",
        "--moduleResolution",
        "nodenext",
    )
    for written, errors in ((text, 0), (text.replace('"gridPos"', '"gridpos"', 1), 1)):
        (place / "dashboard.ts").write_text(f"{begin}{written};\n", encoding="utf-8")
        ended = judge("tsc", *line, "dashboard.ts", cwd=place)
        assert ended.stdout.count("error TS") == errors, ended.stdout
    asked = [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    recorded = [{"record": f"asked:{n}", "expr": expr.replace("$role", ".*")} for n, expr in enumerate(asked)]
    (acme / "asked.yaml").write_text(json.dumps({"groups": [{"name": "asked", "rules": recorded}]}))
    checked = judge("promtool", "check", "rules", acme / "asked.yaml")
    assert (checked.returncode, f"{len(asked)} rules found" in checked.stdout) == (0, True), checked.stdout


def test_asyncapi_s_own_parser_has_neither_errors_nor_warnings(acme: Path, node: RunJudge) -> None:
    file = acme / "asyncapi.yaml"
    file.write_text(exported("asyncapi", MANIFEST).files["asyncapi.yaml"], encoding="utf-8")
    ended = node("asyncapi.mjs", file)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_backstage_takes_the_entities(acme: Path, node: RunJudge) -> None:
    file = acme / "entities.json"
    text = exported("backstage", MANIFEST).files["catalog-info.yaml"]
    file.write_text(json.dumps(list(yaml.safe_load_all(text))), encoding="utf-8")
    ended = node("backstage.mjs", file)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_tsc_takes_the_module_and_refuses_a_wrong_name(acme: Path, judge: RunJudge) -> None:
    (acme / "messaging.ts").write_text(
        exported("typescript", MANIFEST).files["messaging.ts"], encoding="utf-8"
    )
    good = 'import { ROLES, EVENTS, GROUPS, type Task } from "./messaging";\n'
    good += 'const worker: string = ROLES.cto.consumers.worker.name;\nconst event: string = EVENTS["ci.result"];\n'
    good += 'const priority: Task["priority"] = "high";\nexport { worker, event, priority };\n'
    good += "export const members: readonly (keyof typeof ROLES)[] = GROUPS.heads.members;\n"
    (acme / "agent.ts").write_text(good)
    line = ("--strict", "--noEmit", "--module", "nodenext", "--moduleResolution", "nodenext", "agent.ts")
    ended = judge("tsc", *line, cwd=acme)
    assert ended.returncode == 0, ended.stdout
    (acme / "agent.ts").write_text(good.replace("ROLES.cto", "ROLES.ctoo").replace('"high"', '"urgent"'))
    refused = judge("tsc", *line, cwd=acme)
    assert refused.stdout.count("error TS") == 2, refused.stdout
    # Of an organisation without groups and events no name is right.
    bare = exported("typescript", "org: acme\nroles: [cto]\n").files["messaging.ts"]
    (acme / "messaging.ts").write_text(bare, encoding="utf-8")
    names = ("GroupName", "GroupChannel", "EventName", "Bucket")
    lines = [f'export const of{name}: {name} = "x";' for name in names]
    (acme / "agent.ts").write_text(
        "\n".join([f'import type {{ {", ".join(names)} }} from "./messaging";', *lines])
    )
    refused = judge("tsc", *line, cwd=acme)
    assert refused.stdout.count("error TS") == len(names), refused.stdout


def test_mypy_takes_the_module_and_refuses_a_wrong_name(acme: Path) -> None:
    (acme / "messaging.py").write_text(exported("python", MANIFEST).files["messaging.py"], encoding="utf-8")
    good = (
        "from messaging import EVENTS, GROUPS, ROLES\n"
        'print(ROLES["cto"].consumers["worker"].name, EVENTS["ci.result"])\n'
        'print([ROLES[name].inbox_prefix for name in GROUPS["heads"].members])\n'
    )
    for text, errors in ((good, 0), (good.replace('"cto"', '"ctoo"').replace("ci.result", "ci.results"), 2)):
        (acme / "agent.py").write_text(text, encoding="utf-8")
        ended = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--config-file=", "agent.py"],
            cwd=acme,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.stdout.count(": error: ") == errors, ended.stdout


def test_mermaid_and_graphviz_draw_the_organisation(
    cli: Cli, acme: Path, judge: RunJudge, node: RunJudge
) -> None:
    for name in ("mermaid", "dot"):
        (acme / name).write_text(cli("show", "--format", name).out, encoding="utf-8")
    parsed = node("mermaid.mjs", acme / "mermaid")
    assert parsed.returncode == 0, parsed.stdout
    assert parsed.stdout.startswith("flowchart")
    drawn = judge("dot", "-Tsvg", acme / "dot")
    assert drawn.returncode == 0, drawn.stdout
    assert "</svg>" in drawn.stdout
