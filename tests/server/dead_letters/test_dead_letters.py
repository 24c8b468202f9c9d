"""What fails for good is kept by the infrastructure alone: nothing of ours runs while these messages fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.lint.lint import lint
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.server_versions import Capability, Version
from tests.support.agents import fetch, nack, nothing_comes, publish, term, until
from tests.support.nats_client import Api
from tests.support.scenario import Scenario
from tests.support.servers import OLDEST, StartServer

EXAMPLE = (Path(__file__).parents[3] / "org.yaml").read_text(encoding="utf-8")
ALERTS = "DEAD_LETTERS/dead-letter-alerts"
WORKER = "AGENT_CTO_TASKS/cto-worker"
TASKS = "genbrain.agents.cto.tasks"
WORKERS = "org: genbrain\nroles: [cto]\nconsumers: {worker: {ack_wait: %s, max_deliver: %d}}\n"


@pytest.fixture
def example(scenario: Scenario) -> Api:
    """org.yaml is applied; this is what its agents talk through."""
    scenario.converge(EXAMPLE)
    return scenario.api


def test_a_task_given_back_three_times_is_a_dead_letter(example: Api) -> None:
    publish(example, TASKS, b"easy")
    example.publish(fetch(example, WORKER).reply, b"+ACK")
    sequence = publish(example, TASKS, b"too hard")
    nack(example, WORKER, times=3)
    assert nothing_comes(example, WORKER)  # the server notices when somebody pulls
    letter = the_dead_letter(example, WORKER)
    assert letter == {"type": "max_deliver", "stream_seq": sequence, "deliveries": 3}


def test_a_task_that_three_agents_died_with_is_a_dead_letter(scenario: Scenario) -> None:
    scenario.converge(WORKERS % ("200ms", 3))
    sequence = publish(scenario.api, TASKS, b"deadly")
    for _ in range(3):
        fetch(scenario.api, WORKER)
    # The server notices what has expired when somebody pulls after that.
    until(lambda: nothing_comes(scenario.api, WORKER) and letters(scenario) == 1)
    letter = the_dead_letter(scenario.api, WORKER)
    assert letter == {"type": "max_deliver", "stream_seq": sequence, "deliveries": 3}


def test_a_terminated_message_is_a_dead_letter_with_its_reason(example: Api) -> None:
    publish(example, "genbrain.agents.nobody.inbox", b"hello?")
    sequence = publish(example, "genbrain.agents.cso.inbox", b"nonsense")
    term(example, "AGENT_INBOXES/cso-inbox-reader", "not for me")
    letter = the_dead_letter(example, "AGENT_INBOXES/cso-inbox-reader")
    assert letter == {"type": "terminated", "stream_seq": sequence, "deliveries": 1, "reason": "not for me"}


def test_in_an_account_of_ones_own_two_subjects_route_every_dead_letter(scenario: Scenario) -> None:
    """What docs/scale.md advises from 1,000 roles on; coming from one pair for each stream, nothing stops being kept."""
    scenario.converge(WORKERS % ("200ms", 3))
    notices = [f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.*.*" for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")]
    routed = f"streams: {{dead_letters: {{subjects: {['genbrain.org.deadletter', *notices]}}}}}\n"
    wish = scenario.request(WORKERS % ("200ms", 3) + routed)
    assert not scenario.plan(wish).hazards
    scenario.converge(WORKERS % ("200ms", 3) + routed)
    sequence = publish(scenario.api, TASKS, b"too hard")
    nack(scenario.api, WORKER, times=3)
    assert nothing_comes(scenario.api, WORKER)
    letter = the_dead_letter(scenario.api, WORKER)
    assert letter == {"type": "max_deliver", "stream_seq": sequence, "deliveries": 3}


def test_a_durable_event_that_fails_in_an_event_reader_is_a_dead_letter(scenario: Scenario) -> None:
    scenario.converge("""
