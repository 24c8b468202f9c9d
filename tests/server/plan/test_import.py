"""`import` on real servers: what was made by hand is adopted as it is, and what does not fit is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.units import DAY, HOUR, MINUTE, SECOND
from tests.support.cli import Cli
from tests.support.nats_client import Api

# What `nats stream add --defaults` and `nats consumer add --pull --defaults` send.
STREAM: dict[str, Any] = {
    "retention": "limits",
    "max_consumers": -1,
    "max_msgs_per_subject": -1,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
    "max_msg_size": -1,
    "storage": "file",
    "discard": "old",
    "num_replicas": 1,
    "duplicate_window": 120 * SECOND,
    "sealed": False,
    "deny_delete": False,
    "deny_purge": False,
    "allow_rollup_hdrs": False,
    "allow_direct": True,
    "mirror_direct": False,
    "consumer_limits": {},
}
CONSUMER: dict[str, Any] = {
    "ack_policy": "explicit",
    "deliver_policy": "all",
    "replay_policy": "instant",
    "num_replicas": 0,
    "pause_until": "0001-01-01T00:00:00Z",
}
MIB = 1024 * 1024


class ByHand:
    """Somebody with the `nats` CLI."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def stream(self, name: str, *subjects: str, **settings: Any) -> None:
        config = STREAM | {"name": name, "subjects": list(subjects)} | settings
        self._done(f"STREAM.CREATE.{name}", config)

    def consumer(self, stream: str, name: str, **settings: Any) -> None:
        config = CONSUMER | {"name": name, "durable_name": name} | settings
        body = {"stream_name": stream, "config": config, "action": ""}
        self._done(f"CONSUMER.CREATE.{stream}.{name}", body)

    def role(self, stream: str, role: str, *, days: int = 3, **worker: Any) -> None:
        """A task stream and its worker."""
        subject = f"genbrain.agents.{role}.tasks"
        self.stream(stream, subject, max_age=days * DAY, max_bytes=100 * MIB)
        said = {"filter_subject": subject, "ack_wait": 30 * MINUTE, "max_deliver": 3, "max_ack_pending": 5}
        self.consumer(stream, f"{role}-worker", **said | worker)

    def _done(self, verb: str, body: dict[str, Any]) -> None:
        answer = self._api.request(f"$JS.API.{verb}", body)
        assert "error" not in answer, answer


@pytest.fixture
def whole(any_server: EmbeddedServer) -> EmbeddedServer:
    """Return a server with everything that the organisation genbrain needs, made by hand, with ideas of its own."""
    with Api(any_server.url) as api:
        hand = ByHand(api)
        hand.role("AGENT_CTO_TASKS", "cto", days=7, max_ack_pending=1)
        hand.role("AGENT_DATA_ENG_TASKS", "data-eng", days=7)
        hand.stream("AGENT_INBOXES", "genbrain.agents.*.inbox", max_age=168 * HOUR, max_bytes=MIB + 1)
        hand.stream("ORG_BROADCASTS", "genbrain.org.broadcasts", max_age=30 * DAY, metadata={"team": "a: b"})
        hand.stream("DEAD_LETTERS", "genbrain.org.deadletter", max_msgs=10_000)
        hand.consumer("DEAD_LETTERS", "dead-letter-alerts", ack_wait=5 * MINUTE)
        done, checked = "genbrain.events.deploy.complete", "genbrain.events.ci.result"
        hand.stream("ORG_EVENTS", done, checked, max_age=7 * DAY, max_bytes=500 * MIB)
        reads = {"filter_subject": done, "ack_wait": 10 * MINUTE, "max_deliver": 3}
        hand.consumer("ORG_EVENTS", "cto-event-reader", **reads)
        for role in ("cto", "data-eng"):
            inbox, policy = f"genbrain.agents.{role}.inbox", "genbrain.org.broadcasts"
            reader = {"ack_wait": 10 * MINUTE, "max_deliver": 9, "backoff": [10 * MINUTE, HOUR]}
            hand.consumer("AGENT_INBOXES", f"{role}-inbox-reader", filter_subject=inbox, **reader)
            reader = {"ack_wait": 5 * MINUTE, "max_deliver": 3}
            hand.consumer("ORG_BROADCASTS", f"{role}-broadcast-reader", filter_subject=policy, **reader)
        assert api.request("genbrain.agents.cto.tasks", "work")["stream"] == "AGENT_CTO_TASKS"
    return any_server


