"""What nsc made works with `auth`, and what `auth` made nsc reads: trust, an account, its users and their credentials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.judges.conftest import RunJudge
from tests.support.cli import Cli
from tests.support.ports import free_port
from tests.support.servers import StartServer

MANIFEST = "org: acme\nroles: {ceo: {}, cto: {reports_to: ceo}}\n"


def test_an_account_that_nsc_made_gets_our_rights_and_stays_nsc_s(
    judge: RunJudge, cli: Cli, project: Path, start_server: StartServer
) -> None:
    port = free_port()
    url = f"nats://127.0.0.1:{port}"

    def nsc(*words: str) -> str:
        ended = judge("nsc", "--all-dirs", project / "nsc", *words, cwd=project)
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def account(name: str = "JETSTREAM") -> Any:
        return json.loads(nsc("describe", "account", name, "--json"))

    nsc("add", "operator", "--generate-signing-key", "--sys", "--name", "OP")
    nsc("edit", "operator", "--account-jwt-server-url", url)
    nsc("add", "account", "--name", "AGENTS")
    nsc("add", "account", "--name", "JETSTREAM")
    nsc(
        "edit",
        "account",
        "--name",
        "JETSTREAM",
        "--js-disk-storage",
        "1G",
        "--js-streams",
        "-1",
        "--js-consumer",
        "-1",
    )
    nsc("add", "user", "--account", "JETSTREAM", "--name", "legacy")
    nsc("generate", "config", "--nats-resolver", "--sys-account", "SYS", "--config-file", "resolver.conf")
    nsc("generate", "creds", "--account", "SYS", "--name", "sys", "--output-file", "sys.creds")
    (signing_key,) = json.loads(nsc("describe", "operator", "--field", "nats.signing_keys"))
    (seed,) = (project / "nsc/keys").rglob(f"{signing_key}.nk")
    resolver = (project / "resolver.conf").read_text().replace("./jwt", str(project / "jwt"))
    start_server(config=resolver, port=port)
    for name in ("JETSTREAM", "AGENTS"):
        nsc("push", "--account", name)

    (project / "org.yaml").write_text(MANIFEST)
    place = ("--account", account()["sub"], "--agents-account", account("AGENTS")["sub"])
    system = (*place, "--server", url, "--creds", "sys.creds")
    push = (*system, "--operator-key", str(seed), "--yes")
    for words in (("creds", "org.yaml", *place), ("apply", "org.yaml", *push)):
        ended = cli("auth", *words)
        assert ended.code == 0, ended.err
    writer = ("--server", url, "--creds", "keys/writer.creds", "--inbox-prefix", "_INBOX.writer")
    assert cli("apply", "--yes", *writer).code == 0

    # nsc reads what was pushed, finds nothing wrong with it, and reads each user's credentials.
    made, _, pulled = account()["nats"], nsc("pull", "--all"), account()["nats"]
    assert {key: value for key, value in pulled.items() if key not in ("signing_keys", "exports")} == made
    assert {key["kind"] for key in pulled["signing_keys"]} == {"user_scope"}
    imported = {each["subject"] for each in account("AGENTS")["nats"]["imports"]}
    assert imported == {each["subject"] for each in pulled["exports"]}
    for name in ("JETSTREAM", "AGENTS"):
        assert "No issues found" in nsc("validate", "--account", name)
    files = sorted((project / "keys").glob("*.creds"))
    assert (len(files), len(pulled["signing_keys"])) == (8, 5)  # two roles and alerts are of AGENTS
    for file in files:
        user = json.loads(nsc("describe", "jwt", "--json", "--file", str(file)))
        its = "AGENTS" if file.stem in ("ceo", "cto", "alerts") else "JETSTREAM"
        assert (user["name"], user["nats"]["issuer_account"]) == (file.stem, account(its)["sub"])

    # What nsc changes afterwards is not ours to touch, and what is ours it keeps.
    nsc("add", "export", "--account", "JETSTREAM", "--subject", "acme.public.>", "--name", "public")
    nsc("push", "--account", "JETSTREAM")
    assert cli("auth", "drift", "--pending", "org.yaml", *system).code == 0
    (project / "org.yaml").write_text(MANIFEST.replace("cto: {", "cso: {reports_to: ceo}, cto: {"))
    for words in (("creds", "org.yaml", *place), ("apply", "org.yaml", *push)):
        ended = cli("auth", *words)
        assert ended.code == 0, ended.err
    nsc("pull", "--all")
    assert {each["subject"] for each in account()["nats"]["exports"]} == {"acme.public.>", *imported}
    assert len(account("AGENTS")["nats"]["signing_keys"]) == 4
    legacy = project / "nsc/creds/OP/JETSTREAM/legacy.creds"
    assert cli("drift", "--server", url, "--creds", str(legacy)).code in (0, 2)  # it still logs in