org: genbrain
roles: [cto, cso]
events: {deploy.complete: {publishers: [cto], subscribers: [cso], durable: true}}
""")
    sequence = publish(scenario.api, "genbrain.events.deploy.complete", b"2.0")
    nack(scenario.api, "ORG_EVENTS/cso-event-reader", times=3)
    assert nothing_comes(scenario.api, "ORG_EVENTS/cso-event-reader")
    letter = the_dead_letter(scenario.api, "ORG_EVENTS/cso-event-reader")
    assert letter == {"type": "max_deliver", "stream_seq": sequence, "deliveries": 3}


def test_a_message_that_an_agent_hands_in_itself_is_kept_under_its_own_subject(example: Api) -> None:
    publish(example, "genbrain.org.deadletter", b"the whole message")
    assert kept(example) == {"genbrain.org.deadletter": 1}
    assert fetch(example, ALERTS).data == b"the whole message"


def test_failures_of_other_streams_in_the_account_are_not_ours(scenario: Scenario, example: Api) -> None:
    notices = example.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>")
    scenario.ask("STREAM.CREATE.AGENT_NEW_TASKS", {"name": "AGENT_NEW_TASKS", "subjects": ["elsewhere"]})
    reader = {"stream_name": "AGENT_NEW_TASKS", "config": {"durable_name": "r", "ack_policy": "explicit"}}
    scenario.ask("CONSUMER.DURABLE.CREATE.AGENT_NEW_TASKS.r", reader)
    publish(example, "elsewhere")
    term(example, "AGENT_NEW_TASKS/r")
    assert notices.next().json["stream"] == "AGENT_NEW_TASKS"
    publish(example, "genbrain.org.deadletter", b"ours")
    assert kept(example) == {"genbrain.org.deadletter": 1}


def test_two_organisations_in_one_account_keep_their_own_dead_letters(
    scenario: Scenario, example: Api
) -> None:
    scenario.converge("org: acme\nroles: [cto]\nnaming: {stream_prefix: ACME_}\n")
    publish(example, "acme.agents.cto.tasks", b"task")
    term(example, "ACME_AGENT_CTO_TASKS/cto-worker")
    fetch(example, "ACME_DEAD_LETTERS/dead-letter-alerts")
    assert kept(example, "ACME_DEAD_LETTERS") == {"acme.org.deadletter.ACME_AGENT_CTO_TASKS.cto-worker": 1}
    assert kept(example) == {}


def test_a_dead_letter_that_is_given_up_makes_no_dead_letter(example: Api) -> None:
    notices = example.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>")
    publish(example, "genbrain.org.deadletter", b"unreadable")
    term(example, ALERTS)
    assert notices.next().json["stream"] == "DEAD_LETTERS"
    publish(example, "genbrain.org.deadletter", b"afterwards")
    assert kept(example) == {"genbrain.org.deadletter": 2}


def test_the_plan_tells_whether_a_lowered_max_deliver_makes_dead_letters(scenario: Scenario) -> None:
    """A message that was handed out more often than the new limit is given up: with a notice, or silently.

    Measured: 2.10.26, 2.11.11, 2.12.8, 2.14.6 and 2.15.0 send none, 2.15.1 does.
    """
    scenario.converge(WORKERS % ("30s", 5))
    publish(scenario.api, TASKS, b"too hard")
    nack(scenario.api, WORKER, times=3)
    plan = scenario.plan(scenario.request(WORKERS % ("30s", 2)))
    scenario.converge(WORKERS % ("30s", 2))
    assert nothing_comes(scenario.api, WORKER)
    publish(scenario.api, TASKS, b"nonsense")
    term(scenario.api, WORKER)
    first = fetch(scenario.api, ALERTS).json["type"]
    silent = first.endswith("terminated")  # else the notice of the task given up came before
    told = any("lowered max_deliver" in note for note in plan.notes)
    assert (
        told
        == silent
        == (Version.parse(scenario.api.info["version"]) < Capability.ADVISE_OF_LOWERED_MAX_DELIVER.since)
    )


def test_a_raised_max_deliver_is_no_reason_for_a_note(start_server: StartServer, tmp_path: Path) -> None:
    with Scenario(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(WORKERS % ("30s", 3))
        assert [scene.plan(scene.request(WORKERS % ("30s", raised))).notes for raised in (4, -1)] == [(), ()]


def kept(agents: Api, stream: str = "DEAD_LETTERS") -> dict[str, int]:
    """Return how many messages the stream holds under each subject."""
    info = agents.request(f"$JS.API.STREAM.INFO.{stream}", {"subjects_filter": ">"})
    found: dict[str, int] = info["state"].get("subjects") or {}
    return found


def letters(scenario: Scenario) -> int:
    count: int = scenario.info("DEAD_LETTERS")["state"]["messages"]
    return count


def the_dead_letter(agents: Api, ref: str) -> dict[str, Any]:
    """Return the only dead letter, which a person is alerted of: it is of this consumer, and stored under its name."""
    notice = fetch(agents, ALERTS).json
    assert f"{notice['stream']}/{notice['consumer']}" == ref
    assert kept(agents) == {f"genbrain.org.deadletter.{ref.replace('/', '.')}": 1}
    told = {key: notice[key] for key in ("stream_seq", "deliveries", "reason") if key in notice}
    return {"type": notice["type"].rpartition(".")[2]} | told


WIDE = """\
org: genbrain
roles: [cto]
streams:
  dead_letters:
    subjects:
      - genbrain.org.deadletter
      - $JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.*.*
      - $JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.*.*
