"""What `status` says is what the server does: each case on a living organisation, newest and oldest server."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cyborg_infra.live.embedded import EmbeddedServer
from tests.support.agents import SECOND, fetch, nack, nothing_comes, publish, term, until
from tests.support.cli import Cli, CommandResult, Terminal, assert_fits, run_process
from tests.support.cluster import lead_by_another, running_cluster
from tests.support.scenario import Scenario
from tests.support.servers import StartServer

QUICK = "org: acme\nroles: [cto, cso, ceo]\nconsumers: {worker: {ack_wait: 200ms, max_deliver: 2}}\n"
SLOW = "org: acme\nroles: [cto, cso, ceo]\n"
TWICE = SLOW + "consumers: {worker: {max_deliver: 2}}\n"
TASKS, INBOX, BROADCASTS = "acme.agents.cto.tasks", "acme.agents.cto.inbox", "acme.org.broadcasts"
WORKER = "AGENT_CTO_TASKS/cto-worker"
SHARED = ("AGENT_INBOXES", "ORG_BROADCASTS", "DEAD_LETTERS")


class Watcher:
    """`cyborg-infra status` of what a scene has applied."""

    def __init__(self, scenario: Scenario, cli: Cli, project: Path) -> None:
        self.scene, self.api = scenario, scenario.api
        self._cli, self._project = cli, project

    def applies(self, manifest: str) -> None:
        (self._project / "org.yaml").write_text(manifest, encoding="utf-8")
        self.scene.converge(manifest)

    def __call__(self, *arguments: str) -> CommandResult:
        return self._cli("status", "--server", self.scene.url, "--no-context", *arguments)

    def checks(self, *arguments: str) -> list[str]:
        """Return the codes of the alarms; the exit code goes with them."""
        ended = self("--check", *arguments)
        assert ended.code == (2 if ended.out else 0), ended
        return [row.split(":")[0] for row in ended.out.splitlines()]

    def queue(self, position: int = 0) -> dict[str, Any]:
        """Return the cto's queue: 0 tasks, 1 inbox."""
        ended = self("--format", "json", "--role", "cto")
        assert_fits("status", ended.json)
        found: dict[str, Any] = ended.json["roles"][0]["queues"][position]
        return found

    def waits(self, *codes: str) -> None:
        """Return once these are the alarms."""
        until(lambda: self.checks() == list(codes))


@pytest.fixture
def watcher(any_server: EmbeddedServer, tmp_path: Path, cli: Cli, project: Path) -> Iterator[Watcher]:
    with Scenario(any_server.url, tmp_path) as scene:
        yield Watcher(scene, cli, project)


def asks(watcher: Watcher, ref: str) -> None:
    """A worker waits for a message, for as long as the test lasts."""
    subscription = watcher.api.subscribe(f"worker.{ref.replace('/', '.')}")
    body = json.dumps({"batch": 1, "expires": 600 * SECOND}).encode()
    watcher.api.publish(
        f"$JS.API.CONSUMER.MSG.NEXT.{ref.replace('/', '.')}", body, reply=subscription.subject
    )
    watcher.api.flush()


def test_lag_is_an_alarm_above_the_threshold_and_not_at_it(watcher: Watcher) -> None:
    """And before anything is applied the only one is that nothing is there; reading writes nothing."""
    assert watcher.checks() == ["missing"]
    watcher.applies(SLOW)
    assert watcher.checks() == []
    for _ in range(5):
        publish(watcher.api, TASKS)
    with watcher.scene.requests() as requests:
        assert watcher.checks() == []
    assert [request for request in requests if request.writes] == []
    assert [request.verb for request in requests if "MSG.GET" in request.verb] == [
        "STREAM.MSG.GET.AGENT_CTO_TASKS"
    ]
    publish(watcher.api, TASKS)
    assert (watcher.checks(), watcher.checks("--lag", "6"), watcher.checks("--role", "cso")) == (
        ["lag"],
        [],
        [],
    )
    found = watcher.queue()
    assert (found["waiting"], found["in_flight"], found["state"]) == (6, 0, "no-worker")
    assert found["oldest_waiting"] > 0
    watcher.applies(SLOW + "alerts: {lag: 9}\nenvironments: {strict: {alerts: {lag: 1}}}\n")
    assert (watcher.checks(), watcher.checks("--env", "strict")) == ([], ["lag"])
    exposed = watcher("--format", "prometheus", "--check", "--env", "strict")
    assert exposed.code == 2
    values = {
        (sample.name, sample.labels.get("role"), sample.labels.get("queue")): sample.value
        for family in text_string_to_metric_families(exposed.out)
        for sample in family.samples
    }
    assert values["cyborg_infra_queue_waiting", "cto", "tasks"] == 6
    assert watcher("--format", "json", "--check", "--env", "strict").code == 2


