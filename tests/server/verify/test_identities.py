"""`verify --auth`: every identity does its work without one violation, and is refused whatever is another's.

Where a rule of the derived permissions is broken on the server, the check that names the fault fails.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cyborg_infra.manifest.load import loads
from cyborg_infra.model.verification import Verification
from cyborg_infra.operations.verify_identities import try_identities
from tests.support.cli import Cli, assert_fits
from tests.support.cluster import running_clusters
from tests.support.servers import NEWEST, OLDEST, StartServer

MANIFEST = """\
org: acme
roles:
  ceo:
  cto: {reports_to: ceo, assigns: [cso]}
  cso: {reports_to: ceo}
  backend: {reports_to: cto}
groups: {engineers: [cto, backend]}
events:
  ci.result: {publishers: [backend], subscribers: [cto]}
  deploy.complete: {publishers: [backend], subscribers: [ceo, cso], durable: true}
key_value: {drafts: {readers: [engineers], writers: [backend], watchers: [cto]}}
task_state: true
channels:
  control: {of: role, durable: true, publishers: [ceo]}
  heartbeat: {of: role, publishers: self, readers: operator}
  meetings: {of: org, publishers: [engineers], readers: [engineers]}
  chat: {of: group}
  council: {of: group, durable: true, publishers: self}