"""
"""The routes that `many-routes` advises: the same for every stream of the account, DEAD_LETTERS among them."""

ADVISED = WIDE + "consumers: {dead_letter_alerts: {ack_policy: none}}\n"
"""And what it advises beside them."""


@pytest.mark.parametrize("manifest", [WIDE, ADVISED], ids=["wide", "advised"])
def test_a_handler_that_gives_up_is_handed_its_own_notices_without_end_only_where_a_warning_tells(
    scenario: Scenario, manifest: str
) -> None:
    scenario.converge(manifest)
    publish(scenario.api, TASKS, b"impossible")
    term(scenario.api, WORKER, "no")
    org = loads(manifest)
    told = {each.code for each in lint(org, expand(org))}
    rounds = 20 if "own-notices" in told else 1
    for _ in range(rounds):
        # With `ack_policy: none` nobody hears that.
        scenario.api.publish(fetch(scenario.api, ALERTS).reply, b"+TERM what is that?")
    if rounds == 1:
        assert nothing_comes(scenario.api, ALERTS, within=1)
    else:
        fetch(scenario.api, ALERTS)
    until(lambda: letters(scenario) == (1 if rounds == 1 else rounds + 1))
    assert told == ({"own-notices"} if manifest == WIDE else set())


LISTENING = "{subjects: [genbrain.agents.ops.tasks, notices.>]}, worker: {filter_subjects: [genbrain.agents.ops.tasks, notices.>]}"
FORWARDED = f"""\
org: genbrain
roles: {{ops: {{tasks: {LISTENING}}}}}
streams: {{dead_letters: {{republish: {{src: genbrain.org.deadletter.>, dest: notices.>}}}}}}
"""
COPIED = """\
org: genbrain
roles: {ops: {tasks: {sources: [{name: DEAD_LETTERS}]}, worker: {filter_subjects: [genbrain.org.deadletter, genbrain.org.deadletter.>]}}}
"""


@pytest.mark.parametrize("manifest", [FORWARDED, COPIED], ids=["republished", "copied"])
def test_a_worker_to_whom_dead_letters_are_passed_on_is_handed_its_own(
    scenario: Scenario, manifest: str
) -> None:
    """What it ends comes back to it by way of another stream, without end, and `validate` says so."""
    scenario.converge(manifest)
    publish(
        scenario.api, "notices.one" if manifest == FORWARDED else "genbrain.org.deadletter", b"impossible"
    )
    org = loads(manifest)
    assert "own-notices" in {each.code for each in lint(org, expand(org))}
    for _ in range(10):
        term(scenario.api, "AGENT_OPS_TASKS/ops-worker", "what is that?")


def test_a_worker_to_whom_other_dead_letters_are_passed_on_is_not_warned_of() -> None:
    org = loads(FORWARDED.replace("dest: notices.>", "dest: elsewhere.>"))
    assert "own-notices" not in {each.code for each in lint(org, expand(org))}


def test_who_follows_the_advice_later_and_goes_back_is_handed_each_letter_once(scenario: Scenario) -> None:
    """The ack_policy of a consumer is not changed but by a new one, which goes on where the old one stood."""
    scenario.converge(WIDE)
    for name in (b"first", b"second", b"third"):
        publish(scenario.api, "genbrain.org.deadletter", name)
    handled = fetch(scenario.api, ALERTS)
    scenario.api.ask(handled.reply, b"+ACK")
    found = [handled.data]
    for manifest in (ADVISED, WIDE):
        scenario.converge(manifest)
        found.append(fetch(scenario.api, ALERTS).data)
    assert found == [b"first", b"second", b"third"]
    assert scenario.plan(scenario.request(WIDE)).changes == ()
