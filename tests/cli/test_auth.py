"""`auth show`, `explain`, `keys` and `config`: who may do what, and the files that servers and clients read. No seed comes out."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path

import pytest

from cyborg_infra.model.identities import Accounts
from cyborg_infra.model.key_pairs import KeyKind
from cyborg_infra.model.standing import Standing
from cyborg_infra.operations.key_files import new_key
from cyborg_infra.operations.operator_mode import make_credentials
from tests.support.cli import SMALL, Cli, assert_fits
from tests.support.servers import NEWEST, OLDEST, server_binary

ORG = (Path(__file__).parents[2] / "org.yaml").read_text(encoding="utf-8")
SEED = re.compile(r"\bS[UAO][A-Z2-7]{56}\b")


def seeds(directory: Path) -> list[str]:
    """Return every seed that the tool has made."""
    return [path.read_text(encoding="utf-8").strip() for path in directory.glob("*.nk")]


def test_every_role_and_standing_identity_is_shown_with_its_reasons(cli: Cli, project: Path) -> None:
    (project / "org.yaml").write_text(ORG, encoding="utf-8")
    shown = cli("auth", "show", "--format", "json").json
    assert_fits("auth-show", shown)
    found = {each["name"]: each for each in shown["identities"]}
    roles = ["ceo", "cto", "cso", "marketing", "backend", "frontend", "devops"]
    assert list(found) == [*roles, *Standing]
    for name in roles:
        assert len(found[name]["publish"]["allow"]) <= 25
        assert found[name]["inbox_prefix"] == f"_INBOX.{name}"
    assert all(grant["reason"] for each in found.values() for grant in each["publish"]["allow"])
    one = cli("auth", "show", "--identity", "cto").out
    assert "genbrain.agents.backend.tasks" in one
    assert 'inbox_prefix=b"_INBOX.cto"' in one
    assert (
        "| may publish | `genbrain.agents.*.inbox` | channel inbox: anyone |"
        in cli("auth", "show", "--format", "markdown").out
    )
    crossing = {each["subject"]: each["reason"] for each in shown["crossings"]}
    assert crossing["genbrain.agents.*.tasks"] == "channel tasks"
    assert "genbrain.agents.*.tasks" in cli("auth", "show").out
    assert (
        "| service | `genbrain.agents.*.tasks` | channel tasks |"
        in cli("auth", "show", "--format", "markdown").out
    )
    unknown = cli("auth", "show", "--identity", "ctoo")
    assert (unknown.code, "there is no identity ctoo" in unknown.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("cto publish genbrain.agents.backend.tasks", 0),
        ("cto publish genbrain.agents.ceo.tasks", 3),
        ("cto publish genbrain.agents.*.tasks", 3),
        ("cto subscribe genbrain.agents.cto.requests", 0),
        ("cto subscribe genbrain.agents.*.requests", 3),
        ("monitor subscribe genbrain.agents.*.status", 0),
        ("cto pull cto-worker", 0),
        ("cto pull AGENT_BACKEND_TASKS/backend-worker", 3),
        ("alerts pull dead-letter-alerts", 0),
        ("backend request ceo", 0),
        ("devops publish genbrain.events.deploy.complete", 0),
        ("ceo publish genbrain.events.deploy.complete", 3),
        ("verifier publish genbrain.agents.cto.tasks", 3),
        ("cto pull nothing", 1),
        ("cto publish a..b", 1),
        ("nobody publish a", 1),
    ],
)
def test_an_explanation_says_yes_or_no_and_by_which_row(
    cli: Cli, project: Path, words: str, code: int
) -> None:
    (project / "org.yaml").write_text(ORG, encoding="utf-8")
    ended = cli("auth", "explain", *words.split(), "--format", "json")
    assert ended.code == code
    if code != 1:
        assert_fits("auth-explain", ended.json)
        assert ended.json["allowed"] == (code == 0)


def test_a_role_that_is_called_like_a_standing_identity_needs_another_name_for_that(
    cli: Cli, project: Path
) -> None:
    manifest = "org: acme\nroles: [cto, monitor]\n"
    (project / "org.yaml").write_text(manifest, encoding="utf-8")
    ended = cli("auth", "show")
    assert (ended.code, "auth: {names: {monitor: monitor-user}}" in ended.err) == (1, True)
    (project / "org.yaml").write_text(manifest + "auth: {names: {monitor: watch}}\n", encoding="utf-8")
    assert "_INBOX.watch" in cli("auth", "show").out


def test_two_organisations_in_one_account_have_inboxes_of_their_own(cli: Cli, project: Path) -> None:
    (project / "org.yaml").write_text("org: z\nnaming: {stream_prefix: Z_}\nroles: [cto]\n", encoding="utf-8")
    assert cli("auth", "show", "--format", "json").json["identities"][0]["inbox_prefix"] == "_INBOX.Z_cto"


def test_through_a_domain_the_api_has_its_prefix_and_acknowledgements_have_none(
    cli: Cli, project: Path
) -> None:
    (project / "org.yaml").write_text(SMALL + "key_value: [drafts]\n", encoding="utf-8")
    shown = cli("auth", "show", "--identity", "cto", "--js-domain", "hub", "--format", "json").json
    allowed = [grant["subject"] for grant in shown["identities"][0]["publish"]["allow"]]
    assert "$JS.hub.API.CONSUMER.MSG.NEXT.AGENT_CTO_TASKS.cto-worker" in allowed
    assert "$JS.hub.API.$KV.drafts.>" in allowed
    assert "$JS.ACK.AGENT_CTO_TASKS.cto-worker.*.*.*.*.*" in allowed
    assert not [subject for subject in allowed if subject.startswith(("$JS.API", "$KV"))]


def test_keys_are_made_once_and_no_output_has_a_seed_in_it(cli: Cli, project: Path) -> None:
    keys = project / "keys"
    said = [cli("auth", "keys", "--dir", "keys")]
    made = seeds(keys)
    assert len(made) == 8
    assert all(SEED.fullmatch(seed) for seed in made)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.glob("*.nk")} == {0o600}
    (project / "org.yaml").write_text(SMALL.replace("backend", "backend, cso"), encoding="utf-8")
    unmade = cli("auth", "config", "--keys", "keys", "--out", "agents.conf")
    assert (unmade.code, "keys has no key of cso" in unmade.err) == (1, True)
    assert not (project / "agents.conf").exists()
    said += [unmade, cli("auth", "keys", "--dir", "keys")]
    assert set(made) < set(seeds(keys))
    for _ in range(2):
        said.append(cli("auth", "config", "--keys", "keys", "--out", "agents.conf"))
        assert said[-1].code == 0
    (project / "other.conf").write_text("accounts {}\n", encoding="utf-8")
    refused = cli("auth", "config", "--keys", "keys", "--out", "other.conf")
    assert (refused.code, (project / "other.conf").read_text(encoding="utf-8")) == (1, "accounts {}\n")
    good = made[0]
    broken = next(path for path in keys.glob("*.nk") if path.read_text(encoding="utf-8").strip() == good)
    mistyped = good[:20] + ("A" if good[20] != "A" else "B") + good[21:]
    broken.write_text(mistyped, encoding="utf-8")
    bad = cli("auth", "config", "--keys", "keys", "--out", "agents.conf")
    assert (bad.code, f"cannot use {Path('keys', broken.name)}" in bad.err) == (1, True)
    said += [refused, bad, cli("auth", "keys", "--dir", "keys"), cli("auth", "show", "--format", "json")]
    written = [
        path.read_text(encoding="utf-8") for path in project.rglob("*") if path.suffix in (".conf", ".json")
    ]
    everything = "".join([*written, *(each.out + each.err for each in said)])
    assert not SEED.search(everything)
    assert not any(seed[:20] in everything for seed in (*made, *seeds(keys)))


@pytest.mark.parametrize("version", [NEWEST, OLDEST])
def test_servers_take_the_generated_configuration(cli: Cli, project: Path, version: str) -> None:
    """With channels, a bucket and names that need quoting."""
    strange = 'c"t{o'
    (project / "org.yaml").write_text(
        "org: acme\nroles: ['" + strange + "', cso]\nkey_value: [drafts]\n"
        "channels: {control: {of: role, durable: true, publishers: [cso]}}\n"
        "events: {a.b: {publishers: [cso], subscribers: [cso]}}\n",
        encoding="utf-8",
    )
    assert cli("auth", "keys", "--dir", "keys").code == 0
    ended = cli("auth", "config", "--keys", "keys", "--out", "agents.conf", "--account", "AGENTS")
    assert ended.code == 0, ended.err
    written = (project / "agents.conf").read_text(encoding="utf-8")
    assert '"AGENTS-agents"], response_type: stream, response_threshold: "3600s"}' in written
    (project / "server.conf").write_text("include agents.conf\n", encoding="utf-8")
    checked = subprocess.run(
        [server_binary(version), "-t", "-c", "server.conf"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    context = json.loads((project / "keys/nats/context/cso.json").read_text(encoding="utf-8"))
    assert context["inbox_prefix"] == "_INBOX.cso"
    assert Path(context["nkey"]) == (project / "keys/cso.nk").resolve()


def test_credentials_that_have_expired_are_not_called_kept(cli: Cli, project: Path) -> None:
    (project / "org.yaml").write_text(SMALL, encoding="utf-8")
    accounts = Accounts(*(new_key(KeyKind.ACCOUNT).public for _ in range(2)))
    creds = ("auth", "creds", "--account", accounts.jetstream, "--agents-account", accounts.agents)
    make_credentials("org.yaml", None, accounts=accounts, keys=Path("keys"), only=["writer"], lifetime=-60)
    told = cli(*creds)
    assert (told.out.count(" expired "), told.out.count(" kept ")) == (1, 0)
    assert "Remove keys/writer.creds; `auth creds` makes new ones" in " ".join(told.out.split())
    seen = cli(*creds, "--format", "json").json
    assert_fits("auth-credentials", seen)
    before = {each["name"]: each for each in seen["identities"]}
    assert [name for name, each in before.items() if each["expired"]] == ["writer"]

    (project / "keys/writer.creds").unlink()
    after = {each["name"]: each for each in cli(*creds, "--format", "json").json["identities"]}
    assert after["writer"] == before["writer"] | {"made": True, "expires": None, "expired": False}
    assert "expired" not in cli(*creds).out