def test_workers_are_seen_when_they_wait_and_when_they_work(watcher: Watcher) -> None:
    watcher.applies(SLOW)
    asks(watcher, WORKER)
    assert (watcher.queue()["workers"], watcher.queue()["state"]) == (1, "idle")
    publish(watcher.api, TASKS)
    publish(watcher.api, INBOX)
    until(lambda: watcher.queue()["in_flight"] == 1)
    assert [watcher.queue(position)["state"] for position in (0, 1)] == ["working", "working"]
    assert watcher.queue()["last_activity"] is not None
    publish(watcher.api, "acme.agents.cso.inbox")
    states = {role["name"]: role["state"] for role in watcher("--format", "json").json["roles"]}
    assert states == {"cto": "working", "cso": "no-worker", "ceo": "idle"}


def test_a_last_delivery_that_expired_while_nobody_pulls_is_found(watcher: Watcher) -> None:
    """No dead letter yet, and lag says nothing: nothing waits."""
    watcher.applies(QUICK)
    publish(watcher.api, TASKS)
    for _ in range(2):
        fetch(watcher.api, WORKER)
    watcher.waits("expired")
    assert "perhaps after the last of 2 deliveries" in watcher("--check").out
    found = watcher.queue()
    assert (found["expired"], found["waiting"], found["state"]) == (1, 0, "expired")
    assert watcher("--format", "json").json["dead_letters"]["count"] == 0
    # The server notices what has expired when somebody pulls after that.
    until(lambda: nothing_comes(watcher.api, WORKER) and watcher.checks() == ["dead-letters"])
    letters = watcher("--format", "json").json["dead_letters"]
    assert (letters["count"], letters["newest"]["type"]) == (1, "max_deliver")
    assert (letters["newest"]["stream"], letters["newest"]["sequence"]) == ("AGENT_CTO_TASKS", 1)


def test_an_agent_that_says_that_it_is_working_is_not_expired(watcher: Watcher) -> None:
    """Progress moves `delivered.last_active`."""
    watcher.applies(SLOW + "consumers: {worker: {ack_wait: 2s}}\n")
    publish(watcher.api, TASKS)
    delivery = fetch(watcher.api, WORKER)
    since = said = time.monotonic()
    while said - since < 2.2:
        said = time.monotonic()
        watcher.api.publish(delivery.reply, b"+WPI")
        watcher.api.flush()
        found = watcher.checks()
        assert found == [] or time.monotonic() - said > 2  # where a look takes as long, it has expired
    assert watcher.queue()["state"] == "working"


def test_tasks_that_wait_for_longer_than_work_takes_without_a_worker_are_an_alarm(watcher: Watcher) -> None:
    watcher.applies(QUICK)
    publish(watcher.api, TASKS)
    watcher.waits("no-worker")
    asks(watcher, WORKER)
    until(lambda: watcher.queue()["in_flight"] == 1)
    watcher.waits("expired")


def test_unread_tasks_that_are_about_to_be_dropped_are_an_alarm_and_read_ones_are_not(
    watcher: Watcher,
) -> None:
    watcher.applies(SLOW + "streams: {tasks: {max_msgs: 10}}\nalerts: {lag: 100}\n")
    for _ in range(9):
        publish(watcher.api, TASKS)
    assert watcher.checks() == ["near-limit"]
    for _ in range(9):
        watcher.api.ask(fetch(watcher.api, WORKER).reply, b"+ACK")
    assert watcher.checks() == []


