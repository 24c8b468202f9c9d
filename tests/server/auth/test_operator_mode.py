"""Operator mode from a manifest to agents at work: rights are pushed, and change without new credentials."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cyborg_infra.manifest.load import loads
from cyborg_infra.model import claims as tokens
from cyborg_infra.model.key_pairs import KeyKind, KeyPair
from cyborg_infra.operations.key_files import credentials, new_key
from cyborg_infra.operations.verify_identities import try_identities
from tests.server.verify.test_identities import MANIFEST, failed
from tests.support.agents import until
from tests.support.cli import Cli, CommandResult, assert_fits
from tests.support.cluster import SIZE
from tests.support.connected_agent import ConnectedAgent
from tests.support.ports import free_port
from tests.support.servers import VERSIONS, StartServer

ROLES = "org: acme\nroles:\n  ceo:\n  cto: {{reports_to: ceo{cto}}}\n  backend: {{reports_to: cto}}\n"
NARROW, WIDE = ROLES.format(cto=""), ROLES.format(cto=", assigns: [ceo]")
IN_SYNC, ERROR, DIFFERENT, REFUSED = range(4)


class Site(NamedTuple):
    """A server in operator mode, whose operator `auth operator` has made, and what has been printed on the way."""

    url: str
    cli: Cli
    said: list[str]

    def run(self, *words: str) -> CommandResult:
        """Run a command as a user of the system account."""
        ended = self.cli(*words, "--server", self.url, "--creds", "trust/system.creds")
        self.said.append(ended.out + ended.err)
        return ended

    def push(self, *words: str) -> CommandResult:
        """Run a command that pushes claims."""
        return self.run("auth", *words, "--operator-key", "trust/operator.nk", "--yes")

    def offline(self, *words: str) -> CommandResult:
        """Run a command that needs no server."""
        ended = self.cli("auth", *words)
        self.said.append(ended.out + ended.err)
        return ended

    def agent(self, identity: str, file: str = "") -> ConnectedAgent:
        """Return an agent with the credentials of an identity."""
        return ConnectedAgent(self.url, Path(file or f"keys/{identity}.creds"), f"_INBOX.{identity}")


Open = Callable[..., Site]


@pytest.fixture
def site(
    cli: Cli, project: Path, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """Yield a function that starts a server with an operator of its own, in the directory of the manifest."""
    said: list[str] = []
    monkeypatch.setenv("CYBORG_INFRA_ACCOUNT", "trust/account.jwt")
    monkeypatch.setenv("CYBORG_INFRA_AGENTS_ACCOUNT", "trust/agents.jwt")

    def opened(version: str, config: Callable[[str], str] = lambda text: text) -> Site:
        (project / "org.yaml").write_text(NARROW)
        made = cli("auth", "operator", "--dir", "trust")
        assert made.code == IN_SYNC, made.err
        said.append(made.out)
        server = start_server(config=config((project / "trust/resolver.conf").read_text()), version=version)
        return Site(server.url, cli, said)

    yield opened
    assert no_seed_is_in("\n".join(said), project)


def no_seed_is_in(text: str, directory: Path) -> bool:
    """Return whether none of the seeds that were made is in a text, or in a plan that was saved."""
    secrets = {
        path: path.read_text() for path in directory.rglob("*") if path.suffix in (".nk", ".creds", ".old")
    }
    seeds = {
        word
        for secret in secrets.values()
        for word in secret.split()
        if word.startswith("S") and len(word) > 50
    }
    assert len(seeds) > len(secrets) / 2
    plans = [path.read_text() for path in directory.rglob("*.plan")]
    return not any(seed in each for seed in seeds for each in (text, *plans))


JETSTREAM, AGENTS = range(2)


def claims_of(site: Site, account: int) -> dict[str, Any]:
    """Return the claims that the server holds of an account, as a saved plan has them."""
    site.run("auth", "plan", "--out", "now.plan", "--format", "json")
    held: dict[str, Any] = json.loads(Path("now.plan").read_text())["accounts"][account]["base"]
    return held


def push_by_hand(site: Site, account: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Push claims as another tool does: those that are there, changed."""
    import asyncio

    import nats

    body = claims_of(site, account)
    change(body["nats"])
    signer = KeyPair.of_seed(KeyKind.OPERATOR, Path("trust/operator.nk").read_text().strip())
    token = tokens.sign(body | {"iat": body["iat"] + 1}, signer)

    async def push() -> None:
        client = await nats.connect(site.url, user_credentials="trust/system.creds")
        answer = json.loads((await client.request("$SYS.REQ.CLAIMS.UPDATE", token.encode())).data)
        assert answer["data"]["code"] == 200
        await client.close()

    asyncio.run(push())


