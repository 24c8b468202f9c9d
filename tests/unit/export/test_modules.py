"""The modules of names and types, for agents in Python and TypeScript."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import HealthCheck, given

from cyborg_infra.export.formats import FORMATS
from cyborg_infra.manifest.load import loads
from tests.properties.test_import import manifests
from tests.support.draws import draws
from tests.support.exports import exported, input_of

EXAMPLES = Path(__file__).parents[3] / "examples"
MANIFEST = """
org: acme
roles: {cto: {worker: {ack_wait: 1500ms}}, data-eng: {}}
groups: {engineers: [data-eng, cto]}
channels: {class: {of: role, durable: true}, inbox: false, huddle: {of: group}}
events: {deploy.complete: {durable: true, subscribers: [cto]}, ci.result: {}}
key_value: {drafts: {}}
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    return loaded(MANIFEST, monkeypatch)


def loaded(manifest: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the generated module, imported."""
    made = ModuleType("messaging")
    monkeypatch.setitem(sys.modules, "messaging", made)
    text = exported("python", manifest).files["messaging.py"]
    exec(compile(text, "messaging.py", "exec", dont_inherit=True), made.__dict__)  # noqa: S102 - we have written it
    return made


def test_a_role_knows_what_it_is_reached_by_and_what_it_reads(module: Any) -> None:
    cto = module.ROLES["cto"]
    assert cto.inbox_prefix == "_INBOX.cto"
    assert cto.subjects == {
        "tasks": "acme.agents.cto.tasks",
        "status": "acme.agents.cto.status",
        "requests": "acme.agents.cto.requests",
        "class": "acme.agents.cto.class",
    }
    assert cto.consumers["worker"] == ("AGENT_CTO_TASKS", "cto-worker", 1.5, 3)
    assert cto.consumers["class_reader"][:2] == ("AGENT_CLASS", "cto-class-reader")
    assert "event_reader" in cto.consumers
    assert "event_reader" not in module.find_role("data-eng").consumers
    with pytest.raises(KeyError):
        module.find_role("cfo")


def test_names_of_any_characters_are_those_of_the_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = loaded('org: "a\'\'\'b\\"\\"\\"c"\nroles: ["😀", "é"]\n', monkeypatch)
    assert odd.ORG == "a'''b\"\"\"c"
    assert odd.ROLES["😀"].subjects["tasks"] == f"{odd.ORG}.agents.😀.tasks"
    assert odd.ROLES["é"].subjects["tasks"] == f"{odd.ORG}.agents.é.tasks"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_name_of_an_environment_adds_no_line(name: str) -> None:
    text = "org: acme\nroles: [cto]\nenvironments: {"
    plain, odd = (loads(f'{text}"{env}": {{}}}}', name) for env, name in (("xx", "xx"), ("x\\nx", "x\nx")))
    written = [FORMATS[name].write(input_of(name, org)).files for org in (plain, odd)]
    first, second = ([body.count("\n") for body in files.values()] for files in written)
    assert first == second


def test_what_is_of_no_role_is_there_by_its_name(module: Any) -> None:
    assert (module.ORG, module.EVERY_ROLE["status"]) == ("acme", "acme.agents.*.status")
    assert module.SUBJECTS == {"broadcasts": "acme.org.broadcasts", "dead_letters": "acme.org.deadletter"}
    assert module.CONSUMERS["dead_letter_alerts"][:2] == ("DEAD_LETTERS", "dead-letter-alerts")
    assert module.EVENTS["ci.result"] == "acme.events.ci.result"
    assert "KV_drafts" in module.STREAMS
    assert module.BUCKETS == ("drafts",)
    assert get_args(module.RoleName) == ("cto", "data-eng")
    assert module.GROUPS == {"engineers": (("data-eng", "cto"), {"huddle": "acme.groups.engineers.huddle"})}


def test_a_message_has_the_members_of_its_schema(module: Any) -> None:
    hints = get_type_hints(module.Task)
    assert get_args(hints["priority"]) == ("low", "normal", "high", "critical")
    assert "sla" in module.Task.__optional_keys__
    assert "task_id" in module.Task.__required_keys__
    assert hints["sla"].__optional_keys__ == {"ack_within_seconds", "complete_within_minutes"}
    assert get_args(module.DeadLetter) == (module.DeadLetterAdvisory, module.DeadLetterGivenUp)


def test_both_languages_have_the_same_names() -> None:
    texts = {name: "".join(exported(name, MANIFEST).files.values()) for name in ("python", "typescript")}
    subjects, consumers, types = (
        {name: set(re.findall(pattern, text)) for name, text in texts.items()}
        for pattern in (
            r'"(acme\.[^"]+)"',
            r'"([a-z-]+-(?:worker|reader|alerts))"',
            r"(?:class|interface) (\w+)",
        )
    )
    assert subjects["python"] == subjects["typescript"]
    assert consumers["python"] == consumers["typescript"]
    assert types["python"] - types["typescript"] == {"Role", "Group"}


@given(manifest=manifests())
@draws(20, ignoring=[HealthCheck.too_slow])
def test_every_organisation_has_a_module_that_parses(manifest: dict[str, Any]) -> None:
    text = exported("python", json.dumps(manifest, ensure_ascii=False)).files["messaging.py"]
    strings = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    assert set(manifest["roles"]) <= strings
