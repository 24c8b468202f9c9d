"""A repository with a manifest and the example workflows, as a new user would have it: from the first pull request to the night."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nats
import pytest

from tests.judges import registry
from tests.judges.registry import ROOT
from tests.judges.runner import GitHub, Runner, git, publish
from tests.support.cli import Cli
from tests.support.connected_agent import ConnectedAgent
from tests.support.servers import StartServer

FIRST = "org: acme\nroles: [cto]\nenvironments: {production: {}}\n"
LIMITED = f"{FIRST}streams: {{tasks: {{max_msgs: 2}}}}\n"


class Repository:
    """A repository of an organisation, with the workflows as they are in `examples/github`."""

    def __init__(self, directory: Path, secrets: Mapping[str, str]) -> None:
        """Make it, and a runner that finds this checkout where the project is published."""
        directory.mkdir()
        self.path, self.secrets = directory / "repository", secrets
        workflows = self.path / ".github" / "workflows"
        shutil.copytree(ROOT / "examples" / "github", workflows)
        git("init", "--quiet", "--initial-branch", "main", cwd=self.path)
        self.main = self.commit(None)
        self.github = GitHub(directory / "seen")
        pipx = registry.install(registry.named("pipx"))
        self.runner = Runner(directory / "runner", self.github, self.path, environment=publish(directory))
        for name in ("pipx", "python3"):
            (self.runner.programs / name).symlink_to(pipx / name if name == "pipx" else sys.executable)

    def commit(self, manifest: str | None) -> str:
        """Commit a manifest to where we are, and return the commit."""
        if manifest is not None:
            (self.path / "org.yaml").write_text(manifest, encoding="utf-8")
        git("add", "--all", cwd=self.path)
        author = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
        git(*author, "commit", "--quiet", "--message", "a change", cwd=self.path)
        return git("rev-parse", "HEAD", cwd=self.path)

    def plan(self, number: int, commit: str) -> int:
        """What a push to a pull request starts."""
        return self.runner.workflow("plan.yml", self._event(commit, number, merged=False))

    def merge(self, number: int, commit: str) -> int:
        """What merging it starts."""
        self.main = commit
        return self.runner.workflow("apply.yml", self._event(commit, number, merged=True))

    def night(self) -> int:
        """What the clock starts."""
        return self.runner.workflow("drift.yml", self._event(self.main, None, merged=False))

    def _event(self, commit: str, number: int | None, *, merged: bool) -> dict[str, Any]:
        pull_request = {
            "number": number,
            "merged": merged,
            "merge_commit_sha": commit,
            "head": {"sha": commit},
        }
        return {
            "event_name": "pull_request" if number else "schedule",
            "event": {"pull_request": pull_request} if number else {},
            "sha": commit,
            "secrets": self.secrets,
        }


class Server(NamedTuple):
    """A server in operator mode, with the identities of the first manifest."""

    url: str
    keys: Path

    def request(self, subject: str, value: object = None) -> Any:
        """Return what the JetStream API answers to somebody with a writer's rights, who does it by hand."""

        async def ask() -> Any:
            client = await nats.connect(
                self.url, user_credentials=str(self.keys / "writer.creds"), inbox_prefix=b"_INBOX.writer"
            )
            payload = b"" if value is None else json.dumps(value).encode()
            try:
                return json.loads((await client.request(f"$JS.API.{subject}", payload, timeout=60)).data)
            finally:
                await client.close()

        return asyncio.run(ask())

    @property
    def stored(self) -> int:
        """How many tasks there are."""
        found: int = self.request("STREAM.INFO.AGENT_CTO_TASKS")["state"]["messages"]
        return found


@pytest.fixture
def server(start_server: StartServer, project: Path, cli: Cli) -> Server:
    """Start it as `docs/how-to/operator-mode.md` does."""
    (project / "org.yaml").write_text(FIRST, encoding="utf-8")
    account = ("--account", "trust/account.jwt", "--agents-account", "trust/agents.jwt")
    assert cli("auth", "operator", "--dir", "trust").code == 0
    started = start_server(config=(project / "trust" / "resolver.conf").read_text(encoding="utf-8"))
    assert cli("auth", "creds", *account).code == 0
    system = ("--creds", "trust/system.creds", "--operator-key", "trust/operator.nk")
    pushed = cli("auth", "apply", *account, *system, "--server", started.url, "--yes")
    assert pushed.code == 0, pushed.err
    return Server(started.url, project / "keys")


