"""The `nats` CLI works as each identity from the context that `auth config` wrote, and as nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.judges.conftest import RunJudge
from tests.support.cli import Cli
from tests.support.ports import free_port
from tests.support.servers import StartServer

MANIFEST = """
org: acme
roles: {ceo: {}, cto: {reports_to: ceo}, cso: {reports_to: ceo}}
events: {deploy.complete: {durable: true, publishers: [cto], subscribers: [ceo]}}
task_state: true
"""
DONE = (
    ("ceo", "pub acme.agents.cto.tasks task-1", "Published"),
    ("ceo", "pub --jetstream acme.agents.cto.tasks task-2", "AGENT_CTO_TASKS Sequence: 2"),
    ("cto", "consumer next AGENT_CTO_TASKS cto-worker --ack --raw", "task-1"),
    ("cto", "consumer info AGENT_CTO_TASKS cto-worker", "Outstanding Acks: 0"),
    ("cto", "pub acme.agents.cso.inbox hello", "Published"),
    ("cso", "consumer next AGENT_INBOXES cso-inbox-reader --ack --raw", "hello"),
    ("cto", "pub acme.events.deploy.complete done", "Published"),
    ("ceo", "consumer next ORG_EVENTS ceo-event-reader --ack --raw", "done"),
    ("cto", "request --raw acme.org.broadcasts policy", "ORG_BROADCASTS"),
    ("cso", "consumer next ORG_BROADCASTS cso-broadcast-reader --ack --raw", "policy"),
    ("cto", "kv put acme-tasks cto.t1 begun", "begun"),
    ("cto", "kv get acme-tasks cto.t1 --raw", "begun"),
    ("reader", "stream ls --names", "AGENT_CTO_TASKS"),
    ("operator", "consumer info AGENT_CTO_TASKS cto-worker", "Unprocessed Messages: 1"),
    ("monitor", "stream info DEAD_LETTERS", "Messages: 0"),
    ("alerts", "consumer info DEAD_LETTERS dead-letter-alerts", "dead-letter-alerts"),
    ("verifier", "stream info AGENT_CTO_TASKS", "acme.agents.cto.tasks"),
    ("writer", "account info", "JetStream Account Information"),
)
"""Who, what they do, and what comes of it; one after the other."""

REFUSED = (
    ("cso", "pub acme.agents.ceo.tasks task", "Publish to"),
    ("cso", "pub acme.agents.cto.status busy", "Publish to"),
    ("cso", "sub acme.agents.*.tasks --count 1", "Subscription to"),
    ("reader", "stream purge AGENT_CTO_TASKS --force", "Publish to"),
    ("monitor", "pub acme.org.broadcasts policy", "Publish to"),
)


@pytest.fixture
def acme(cli: Cli, project: Path, start_server: StartServer) -> EmbeddedServer:
    """Return a server whose users are those of the manifest, whose contexts are in the folder `keys`, after an apply."""
    (project / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    port = free_port()
    url = ("--url", f"nats://127.0.0.1:{port}")
    for words in (("keys", "--dir", "keys"), ("config", "--keys", "keys", "--out", "agents.conf", *url)):
        assert cli("auth", *words).code == 0
    server = start_server(config=(project / "agents.conf").read_text(encoding="utf-8"), port=port)
    assert cli("apply", "--yes", "--context", "keys/nats/context/writer.json").code == 0
    return server


@pytest.mark.usefixtures("acme")
def test_the_nats_cli_does_as_each_identity_what_is_its_own_and_nothing_else(
    judge: RunJudge, project: Path
) -> None:
    def nats(identity: str, words: str) -> tuple[int, str]:
        home = {"XDG_CONFIG_HOME": str(project / "keys"), "HOME": str(project)}
        ended = judge("nats", "--context", identity, *words.split(), cwd=project, environment=home)
        return ended.returncode, ended.stdout

    for identity, words, said in DONE:
        code, out = nats(identity, words)
        assert (code, "violation" in out) == (0, False), f"{identity} {words}: {out}"
        assert said in out, f"{identity} {words}: {out}"
    tried = {identity for identity, _, _ in DONE}
    assert tried == {path.stem for path in (project / "keys/nats/context").iterdir()}
    for identity, words, said in REFUSED:
        _, out = nats(identity, f"{words} --timeout 1s" if "sub " not in words else f"{words} --wait 1s")
        assert f"Permissions Violation for {said}" in out, f"{identity} {words}: {out}"