"""
ACK_FORM_2 = "feature_flags { js_ack_fc_v2: true }\n"


@pytest.fixture
def generated(cli: Cli, project: Path) -> str:
    """Return the accounts block; the keys are in `keys`."""
    return configured(cli, project, MANIFEST)


def configured(cli: Cli, project: Path, manifest: str) -> str:
    """Return the accounts block of a manifest; the keys are in `keys`."""
    (project / "org.yaml").write_text(manifest, encoding="utf-8")
    assert cli("auth", "keys", "--dir", "keys").code == 0
    assert cli("auth", "config", "--keys", "keys", "--out", "agents.conf").code == 0
    return (project / "agents.conf").read_text(encoding="utf-8")


def failed(found: Verification) -> dict[tuple[str, str], str]:
    """Return what was seen instead, by check and identity."""
    return {(str(each.check), each.role): each.seen for each in found.results if each.seen}


@pytest.mark.server
@pytest.mark.parametrize(
    ("version", "flags"),
    [(NEWEST, ""), (NEWEST, ACK_FORM_2), (OLDEST, "")],
    ids=["newest", "ack form 2", "oldest"],
)
def test_every_identity_does_its_work_and_is_refused_the_rest(
    version: str, flags: str, generated: str, cli: Cli, start_server: StartServer, project: Path
) -> None:
    server = start_server(config=generated + flags, version=version)
    found = try_identities(loads(MANIFEST), server.url, project / "keys")
    assert failed(found) == {}
    assert len(found.results) == 1 + 10 + 5 + 4 + 5
    told = cli("verify", "--auth", "--keys", "keys", "--server", server.url, "--format", "json")
    assert_fits("verify", told.json)
    assert (told.code, told.json["passed"], len(told.json["results"])) == (0, True, 15)


@pytest.mark.server
def test_on_a_cluster_as_well(generated: str, project: Path, tmp_path: Path) -> None:
    """The fixture looks for its members as somebody of the account, and the last accounts block is the one that holds."""
    others = 'accounts { "$SYS": {}'
    known = generated.replace("accounts {", others, 1).replace(
        "users: [", "users: [\n{ user: tests, password: tests }", 1
    )
    config = f"{known}\nno_auth_user: tests\n"
    with running_clusters(tmp_path, {"C1": ["n0", "n1", "n2"]}, config=config) as clusters:
        org = loads(MANIFEST + "defaults: {replicas: 3}\n")
        assert failed(try_identities(org, clusters["C1"][0].url, project / "keys")) == {}


MUTATIONS = [
    # what is written instead of what, the check that fails and of whom, and what it says
    ('"$JS.ACK.AGENT_CTO_TASKS.cto-worker.*.*.*.*.*"', '"$JS.ACK.>"', "identity-is-refused-the-rest", "cto", r"cto may publish \$JS\.ACK\."),
    ('"$JS.ACK.*.*.AGENT_CTO_TASKS.cto-worker.*.*.*.*.*"', '"$JS.ACK.*.*.AGENT_CTO_TASKS.cto-worker.>"', "identity-is-refused-the-rest", "cto", r"cto may publish \$JS\.ACK\.\w+\.[\w-]+\.AGENT_CTO_TASKS\.cto-worker\.1\.1\.1"),
    ('"$JS.ACK.*.*.AGENT_CTO_TASKS.cto-worker.*.*.*.*.*"', "", "identity-does-its-work", "cto", r"\$JS\.ACK\._\.\w+\.AGENT_CTO_TASKS"),
    ('"_INBOX.cto.>"', '"_INBOX.cto.>", "*.>"', "identity-is-refused-the-rest", "cto", r"cto may subscribe _INBOX\.ceo\.>"),
    ('"_INBOX.cso.>"', "", "identity-does-its-work", "cso", r"may not receive replies on _inbox\.cso\."),
    ('"acme.agents.cto.status"', '"acme.agents.*.status"', "identity-is-refused-the-rest", "cto", r"cto may publish acme\.agents\.\w+\.status"),
    ('deny: ["acme.agents.ceo.tasks"]', "", "server-has-the-permissions", "ceo", r"publish deny acme\.agents\.ceo\.tasks is missing"),
    ('"acme.agents.cso.tasks"', '"acme.agents.*.tasks"', "identity-is-refused-the-rest", "cto", r"cto may publish acme\.agents\.ceo\.tasks"),
    ('"$JS.API.CONSUMER.INFO.AGENT_CTO_TASKS.cto-worker"', '"$JS.API.CONSUMER.*.AGENT_CTO_TASKS.cto-worker"', "identity-is-refused-the-rest", "cto", r"CONSUMER\.(CREATE|DELETE|PAUSE|RESET)\.AGENT_CTO_TASKS"),
    ('"_INBOX.>"', "", "identity-does-its-work", "ceo", r".+"),
    ("permissions: {", 'permissions: { allow_responses: { max: 1, expires: "30m" }', "identity-is-refused-the-rest", "ceo", r"ceo may publish anywhere, as an answer to itself on acme\.agents\.ceo\.requests"),
]  # fmt: skip


RACES = 20
"""So often two answers race at most, until the wrong one is seen to win."""

ACCOUNT_MUTATIONS = {
    # what is written instead of what, the check that fails and of whom (or of somebody: two answers race), and what it says
    "an import without a wildcard": (
        '{service: {account: "acme", subject: "acme.agents.*.tasks"}}',
        "\n".join(f'{{service: {{account: "acme", subject: "acme.agents.{role}.tasks"}}}}' for role in ("ceo", "cto", "cso", "backend")),
        "answers-lead-nowhere", "backend", r"an answer to backend went further: (stream|consumer) AGENT_C\w+_TASKS",
    ),
    "an import of what nobody may do": (
        '{service: {account: "acme", subject: "$JS.*.INFO"}}',
        '{service: {account: "acme", subject: "$JS.*.INFO"}}, {service: {account: "acme", subject: "$JS.API.STREAM.PURGE.AGENT_CEO_TASKS"}}',
        "answers-lead-nowhere", "backend", "an answer to backend went further: stream AGENT_CEO_TASKS",
    ),
    "no import that silences the server's own": ('{service: {account: "acme", subject: "$JS.*.INFO"}}', "", "identity-does-its-work", "", "JetStream not enabled for account"),
    "no way back for a watch": ('{stream: {account: "acme", subject: "_INBOX.cto.>"}}', "", "identity-does-its-work", "cto", "a watch of drafts is told nothing"),
}  # fmt: skip


@pytest.mark.server
@pytest.mark.parametrize("fault", ACCOUNT_MUTATIONS)
def test_what_crosses_between_the_accounts_is_needed_and_no_more(
    fault: str, generated: str, start_server: StartServer, project: Path
) -> None:
    right, wrong, check, whose, says = ACCOUNT_MUTATIONS[fault]
    assert right in generated
    imported = wrong.rpartition("subject: ")[2].removesuffix("}}") if "PURGE" in wrong else ""
    exports = f'exports: [ {{service: {imported}, accounts: ["acme-agents"]}},' if imported else "exports: ["
    config = generated.replace(right, wrong).replace("exports: [", exports, 1)
    server = start_server(config=config + ACK_FORM_2)
    for _ in range(1 if whose else RACES):
        seen = failed(try_identities(loads(MANIFEST), server.url, project / "keys"))
        of_it = [said for (failing, who), said in seen.items() if failing == check and whose in ("", who)]
        if any(re.search(says, said) for said in of_it):
            return
    pytest.fail(str(seen))


@pytest.mark.server
def test_a_pull_is_answered_more_than_once(start_server: StartServer, project: Path, cli: Cli) -> None:
    """By a heartbeat, and by a message: without the type of the export the message would be handed to nobody."""
    manifest = "org: acme\nroles: [cto]\n"
    config = configured(cli, project, manifest)
    once = config.replace("response_type: stream, ", "")
    assert once != config
    seen = failed(try_identities(loads(manifest), start_server(config=once).url, project / "keys"))
    assert "that waited was not handed what came" in seen["identity-does-its-work", "cto"]


@pytest.mark.server
@pytest.mark.parametrize("version", [NEWEST, OLDEST])
def test_a_role_in_the_account_that_has_jetstream_is_told(
    version: str, start_server: StartServer, project: Path, cli: Cli
) -> None:
    """Permissions are as they should be, and yet a role deletes a stream, by naming that as the reply of a pull."""
    manifest = "org: acme\nroles: {ceo: , cto: {reports_to: ceo}, cso: {reports_to: ceo}}\n"
    generated = configured(cli, project, manifest)
    begin = generated.index("      # ceo\n")
    end = generated.index("    ]\n  }\n", begin)
    config = (generated[:begin] + generated[end:]).replace("users: [", "users: [\n" + generated[begin:end], 1)
    server = start_server(config=config, version=version)
    seen = failed(try_identities(loads(manifest), server.url, project / "keys"))
    assert re.search("an answer to ceo went further: (stream|consumer) ", seen["answers-lead-nowhere", "ceo"])
    assert ("answers-lead-nowhere", "alerts") in seen  # who is in that account here as well
    told = cli("verify", "--auth", "--keys", "keys", "--server", server.url)
    assert (told.code, "it is in account acme, which has JetStream" in told.out) == (1, True)


@pytest.mark.server
@pytest.mark.parametrize(("right", "wrong", "check", "whose", "says"), MUTATIONS, ids=range(len(MUTATIONS)))
def test_a_broken_rule_is_named_by_the_check_that_finds_it(
    right: str,
    wrong: str,
    check: str,
    whose: str,
    says: str,
    generated: str,
    start_server: StartServer,
    project: Path,
    cli: Cli,
) -> None:
    at = generated.index(f"# {whose}\n")
    assert right in generated[at:]
    server = start_server(config=generated[:at] + generated[at:].replace(right, wrong, 1) + ACK_FORM_2)
    seen = failed(try_identities(loads(MANIFEST), server.url, project / "keys"))
    assert re.search(says, seen.get((check, whose), "")), seen
    assert whose == "cso" or {identity for _, identity in seen} == {
        whose
    }  # who asks another, and hears no answer, fails it too
    told = cli("verify", "--auth", "--keys", "keys", "--server", server.url)
    assert (
        told.code,
        f"FAILED          server-has-the-permissions  ({whose})" in told.out or whose == "cso",
    ) == (1, True)