def test_a_role_with_admission_that_is_full_and_works_is_as_it_shall_be(watcher: Watcher) -> None:
    watcher.applies(SLOW + "streams: {tasks: {admission: {max_pending: 9}}}\n")
    for _ in range(9):
        publish(watcher.api, TASKS)
    fetch(watcher.api, WORKER)
    assert watcher.checks() == []
    assert watcher.checks("--lag", "5") == ["lag"]


def test_what_a_workqueue_with_admission_gave_up_keeps_its_place(watcher: Watcher) -> None:
    watcher.applies(TWICE + "streams: {tasks: {retention: workqueue, discard: new, max_msgs: 5}}\n")
    for _ in range(3):
        publish(watcher.api, TASKS)
    assert given_up(watcher) == 0
    nack(watcher.api, WORKER, times=2)
    watcher.api.ask(fetch(watcher.api, WORKER).reply, b"+ACK")
    watcher.api.ask(fetch(watcher.api, WORKER).reply, b"+ACK")
    watcher.waits("dead-letters", "given-up")
    assert given_up(watcher) == 1
    watcher.scene.ask("STREAM.MSG.DELETE.AGENT_CTO_TASKS", {"seq": 1})
    assert watcher.checks() == ["dead-letters"]


@pytest.mark.parametrize("words", ["drop 1 --yes", "replay 1"])
def test_dead_letters_are_an_alarm_until_somebody_has_handled_them(
    watcher: Watcher, cli: Cli, words: str
) -> None:
    watcher.applies(TWICE)
    publish(watcher.api, TASKS)
    nack(watcher.api, WORKER, times=2)
    assert nothing_comes(watcher.api, WORKER)
    watcher.waits("dead-letters")
    assert watcher.checks("--role", "cso") == []
    assert "cto: 1 dead letter, the newest" in watcher("--check").out
    assert cli("dlq", "keep", "--server", watcher.scene.url, "--no-context").code == 0
    assert watcher.checks() == ["dead-letters"], "cron keeps: nobody has looked at it"
    assert cli("dlq", *words.split(), "--server", watcher.scene.url, "--no-context").code == 0
    assert watcher.checks() == []


def test_the_dead_letters_of_a_role_are_an_alarm_behind_any_number_of_newer_ones(watcher: Watcher) -> None:
    watcher.applies(f"{SLOW}alerts: {{dead_letters: {{count: 2}}}}\n")

    def fails(role: str, times: int) -> None:
        for number in range(times):
            notice = {
                "stream": f"AGENT_{role.upper()}_TASKS",
                "stream_seq": number + 1,
                "consumer": f"{role}-worker",
            }
            subject = f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{notice['stream']}.{notice['consumer']}"
            publish(watcher.api, subject, json.dumps(notice).encode())

    fails("cso", 1)
    fails("cto", 2)
    fails("ceo", 51)
    told = watcher("--check")
    assert [row.partition(", the newest")[0] for row in told.out.splitlines()] == [
        f"dead-letters: {role}: {number} dead letters or more" for role, number in (("ceo", 51), ("cto", 2))
    ]
    assert watcher.checks("--role", "cto") == ["dead-letters"]
    assert watcher.checks("--role", "cso") == []


def test_streams_of_another_organisation_are_not_taken_for_ones_own(watcher: Watcher, project: Path) -> None:
    watcher.applies(TWICE)
    publish(watcher.api, TASKS)
    term(watcher.api, WORKER, "no")
    watcher.waits("dead-letters")
    (project / "org.yaml").write_text("org: other\nroles: [cto]\n", encoding="utf-8")
    told = watcher("--check")
    assert told.code == 2
    assert told.out == (
        "missing: of organisation acme, and not of other: AGENT_CTO_TASKS, AGENT_CTO_TASKS/cto-worker, AGENT_INBOXES, "
        "AGENT_INBOXES/cto-inbox-reader, DEAD_LETTERS, DEAD_LETTERS/dead-letter-alerts, ORG_BROADCASTS and 1 more; "
        "see cyborg-infra plan\n"
    )
    assert watcher.queue()["state"] == "missing"


