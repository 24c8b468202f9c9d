"""Tokens are what the library of nats-server and nsc reads, without a complaint; so are the credentials that belong to them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.judges.conftest import RunJudge
from tests.support.cli import Cli


def test_operator_account_and_credentials_are_valid(judge: RunJudge, cli: Cli, project: Path) -> None:
    accounts = ("trust/account.jwt", "trust/agents.jwt")
    made = ("--keys", "keys", "--account", accounts[0], "--agents-account", accounts[1])
    push = ("--claims", accounts[0], "--claims", accounts[1], "--operator-key", "trust/operator.nk", "--yes")
    for words in (
        ("operator", "--dir", "trust"),
        ("creds", "org.yaml", *made, "--expires", "1d"),
        ("apply", "org.yaml", *push),
        ("rotate", "cto", "org.yaml", *made),
        ("apply", "org.yaml", *push),
    ):
        ended = cli("auth", *words)
        assert ended.code == 0, ended.err
    found = re.search(r"^operator: (\S+)$", (project / "trust/resolver.conf").read_text(), re.MULTILINE)
    assert found
    (project / "operator.jwt").write_text(found[1])
    creds = sorted((project / "keys").glob("*.creds*"))
    of_agents = [each for each in creds if each.name.startswith(("cto", "backend", "alerts"))]
    assert (len(of_agents), len(creds)) == (4, 3 + 6)
    others = [each for each in creds if each not in of_agents]
    for account, of_it in zip(accounts, (others, of_agents), strict=True):
        judged = judge("nats-jwt", project / "operator.jwt", project / account, *of_it)
        assert (judged.returncode, judged.stdout.count(": valid")) == (0, 2 + len(of_it)), judged.stdout
    stranger = judge("nats-jwt", project / "trust/account.jwt", project / "operator.jwt")
    assert stranger.returncode == 1