@pytest.mark.versions
def test_what_was_made_by_hand_is_adopted_as_it_is(cli: Cli, project: Path, whole: EmbeddedServer) -> None:
    server = ("--server", whole.url)
    ended = cli("import", "--org", "genbrain", "--out", "found.yaml", *server)
    assert ended.code == 0, ended.err
    assert yaml.safe_load((project / "found.yaml").read_text(encoding="utf-8")) == {
        "org": "genbrain",
        "roles": {"cto": {"worker": {"max_ack_pending": 1}}, "data-eng": None},
        "events": {
            "ci.result": {"durable": True},
            "deploy.complete": {"subscribers": ["cto"], "durable": True},
        },
        "streams": {
            "tasks": {"max_age": "168h"},
            "inboxes": {"max_bytes": MIB + 1},
            "broadcasts": {"metadata": {"team": "a: b"}},
            "dead_letters": {"subjects": ["genbrain.org.deadletter"], "subject_transform": {}},
        },
        "consumers": {"inbox_reader": {"max_deliver": 9, "backoff": ["10m", "1h"]}},
    }
    assert "take subjects and subject_transform out of streams.dead_letters" in ended.err
    plan = cli("plan", "found.yaml", "--format", "json", *server).json
    assert {(change["action"], field["field"].partition(".")[0]) for change in plan["changes"] for field in change["fields"]} == {("adopt", "metadata")}  # fmt: skip
    assert cli("apply", "found.yaml", "--yes", *server).code == 0
    assert cli("plan", "found.yaml", "--detailed-exitcode", *server).code == 0
    with Api(whole.url) as api:
        assert api.request("$JS.API.STREAM.INFO.AGENT_CTO_TASKS")["state"]["messages"] == 1
        kept = api.request("$JS.API.STREAM.INFO.ORG_BROADCASTS")["config"]["metadata"]
        assert kept["team"] == "a: b"


def test_an_organisation_that_was_applied_comes_back(cli: Cli, project: Path, server: EmbeddedServer) -> None:
    assert cli("apply", "--yes", "--server", server.url).code == 0
    ended = cli("import", "--org", "acme", "--server", server.url)
    assert (ended.code, ended.err) == (0, "")
    assert yaml.safe_load(ended.out) == {"org": "acme", "roles": ["backend", "cto"]}
    (project / "again.yaml").write_text(ended.out, encoding="utf-8")
    assert cli("plan", "again.yaml", "--detailed-exitcode", "--server", server.url).code == 0


def test_where_nothing_is_named_by_the_scheme_the_way_to_other_names_is_told(
    cli: Cli, project: Path, server: EmbeddedServer
) -> None:
    with Api(server.url) as api:
        ByHand(api).stream("cto-tasks", "tasks.cto")
    ended = cli("import", "--org", "acme", "--server", server.url)
    assert (ended.code, "are read with --naming FILE" in ended.err) == (1, True)
    names = 'naming: {subject_prefix: "", streams: {tasks: "{role}-tasks"}}\n'
    (project / "names.yaml").write_text(names, encoding="utf-8")
    ended = cli("import", "--org", "acme", "--naming", "names.yaml", "--server", server.url)
    assert (ended.code, "`cyborg-infra show` prints of the file's names" in ended.err) == (1, True)
    (project / "names.yaml").write_text(
        f"{names}channels: {{tasks: {{subject: 'tasks.{{role}}'}}}}\n", encoding="utf-8"
    )
    ended = cli("import", "--org", "acme", "--naming", "names.yaml", "--server", server.url)
    assert (ended.code, yaml.safe_load(ended.out)["roles"]) == (0, ["cto"])