def test_what_a_workqueue_stores_under_another_subject_was_not_given_up(watcher: Watcher) -> None:
    watcher.applies(
        f"{SLOW}streams: {{tasks: {{retention: workqueue, "
        'subject_transform: {src: "acme.agents.*.tasks", dest: "acme.moved.{{wildcard(1)}}"}}}\n'
    )
    publish(watcher.api, TASKS)
    assert watcher.checks() == ["unmatched-subject"]


def given_up(watcher: Watcher) -> Any:
    streams = watcher("--format", "json").json["streams"]
    (found,) = (stream for stream in streams if stream["ref"] == "AGENT_CTO_TASKS")
    return found["given_up"]


def test_who_has_acknowledged_which_broadcast(watcher: Watcher) -> None:
    watcher.applies(SLOW)
    for _ in range(3):
        publish(watcher.api, BROADCASTS)
    with watcher.scene.requests() as requests:
        assert watcher.checks() == []
    looked_for = [request.body for request in requests if "next_by_subj" in (request.body or ())]
    assert looked_for == [{"seq": 1, "next_by_subj": BROADCASTS}]  # once for all readers

    def reader(role: str) -> str:
        return f"ORG_BROADCASTS/{role}-broadcast-reader"

    watcher.api.ask(fetch(watcher.api, reader("cto")).reply, b"+ACK")
    term(watcher.api, reader("cto"), "not for me")
    first, second = fetch(watcher.api, reader("cso")), fetch(watcher.api, reader("cso"))
    assert first.reply != second.reply
    watcher.api.ask(second.reply, b"+ACK")
    until(lambda: watcher("--format", "json").json["dead_letters"]["count"] == 1)
    told = watcher("--format", "json").json["broadcasts"]
    kinds = ("acknowledged", "open", "given_up", "unknown")
    assert [[found["seq"], *(found[kind] for kind in kinds)] for found in told] == [
        [3, [], ["cto", "cso", "ceo"], [], []],
        [2, [], ["ceo"], ["cto"], ["cso"]],
        [1, ["cto"], ["ceo"], [], ["cso"]],
    ]
    assert watcher.checks() == ["dead-letters"]
    late = watcher("--check", "--broadcast-ack", "1ms")
    assert late.code == 2
    assert [row.partition("acknowledged by ")[2] for row in late.out.splitlines()] == [
        *("cto, cso, ceo", "ceo, cto (given up)", "ceo", "cso", "")
    ]


def test_a_paused_consumer_is_an_alarm(
    server: EmbeddedServer, tmp_path: Path, cli: Cli, project: Path
) -> None:
    """nats-server 2.10 cannot pause."""
    with Scenario(server.url, tmp_path) as scene:
        watcher = Watcher(scene, cli, project)
        watcher.applies(SLOW)
        scene.ask("CONSUMER.PAUSE.AGENT_CTO_TASKS.cto-worker", {"pause_until": "2099-01-01T00:00:00Z"})
        assert watcher.checks() == ["paused"]
        publish(scene.api, TASKS)
        assert watcher.queue()["state"] == "paused"


def test_a_stream_without_a_leader_is_an_alarm_beside_what_can_be_read(
    tmp_path: Path, cli: Cli, project: Path
) -> None:
    with running_cluster(tmp_path / "cluster") as servers, Scenario(servers[0].url, tmp_path) as scene:
        watcher = Watcher(scene, cli, project)
        manifest = (
            "org: acme\ndefaults: {placement: {tags: [n0]}}\n"
            "roles: {cto: , cso: {tasks: {placement: {tags: [n2]}}}}\n"
        )
        watcher.applies(manifest)
        publish(scene.api, TASKS)
        lead_by_another(servers, "n2")
        servers[2].kill()
        ended = watcher("--check", "--timeout", "1s")
        assert ended.code == 2
        assert ended.out.startswith("no-leader: AGENT_CSO_TASKS: ")
        assert len(ended.out.splitlines()) == 1
        assert watcher.queue()["waiting"] == 1