READING = (
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.SERVER.PING.VARZ",
    "$SYS.REQ.SERVER.PING.CONNZ",
    "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP",
)


def reading_user(path: Path) -> None:
    """Make credentials of the system account that allow what the documentation says is enough to look."""
    user = new_key(KeyKind.USER)
    claims = tokens.account_user_claims("reads", user.public, issued=1)
    claims["nats"] |= {"pub": {"allow": READING}, "sub": {"allow": ["_INBOX.reads.>"]}}
    system = KeyPair.of_seed(KeyKind.ACCOUNT, Path("trust/system.nk").read_text().strip())
    path.write_text(credentials(tokens.sign(claims, system), user.seed))


FOREIGN = {
    "exports": [{"name": "metrics", "subject": "metrics.>", "type": "stream"}],
    "revocations": {"UAJTCLZLBHWMY2UQUYSFDX4GJI6DAOLZFLHPVCRYMEXZNG5UYGVWEQBQ": 1_700_000_000},
    "x_of_a_later_version": {"anything": [1, "2"]},
}
OTHER_KEY, OTHER_SCOPE = new_key(KeyKind.ACCOUNT).public, new_key(KeyKind.ACCOUNT).public


def with_foreign_claims(nats_part: dict[str, Any]) -> None:
    nats_part |= FOREIGN
    scope = {"kind": "user_scope", "key": OTHER_SCOPE, "role": "cto", "template": {"subs": 5}}
    nats_part["signing_keys"] = [OTHER_KEY, scope]
    nats_part["limits"]["conn"] = 1000


def foreign_part(claims: dict[str, Any]) -> dict[str, Any]:
    """Return what others have in the claims, when they have put it there first."""
    nats_part = claims["nats"] | {
        "signing_keys": claims["nats"]["signing_keys"][:2],
        "exports": claims["nats"]["exports"][:1],
        "imports": [],
    }
    return {key: value for key, value in claims.items() if key not in ("iat", "jti")} | {"nats": nats_part}