def test_channels_of_its_own_are_no_orphans_without_a_word(
    cli: Cli, project: Path, server: EmbeddedServer
) -> None:
    """A manifest without them takes them for what has left it; the way to read them is told, and leads there."""
    manifest = "org: acme\nroles: [cto]\nchannels: {control: {of: role, durable: true}}\n"
    (project / "org.yaml").write_text(manifest, encoding="utf-8")
    assert cli("apply", "--yes", "--server", server.url).code == 0
    ended = cli("import", "--org", "acme", "--out", "found.yaml", "--server", server.url)
    orphan, way, wrote = ended.err.splitlines()
    assert orphan == (
        "Note: AGENT_CONTROL is of this organisation, and not in this manifest: "
        "it would be an orphan, which `cyborg-infra apply --prune` deletes"
    )
    assert way.startswith(
        "Note: AGENT_CONTROL may be of channels of your own: `cyborg-infra import --naming FILE` reads"
    )
    assert wrote.startswith("Wrote found.yaml")
    assert "Orphan: stream AGENT_CONTROL" in cli("plan", "found.yaml", "--server", server.url).out
    ended = cli(
        "import", "--org", "acme", "--naming", "org.yaml", "--out", "all.yaml", "--server", server.url
    )
    assert ended.err.splitlines() == ["Wrote all.yaml. Next: cyborg-infra plan all.yaml"]
    assert cli("plan", "all.yaml", "--detailed-exitcode", "--server", server.url).code == 0


def test_what_a_manifest_cannot_say_is_told_and_in_the_file(cli: Cli, server: EmbeddedServer) -> None:
    other = {"metadata": {"cyborg-infra.org": "other"}}
    with Api(server.url) as api:
        hand = ByHand(api)
        hand.role("P_AGENT_CTO_TASKS", "cto")
        hand.consumer("P_AGENT_CTO_TASKS", "auditor")
        hand.stream("P_AGENT_LOST_TASKS", "elsewhere.lost")
        hand.stream("P_AGENT_OPS_TASKS", "genbrain.agents.ops.tasks", **other)
        hand.stream("P_ORG_BROADCASTS", "genbrain.org.broadcasts", description="rings \x07")
        hand.stream("STATUS", "genbrain.agents.cto.status")
        hand.stream("STRANGER", "stranger.>")
    ended = cli("import", "--org", "genbrain", "--stream-prefix", "P_", "--server", server.url)
    assert ended.code == 0
    manifest = yaml.safe_load(ended.out)
    assert (manifest["roles"], manifest["naming"]) == (["cto"], {"stream_prefix": "P_"})
    notes = [line.removeprefix("Note: ") for line in ended.err.splitlines()]
    assert notes == [
        "stream STATUS, which is not managed, captures genbrain.agents.cto.status with genbrain.agents.cto.status: a stream answers a captured request itself, before any agent has spoken",
        "P_AGENT_INBOXES and its consumer do not exist: apply will create them, unless the manifest has channels: {inbox: false}",
        "P_DEAD_LETTERS and its consumer do not exist: apply will create them",
        "P_ORG_BROADCASTS/cto-broadcast-reader does not exist: apply will create it",
        "P_ORG_BROADCASTS differs in what the manifest does not say: apply would change description",
        "P_AGENT_CTO_TASKS/auditor is a consumer outside the naming scheme and is left alone",
        "P_AGENT_LOST_TASKS is named as a stream of genbrain but stores none of its subjects; it is left alone",
        "P_AGENT_OPS_TASKS belongs to organisation other and is left alone",
        "STATUS is a stream outside the naming scheme and is left alone; it stores genbrain.agents.cto.status",
        "STATUS may be of channels of your own: `cyborg-infra import --naming FILE` reads them by the manifest that they were made by, or by a file that has them under channels",
    ]
    assert [line.removeprefix("# - ") for line in ended.out.splitlines() if line.startswith("# - ")] == notes