def test_a_server_less_is_an_alarm_and_an_election_is_none(tmp_path: Path, cli: Cli, project: Path) -> None:
    """Of every stream and consumer that has a copy there, the dead letters' included."""
    with running_cluster(tmp_path / "cluster") as servers, Scenario(servers[0].url, tmp_path) as scene:
        watcher = Watcher(scene, cli, project)
        watcher.applies("org: acme\ndefaults: {replicas: 3}\nroles: [cto]\n")
        assert watcher.checks() == []
        for stream in ("AGENT_CTO_TASKS", "DEAD_LETTERS"):
            scene.ask(f"STREAM.LEADER.STEPDOWN.{stream}")
            scene.ask(f"CONSUMER.LEADER.STEPDOWN.{WORKER.replace('/', '.')}")
            assert watcher.checks() == []
        ours = {ref for ref in scene.refs() if ref.startswith(("AGENT_CTO_TASKS", *SHARED))}

        lead_by_another(servers, "n2")
        servers[2].kill()

        def told() -> dict[str, Any]:
            found: dict[str, Any] = watcher("--format", "json").json
            return found

        looks: list[str] = []

        def lost() -> set[tuple[str, str]]:
            looks.extend(line for line in watcher("--check").out.splitlines() if line.startswith("replicas"))
            return {
                (each["server"], ref)
                for each in told()["behind"]
                for ref in each["streams"] + each["consumers"]
            }

        # A leader that was there before calls a copy current until it has not heard of it for ten seconds.
        until(lambda: lost() == {("n2", ref) for ref in ours})
        assert watcher.checks() == ["replicas"]
        until(lambda: "at least" not in watcher("--check").out)
        final = watcher("--check").out.rpartition("its copies of ")[2].strip()
        assert [line for line in looks if "at least" not in line and final not in line] == []
        assert_fits("status", told())
        assert {(found["replicas"], found["replicas_behind"]) for found in told()["streams"]} == {(3, 1)}
        assert "server n2 is behind" in watcher("--check").out
        samples = {
            (sample.name, sample.labels.get("server") or sample.labels.get("stream")): sample.value
            for family in text_string_to_metric_families(watcher("--format", "prometheus").out)
            for sample in family.samples
        }
        assert samples["cyborg_infra_server_copies_behind", "n2"] == len(ours)
        assert samples["cyborg_infra_stream_replicas_behind", "DEAD_LETTERS"] == 1
        servers[2].start()
        until(lambda: watcher.checks() == [])


def test_a_consumer_ahead_of_its_stream_is_an_alarm_that_says_what_mends_it(
    watcher: Watcher, any_server: EmbeddedServer
) -> None:
    """Before 2.15, whose consumers go back to where their stream ends; either way new tasks come in the end."""
    watcher.applies(SLOW)
    for _ in range(3):
        publish(watcher.api, TASKS)
        watcher.api.ask(fetch(watcher.api, WORKER).reply, b"+ACK")
    any_server.stop()
    (messages,) = any_server.store_dir.rglob("AGENT_CTO_TASKS/msgs")
    for file in messages.iterdir():
        file.unlink()
    any_server.start()
    watcher.scene.reconnect()
    watcher.api = watcher.scene.api
    assert publish(watcher.api, TASKS) == 1
    told = watcher("--format", "json").json
    if told["alarms"]:
        (alarm,) = told["alarms"]
        assert (alarm["code"], told["roles"][0]["state"]) == ("ahead", "ahead")
        assert "nats consumer rm AGENT_CTO_TASKS cto-worker, then cyborg-infra apply" in alarm["message"]
        assert nothing_comes(watcher.api, WORKER)
        watcher.scene.ask(f"CONSUMER.DELETE.{WORKER.replace('/', '.')}")
        watcher.applies(SLOW)
        assert watcher.checks() == []
    fetch(watcher.api, WORKER)