@pytest.mark.server
def test_from_the_first_pull_request_to_a_quiet_night(server: Server, tmp_path: Path) -> None:
    """With what the workflows install, and with rights of a reader and a writer: nothing of it is the environment of the tests."""
    registry.install(registry.named("jq"))
    secrets = {
        f"NATS_{who.upper()}_CREDS": (server.keys / f"{who}.creds").read_text(encoding="utf-8")
        for who in ("reader", "writer")
    }
    here = Repository(tmp_path / "github", secrets | {"NATS_URL": server.url})
    github, runner = here.github, here.runner

    # A manifest with a mistake is told before anything is planned; the next push is planned; the merge applies that plan.
    assert here.plan(7, here.commit("org: acme\nrolls: [cto]\n")) == 1, runner.log
    assert "::error file=org.yaml,line=2" in runner.log
    assert github.seen["comments"] == []
    first = here.commit(FIRST)
    assert here.plan(7, first) == 0, runner.log
    (comment,) = github.seen["comments"]
    assert "### Plan: 8 to add, 0 to change, 0 to destroy." in comment["body"]
    assert here.merge(7, first) == 0, runner.log
    assert "Apply complete! Resources: 8 added, 0 changed, 0 destroyed." in runner.log
    assert here.night() == 0, runner.log
    assert github.seen["issues"] == []

    # A limit would delete tasks. Nobody has allowed it: the merge changes nothing, until somebody who looks at it does.
    with ConnectedAgent(server.url, server.keys / "cto.creds", "_INBOX.cto") as agent:
        for number in range(5):
            assert agent.store("acme.agents.cto.tasks") == number + 1
    assert here.plan(8, here.commit(f"{LIMITED}# first\n")) == 0, runner.log
    limited = here.commit(LIMITED)
    assert here.plan(8, limited) == 0, runner.log
    (comment,) = [each for each in github.seen["comments"] if each["on"] == 8]
    assert "--allow deletes-messages" in comment["body"]
    assert here.merge(8, limited) == 3, runner.log
    assert "not allowed by name: deletes-messages" in runner.log
    assert server.stored == 5
    github.label(8, "reviewed", "allow: deletes-messages")
    assert here.merge(8, limited) == 0, runner.log
    assert server.stored == 2

    # A plan of a server that is another one by now is not applied.
    raised = here.commit(f"{LIMITED}consumers: {{worker: {{max_deliver: 5}}}}\n")
    assert here.plan(9, raised) == 0, runner.log
    config = server.request("STREAM.INFO.AGENT_CTO_TASKS")["config"]
    server.request("STREAM.UPDATE.AGENT_CTO_TASKS", config | {"max_msgs": 9})
    assert here.merge(9, raised) != 0
    assert server.stored == 2

    # The night finds that, says it once, and is silent when it is gone.
    for _ in range(2):
        assert here.night() == 2, runner.log
    (issue,) = github.seen["issues"]
    assert (issue["title"], issue["state"]) == ("Drift: org.yaml production", "open")
    assert "max_msgs" in issue["body"]
    server.request("STREAM.UPDATE.AGENT_CTO_TASKS", config)
    assert here.night() == 0, runner.log
    assert [each["state"] for each in github.seen["issues"]] == ["closed"]

    # Now the plan that was stale is made again, and applied.
    assert here.plan(9, raised) == 0, runner.log
    assert here.merge(9, raised) == 0, runner.log
    assert here.night() == 0, runner.log
    told = f"{github.seen}{runner.log}"
    assert not [name for name, secret in secrets.items() if secret.splitlines()[-3] in told]
    sys.stdout.write(runner.log)  # for who wants to see it all: pytest -s