@pytest.mark.parametrize("version", VERSIONS)
def test_from_a_manifest_to_agents_whose_rights_change_under_them(site: Open, version: str) -> None:
    here = site(version)
    for account in (JETSTREAM, AGENTS):
        push_by_hand(here, account, with_foreign_claims)
    before = [claims_of(here, account) for account in (JETSTREAM, AGENTS)]

    # No key for anybody yet: told, and refused.
    missing = here.run("auth", "plan")
    assert missing.code == REFUSED
    assert "no signing key for ceo, cto, backend, alerts:" in missing.out
    assert "no signing key for reader, writer" in missing.out
    made = here.offline("creds", "--format", "json")
    assert_fits("auth-credentials", made.json)
    assert [each["made"] for each in made.json["identities"]] == [True] * 9
    again = here.offline("creds")
    assert again.out.count(" kept ") == 9

    # A saved plan does what was reviewed, once.
    planned = here.run("auth", "plan", "--detailed-exitcode", "--out", "first.plan", "--format", "json")
    assert planned.code == DIFFERENT
    assert_fits("auth-plan", planned.json)
    assert_fits("saved-auth-plan", json.loads(Path("first.plan").read_text()))
    told = planned.json["accounts"]
    assert [(each["summary"]["create"], each["allow"]) for each in told] == [(5, []), (4, [])]
    crossing = [[(each["kind"], each["subject"]) for each in account["crossings"]] for account in told]
    assert crossing[JETSTREAM] == crossing[AGENTS]
    assert ("service", "acme.agents.*.tasks") in crossing[AGENTS]
    assert "Signing keys: 9 added, 0 changed, 0 destroyed." in here.push("apply", "first.plan").out
    stale = here.push("apply", "first.plan")
    assert (stale.code, "the plan is stale" in stale.err) == (ERROR, True)
    assert here.run("auth", "drift", "--pending").code == IN_SYNC

    writer = ("--server", here.url, "--creds", "keys/writer.creds", "--inbox-prefix", "_INBOX.writer")
    assert here.cli("apply", "--yes", *writer).code == IN_SYNC
    with here.agent("cto") as cto, here.agent("backend") as backend:
        assert cto.store("acme.agents.backend.tasks") == 1
        assert backend.work("backend-worker", "AGENT_BACKEND_TASKS") == b"{}"
        assert cto.store("acme.agents.ceo.tasks") == 0

        # Wider: it says who comes back, and the agent at work may do more with the credentials that it has.
        Path("org.yaml").write_text(WIDE)
        wider = here.push("apply")
        assert "+ publish    acme.agents.ceo.tasks" in wider.out
        assert "1 connected agent comes back at once with the new rights" in wider.out
        until(lambda: cto.returns == 1)
        assert cto.store("acme.agents.ceo.tasks") == 1
        assert (cto.losses, backend.losses) == (1, 0)

        # Narrower: refused until it is allowed by name.
        Path("org.yaml").write_text(NARROW)
        refused = here.push("apply")
        assert refused.code == REFUSED
        assert (
            "revokes-access: it may no longer publish acme.agents.ceo.tasks; 1 agent uses it now"
            in refused.out
        )
        assert cto.store("acme.agents.ceo.tasks") == 2
        assert here.push("apply", "--allow", "revokes-access").code == IN_SYNC
        until(lambda: cto.returns == 2)
        assert cto.store("acme.agents.ceo.tasks") == 0
        assert backend.losses == 0

    # Nothing of anybody else's has changed.
    after = [claims_of(here, account) for account in (JETSTREAM, AGENTS)]
    assert list(map(foreign_part, after)) == list(map(foreign_part, before))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_identity_does_its_work_and_is_refused_the_rest(site: Open, version: str) -> None:
    """And no answer leads anywhere, until somebody changes what crosses, which is drift."""
    here = site(version)
    Path("org.yaml").write_text(MANIFEST)
    here.offline("creds")
    assert here.push("apply").code == IN_SYNC
    assert failed(try_identities(loads(MANIFEST), here.url, Path("keys"))) == {}
    at_hand = here.cli("verify", "--auth", "--keys", "keys", "--server", here.url)
    assert at_hand.code == IN_SYNC, at_hand.out

    def rename(nats_part: dict[str, Any]) -> None:
        (tasks,) = [row for row in nats_part["imports"] if row["subject"] == "acme.agents.*.tasks"]
        tasks["subject"] = "acme.agents.cto.tasks"

    push_by_hand(here, AGENTS, rename)
    seen = failed(try_identities(loads(MANIFEST), here.url, Path("keys")))
    told = [said for (check, _), said in seen.items() if check == "answers-lead-nowhere"]
    assert any("went further" in said for said in told), seen
    drifted = here.run("auth", "drift", "--format", "json")
    found = {(each["action"], each["subject"]) for each in drifted.json["accounts"][AGENTS]["crossings"]}
    assert (drifted.code, found) == (
        DIFFERENT,
        {("create", "acme.agents.*.tasks"), ("delete", "acme.agents.cto.tasks")},
    )
    assert here.push("apply").code == REFUSED  # it takes away what somebody has given
    assert here.push("apply", "--allow", "revokes-access").code == IN_SYNC
    assert here.run("auth", "drift", "--pending").code == IN_SYNC


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pull_that_waits_outlives_another_role_s_rights(site: Open, version: str) -> None:
    """New claims of the roles' account leave it; before those of the other account it is said that they do not."""
    here = site(version)
    here.offline("creds")
    here.push("apply")
    writer = ("--server", here.url, "--creds", "keys/writer.creds", "--inbox-prefix", "_INBOX.writer")
    here.cli("apply", "--yes", *writer)
    work = ("backend-worker", "AGENT_BACKEND_TASKS")
    with here.agent("cto") as cto, here.agent("backend") as backend, ThreadPoolExecutor() as threads:
        pull = threads.submit(backend.work, *work)
        until(lambda: backend.waiting(*work) == 1)
        Path("org.yaml").write_text(WIDE)
        pushed = here.push("apply")
        assert "1 changed" in pushed.out
        assert "pulls that wait" not in pushed.out
        until(lambda: cto.returns == 1)
        assert cto.store("acme.agents.backend.tasks") == 1
        assert pull.result(60) == b"{}"
    Path("org.yaml").write_text(WIDE + "auth: {names: {monitor: watch}}\n")
    here.offline("creds")
    assert (
        "pulls that wait while these claims are pushed are answered to nobody" in here.run("auth", "plan").out
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_key_is_rotated_without_cutting_who_uses_it(site: Open, version: str) -> None:
    here = site(version)
    here.offline("creds")
    assert here.push("apply").code == IN_SYNC
    assert here.offline("rotate", "cto").code == IN_SYNC
    early = here.push("revoke", "cto")
    assert (early.code, "the account does not have the new key of cto yet" in early.out) == (REFUSED, True)
    with here.agent("cto", "keys/cto.creds.old") as old:
        assert here.push("apply").code == IN_SYNC
        with here.agent("cto") as new:
            again = here.offline("rotate", "cto")
            assert (again.code, "keys/cto.signing.nk.old is there" in again.err) == (ERROR, True)
            used = here.push("revoke", "cto")
            assert used.code == REFUSED
            assert "the key goes, and whoever uses it is logged out; 1 agent uses it now" in used.out
            assert old.is_connected
            assert here.push("revoke", "cto", "--allow", "revokes-access").code == IN_SYNC
            until(lambda: not old.is_connected)
            assert (old.losses, new.losses, new.is_connected) == (1, 0, True)
    assert not list(Path("keys").glob("*.old"))

    # Somebody changes the rights behind the manifest's back: drift, and apply puts them right.
    def widen(nats_part: dict[str, Any]) -> None:
        (key,) = [row for row in nats_part["signing_keys"] if row["role"] == "backend"]
        key["template"]["pub"]["allow"].append("acme.>")

    push_by_hand(here, AGENTS, widen)
    drifted = here.run("auth", "drift", "--format", "json")
    assert drifted.code == DIFFERENT
    changes = drifted.json["accounts"][AGENTS]["changes"]
    assert [(each["identity"], each["cause"]) for each in changes] == [("backend", "drift")]
    assert here.push("apply", "--allow", "revokes-access").code == IN_SYNC
    assert here.run("auth", "drift").code == IN_SYNC

    # A role that goes keeps its access until --prune.
    Path("org.yaml").write_text("org: acme\nroles: [ceo, cto]\n")
    here.push("apply", "--allow", "revokes-access")
    kept = here.run("auth", "plan")
    assert "backend is no longer in the manifest and can still log in" in kept.out
    assert "Signing keys: 0 added, 0 changed, 1 destroyed" in here.push("apply", "--prune").out

    # Credentials that have expired are one clear error.
    assert here.offline("rotate", "cto", "--expires", "1s").code == IN_SYNC
    assert here.push("apply").code == IN_SYNC
    late = ("plan", "--server", here.url, "--creds", "keys/cto.creds")
    until(lambda: "these credentials expired on" in here.cli(*late).err)
    assert here.cli(*late).err.count("Error:") == 1


def test_what_cannot_be_pushed_is_one_clear_error(
    site: Open, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing = new_key(KeyKind.OPERATOR)

    def with_signing_key(text: str) -> str:
        (token,) = (line.split()[1] for line in text.splitlines() if line.startswith("operator: "))
        claims = tokens.decode(token)
        claims["nats"]["signing_keys"] = [signing.public]
        operator = KeyPair.of_seed(KeyKind.OPERATOR, Path("trust/operator.nk").read_text().strip())
        return text.replace(token, tokens.sign(claims, operator))

    here = site(VERSIONS[0], with_signing_key)
    here.offline("creds")
    stranger = new_key(KeyKind.OPERATOR)
    Path("stranger.nk").write_text(stranger.seed)
    refused = here.run("auth", "apply", "--yes", "--operator-key", "stranger.nk")
    assert refused.code == REFUSED
    assert f"{stranger.public} is no key of the operator that these servers trust" in refused.err
    keyless = here.run("auth", "apply", "--yes")
    assert (keyless.code, "CYBORG_INFRA_OPERATOR_SEED" in keyless.err) == (ERROR, True)
    mistyped = here.run("auth", "apply", "--yes", "--operator-key", "trust/system.nk")
    assert "cannot use trust/system.nk: it holds no valid seed of an operator" in mistyped.err
    assert here.run("auth", "plan").out.count("gets a signing key") == 9
    monkeypatch.setenv("CYBORG_INFRA_OPERATOR_SEED", signing.seed)
    assert here.run("auth", "apply", "--yes").code == IN_SYNC
    assert not any(signing.seed in text or stranger.seed in text for text in here.said)

    # Four subjects are enough to look, and one more to push.
    limited = ("--server", here.url, "--creds", "reads.creds", "--inbox-prefix", "_INBOX.reads")
    reading_user(Path("reads.creds"))
    assert here.cli("auth", "drift", "--pending", *limited).code == IN_SYNC
    Path("org.yaml").write_text(WIDE)
    push = ("auth", "apply", "--yes", "--timeout", "2s")
    denied = here.cli(*push, *limited)
    assert (denied.code, "may not publish to $SYS.REQ.CLAIMS.UPDATE" in denied.err) == (ERROR, True)

    # Whoever is no user of the system account may not ask.
    plain = here.cli("auth", "plan", "--server", start_server().url)
    assert (plain.code, "is no user of the system account" in plain.err) == (ERROR, True)


def test_a_resolver_in_memory_takes_claims_by_way_of_a_file(site: Open, project: Path) -> None:
    def in_memory(text: str) -> str:
        return "\n".join(
            "resolver: MEMORY" if line.startswith("resolver:") else line for line in text.splitlines()
        )

    here = site(VERSIONS[0], in_memory)
    here.offline("creds")
    told = here.run("auth", "plan")
    assert (told.code, "its resolver is not of type full" in told.err) == (ERROR, True)
    file = ("--claims", "trust/account.jwt", "--claims", "trust/agents.jwt")
    assert here.offline("apply", *file, "--yes", "--operator-key", "trust/operator.nk").code == IN_SYNC
    assert here.offline("drift", *file, "--pending").code == IN_SYNC
    assert (project / "trust/account.jwt").stat().st_mode & 0o777 == 0o600


def test_every_server_of_a_cluster_takes_the_claims(
    site: Open, start_server: StartServer, project: Path
) -> None:
    here = site(VERSIONS[0])
    here.offline("creds")
    ports = [free_port(), free_port()]
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
    trust = (project / "trust/resolver.conf").read_text()
    servers = [
        start_server(
            config=trust.replace("/trust/accounts", f"/accounts-{port}")
            + f"cluster {{ name: pair, listen: '127.0.0.1:{port}', routes: [{routes}] }}\n",
            jetstream=False,
            name=f"n{port}",
        )
        for port in ports
    ]
    one, other = (here._replace(url=server.url) for server in servers)

    def asked(site: Site) -> dict[str, int]:
        told: dict[str, int] = site.run("auth", "plan", "--format", "json").json["accounts"][JETSTREAM][
            "servers"
        ]
        return told

    until(lambda: asked(one) == {"answered": 2, "expected": 2, "behind": 0})
    assert one.push("apply").code == IN_SYNC
    assert other.run("auth", "drift", "--pending").code == IN_SYNC
    assert asked(other) == {"answered": 2, "expected": 2, "behind": 0}
    with other.agent("cto") as cto:
        assert "the key goes" not in one.push("apply").out
        assert cto.losses == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_on_a_cluster_every_identity_does_its_work_and_is_refused_the_rest(
    site: Open, start_server: StartServer, project: Path, version: str
) -> None:
    """Also others of a cluster say what a user may do, and those of 2.10 know it of none but their own."""
    here = site(version)
    manifest = MANIFEST + "defaults: {replicas: 3}\n"
    Path("org.yaml").write_text(manifest)
    here.offline("creds")
    trust = (project / "trust/resolver.conf").read_text()
    ports = [free_port() for _ in range(SIZE)]
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
    servers = [
        start_server(
            config=trust.replace("/trust/accounts", f"/accounts-{port}")
            + f"cluster {{ name: three, listen: '127.0.0.1:{port}', routes: [{routes}] }}\n",
            name=f"n{port}",
            version=version,
        )
        for port in ports
    ]
    one = here._replace(url=servers[0].url)
    until(
        lambda: (
            one.run("auth", "plan", "--format", "json").json["accounts"][JETSTREAM]["servers"]
            == {"answered": 3, "expected": 3, "behind": 0}
        )
    )
    assert one.push("apply").code == IN_SYNC
    writer = ("--server", one.url, "--creds", "keys/writer.creds", "--inbox-prefix", "_INBOX.writer")
    until(lambda: one.cli("plan", *writer).code == IN_SYNC)  # three peers are elected
    assert failed(try_identities(loads(manifest), one.url, Path("keys"))) == {}