def test_the_newest_dead_letters_and_broadcasts_are_found_behind_those_that_were_deleted(
    watcher: Watcher,
) -> None:
    """Whoever has dealt with a hundred leaves a hundred numbers without a message."""
    watcher.applies(SLOW)
    publish(watcher.api, BROADCASTS)
    term(watcher.api, "ORG_BROADCASTS/cto-broadcast-reader")
    for role in ("cso", "ceo"):
        watcher.api.ask(fetch(watcher.api, f"ORG_BROADCASTS/{role}-broadcast-reader").reply, b"+ACK")
    until(lambda: watcher.scene.info("DEAD_LETTERS")["state"]["messages"] == 1)
    for subject, stream in (("acme.org.deadletter", "DEAD_LETTERS"), (BROADCASTS, "ORG_BROADCASTS")):
        for number in [publish(watcher.api, subject) for _ in range(60)]:
            watcher.scene.ask(f"STREAM.MSG.DELETE.{stream}", {"seq": number})
    found = watcher("--format", "json").json
    assert (found["dead_letters"]["count"], found["dead_letters"]["newest"]["type"]) == (1, "terminated")
    (broadcast,) = found["broadcasts"]
    assert (broadcast["given_up"], broadcast["acknowledged"]) == (["cto"], ["cso", "ceo"])


def test_without_leave_to_read_messages_the_rest_is_told(
    start_server: StartServer, cli: Cli, tmp_path: Path, project: Path
) -> None:
    users = """authorization { users: [
        {user: admin, password: admin},
        {user: reader, password: reader, permissions: {publish: {deny: "$JS.API.STREAM.MSG.GET.>"}}}
    ]}"""
    server = start_server(config=users)
    url = server.url.replace("nats://", "nats://admin:admin@")
    with Scenario(url, tmp_path) as scene:
        scene.converge(SLOW)
        (project / "org.yaml").write_text(SLOW, encoding="utf-8")
        for _ in range(6):
            publish(scene.api, TASKS)
        ended = cli(
            "status", "--server", url.replace("admin:admin", "reader:reader"), "--check", "--format", "json"
        )
    assert ended.code == 2
    assert ended.json["roles"][0]["queues"][0]["waiting"] == 6
    assert "may not read messages" in ended.json["notes"][0]


# On a terminal


def test_watch_goes_on_until_ctrl_c_and_shows_what_is_new(
    server: EmbeddedServer, project: Path, tmp_path: Path
) -> None:
    with Scenario(server.url, tmp_path) as scene:
        (project / "org.yaml").write_text(SLOW, encoding="utf-8")
        scene.converge(SLOW)
        terminal = Terminal("status", "--server", server.url, "--watch", "--interval", "100ms", cwd=project)
        terminal.until("Nothing is above a threshold.")
        for _ in range(6):
            publish(scene.api, TASKS)
        terminal.until("6 waiting, more than 5")
        terminal.process.send_signal(signal.SIGINT)
        ended = terminal.ended()
    assert ended.code == 0
    assert "Traceback" not in ended.out


def test_a_server_that_goes_away_ends_watch_with_one_line_and_1(
    server: EmbeddedServer, project: Path
) -> None:
    terminal = Terminal("status", "--server", server.url, "--watch", "--interval", "100ms", cwd=project)
    terminal.until("not on the server")
    server.kill()
    ended = terminal.ended()
    assert ended.code == 1
    assert ended.out.count("Error: ") == 1
    assert f"lost the connection to {server.url}" in " ".join(ended.out.split())
    assert "Traceback" not in ended.out


@pytest.mark.parametrize("arguments", ["--watch", "--watch --check", "--watch --format json"])
def test_watch_needs_a_terminal_for_itself(project: Path, arguments: str) -> None:
    ended = run_process("status", *arguments.split(), "--server", "nats://127.0.0.1:1", cwd=project)
    assert ended.code == 1
    assert ended.err.startswith("Error: --watch ")


def test_watch_does_not_look_all_the_time(cli: Cli) -> None:
    ended = cli("status", "--interval", "0", "--server", "nats://127.0.0.1:1")
    assert (ended.code, ended.err) == (1, "Error: --interval: at least 0.1s\n")