def test_other_names_are_proposed_where_they_have_a_pattern(
    cli: Cli, project: Path, server: EmbeddedServer
) -> None:
    """A prefix of two tokens, streams and consumers by another scheme; what stores two channels is nobody's."""
    with Api(server.url) as api:
        hand = ByHand(api)
        for role in ("cto", "data-eng"):
            work = f"acme.eu.agents.{role}.tasks"
            name = f"WORK_{role.upper().replace('-', '_')}"
            hand.stream(name, work, max_age=3 * DAY, max_bytes=100 * MIB)
            reader = {"ack_wait": 30 * MINUTE, "max_deliver": 3, "max_ack_pending": 5}
            hand.consumer(name, f"agent-{role}", filter_subject=work, **reader)
        hand.stream("MAIL", "acme.eu.agents.*.inbox", max_age=168 * HOUR, max_bytes=500 * MIB)
        hand.stream("NEWS", "acme.eu.org.broadcasts", max_age=30 * DAY)
        hand.stream("LOG", "acme.eu.agents.*.status", "acme.eu.events.>")
        for role in ("cto", "data-eng"):
            inbox, policy = f"acme.eu.agents.{role}.inbox", "acme.eu.org.broadcasts"
            reader = {"ack_wait": 10 * MINUTE, "max_deliver": 3}
            hand.consumer("MAIL", f"agent-{role}-inbox", filter_subject=inbox, **reader)
            hand.consumer("NEWS", f"news-{role}", filter_subject=policy, ack_wait=5 * MINUTE, max_deliver=3)
    ended = cli("import", "--org", "acme", "--out", "found.yaml", "--server", server.url)
    assert ended.code == 0, ended.err
    assert yaml.safe_load((project / "found.yaml").read_text(encoding="utf-8")) == {
        "org": "acme",
        "naming": {
            "subject_prefix": "acme.eu",
            "streams": {"tasks": "WORK_{ROLE}", "inboxes": "MAIL", "broadcasts": "NEWS"},
            "consumers": {
                "worker": "agent-{role}",
                "inbox_reader": "agent-{role}-inbox",
                "broadcast_reader": "news-{role}",
            },
        },
        "roles": ["cto", "data-eng"],
    }
    assert "LOG is a stream outside the naming scheme and is left alone" in ended.err
    assert "what the names on the server have in common" in (project / "found.yaml").read_text(
        encoding="utf-8"
    )


def test_a_file_of_names_that_cannot_be_used_is_refused_with_its_place(cli: Cli, project: Path) -> None:
    names = project / "names.yaml"
    for text, place, told in (
        ("org: acme\nroles: [cto]\n", "names.yaml:1:1", "neither naming nor channels"),
        ("naming: {streams: {tasks: A, inboxes: A}}\n", "names.yaml:1:39", "cannot be told apart"),
        ("chanels: {control: {of: role}}\n", "names.yaml:1:1", "did you mean channels?"),
    ):
        names.write_text(text, encoding="utf-8")
        ended = cli("import", "--org", "acme", "--naming", "names.yaml", "--server", "nats://127.0.0.1:1")
        assert (ended.code, ended.out) == (1, "")
        assert place in ended.err, ended.err
        assert told in " ".join(ended.err.split())


def test_where_nothing_fits_it_says_who_is_there(cli: Cli, server: EmbeddedServer) -> None:
    assert cli("apply", "--yes", "--server", server.url).code == 0
    ended = cli("import", "--org", "genbrain", "--server", server.url)
    assert (ended.code, ended.out) == (1, "")
    assert "there are subjects of acme" in " ".join(ended.err.split())


def test_a_file_that_exists_stays_as_it_is(cli: Cli, project: Path, server: EmbeddedServer) -> None:
    before = (project / "org.yaml").read_text(encoding="utf-8")
    assert cli("apply", "--yes", "--server", server.url).code == 0
    ended = cli("import", "--org", "acme", "--out", "org.yaml", "--server", server.url)
    assert (ended.code, (project / "org.yaml").read_text(encoding="utf-8")) == (1, before)
    assert "org.yaml exists and stays as it is" in ended.err


@pytest.mark.parametrize("arguments", ["--org a.b", "--org $SYS", "--org", "--org a --stream-prefix x/"])
def test_a_name_that_cannot_be_is_refused_without_a_server(cli: Cli, arguments: str) -> None:
    assert cli("import", *arguments.split(), "--server", "nats://127.0.0.1:1").code == 1
