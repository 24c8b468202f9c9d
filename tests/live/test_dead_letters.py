"""What fails for good is kept by the infrastructure alone: nothing of ours runs while these messages fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import fetch, give_back, give_up, nothing_comes, publish
from raw import Api
from scene import Scene
from servers import OLDEST, StartServer

from cyborg_infra.core.notes import ADVISES_LOWERED_MAX_DELIVER
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.fields import Version

EXAMPLE = (Path(__file__).parents[2] / "org.yaml").read_text(encoding="utf-8")
ALERTS = "DEAD_LETTERS/dead-letter-alerts"
WORKER = "AGENT_CTO_TASKS/cto-worker"
TASKS = "genbrain.agents.cto.tasks"
WORKERS = "org: genbrain\nroles: [cto]\nconsumers: {worker: {ack_wait: %s, max_deliver: %d}}\n"


@pytest.fixture
def scene(any_server: EmbeddedServer, tmp_path: Path) -> Iterator[Scene]:
    with Scene(any_server.url, tmp_path) as opened:
        yield opened


@pytest.fixture
def example(scene: Scene) -> Api:
    """org.yaml is applied; this is what its agents talk through."""
    scene.converge(EXAMPLE)
    return scene.api


def test_a_task_given_back_three_times_is_a_dead_letter(example: Api) -> None:
    publish(example, TASKS, b"easy")
    example.publish(fetch(example, WORKER).reply, b"+ACK")
    sequence = publish(example, TASKS, b"too hard")
    give_back(example, WORKER, times=3)
    assert nothing_comes(example, WORKER)  # the server notices when somebody pulls
    letter = the_dead_letter(example, WORKER)
    assert letter == {"type": "max_deliver", "stream_seq": sequence, "deliveries": 3}


def test_a_task_that_three_agents_died_with_is_a_dead_letter(scene: Scene) -> None:
    scene.converge(WORKERS % ("200ms", 3))
    sequence = publish(scene.api, TASKS, b"deadly")
    for _ in range(3):
        fetch(scene.api, WORKER)
    assert nothing_comes(scene.api, WORKER, within=1)
    letter = the_dead_letter(scene.api, WORKER)
    assert letter == {"type": "max_deliver", "stream_seq": sequence, "deliveries": 3}


def test_a_terminated_message_is_a_dead_letter_with_its_reason(example: Api) -> None:
    publish(example, "genbrain.agents.nobody.inbox", b"hello?")
    sequence = publish(example, "genbrain.agents.cso.inbox", b"nonsense")
    give_up(example, "AGENT_INBOXES/cso-inbox-reader", "not for me")
    letter = the_dead_letter(example, "AGENT_INBOXES/cso-inbox-reader")
    assert letter == {"type": "terminated", "stream_seq": sequence, "deliveries": 1, "reason": "not for me"}


def test_in_an_account_of_ones_own_two_subjects_route_every_dead_letter(scene: Scene) -> None:
    """What docs/scale.md advises from 1,000 roles on; coming from one pair for each stream, nothing stops being kept."""
    scene.converge(WORKERS % ("200ms", 3))
    notices = [f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.*.*" for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")]
    routed = f"streams: {{dead_letters: {{subjects: {['genbrain.org.deadletter', *notices]}}}}}\n"
    wish = scene.wish(WORKERS % ("200ms", 3) + routed)
    assert not scene.plan(wish).hazards
    scene.converge(WORKERS % ("200ms", 3) + routed)
    sequence = publish(scene.api, TASKS, b"too hard")
    give_back(scene.api, WORKER, times=3)
    assert nothing_comes(scene.api, WORKER)
    letter = the_dead_letter(scene.api, WORKER)
    assert letter == {"type": "max_deliver", "stream_seq": sequence, "deliveries": 3}


def test_a_durable_event_that_fails_in_an_event_reader_is_a_dead_letter(scene: Scene) -> None:
    scene.converge("""
org: genbrain
roles: [cto, cso]
events: {deploy.complete: {publishers: [cto], subscribers: [cso], durable: true}}
""")
    sequence = publish(scene.api, "genbrain.events.deploy.complete", b"2.0")
    give_back(scene.api, "ORG_EVENTS/cso-event-reader", times=3)
    assert nothing_comes(scene.api, "ORG_EVENTS/cso-event-reader")
    letter = the_dead_letter(scene.api, "ORG_EVENTS/cso-event-reader")
    assert letter == {"type": "max_deliver", "stream_seq": sequence, "deliveries": 3}


def test_a_message_that_an_agent_hands_in_itself_is_kept_under_its_own_subject(example: Api) -> None:
    publish(example, "genbrain.org.deadletter", b"the whole message")
    assert kept(example) == {"genbrain.org.deadletter": 1}
    assert fetch(example, ALERTS).data == b"the whole message"


def test_failures_of_other_streams_in_the_account_are_not_ours(scene: Scene, example: Api) -> None:
    notices = example.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>")
    scene.ask("STREAM.CREATE.AGENT_NEW_TASKS", {"name": "AGENT_NEW_TASKS", "subjects": ["elsewhere"]})
    reader = {"stream_name": "AGENT_NEW_TASKS", "config": {"durable_name": "r", "ack_policy": "explicit"}}
    scene.ask("CONSUMER.DURABLE.CREATE.AGENT_NEW_TASKS.r", reader)
    publish(example, "elsewhere")
    give_up(example, "AGENT_NEW_TASKS/r")
    assert notices.next().json["stream"] == "AGENT_NEW_TASKS"
    publish(example, "genbrain.org.deadletter", b"ours")
    assert kept(example) == {"genbrain.org.deadletter": 1}


def test_two_organisations_in_one_account_keep_their_own_dead_letters(scene: Scene, example: Api) -> None:
    scene.converge("org: acme\nroles: [cto]\nnaming: {stream_prefix: ACME_}\n")
    publish(example, "acme.agents.cto.tasks", b"task")
    give_up(example, "ACME_AGENT_CTO_TASKS/cto-worker")
    fetch(example, "ACME_DEAD_LETTERS/dead-letter-alerts")
    assert kept(example, "ACME_DEAD_LETTERS") == {"acme.org.deadletter.ACME_AGENT_CTO_TASKS.cto-worker": 1}
    assert kept(example) == {}


def test_a_dead_letter_that_is_given_up_makes_no_dead_letter(example: Api) -> None:
    notices = example.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>")
    publish(example, "genbrain.org.deadletter", b"unreadable")
    give_up(example, ALERTS)
    assert notices.next().json["stream"] == "DEAD_LETTERS"
    publish(example, "genbrain.org.deadletter", b"afterwards")
    assert kept(example) == {"genbrain.org.deadletter": 2}


def test_the_plan_tells_whether_a_lowered_max_deliver_makes_dead_letters(scene: Scene) -> None:
    """A message that was handed out more often than the new limit is given up: with a notice, or silently.

    Measured: 2.10.26, 2.11.11, 2.12.8, 2.14.6 and 2.15.0 send none, 2.15.1 does.
    """
    scene.converge(WORKERS % ("30s", 5))
    publish(scene.api, TASKS, b"too hard")
    give_back(scene.api, WORKER, times=3)
    plan = scene.plan(scene.wish(WORKERS % ("30s", 2)))
    scene.converge(WORKERS % ("30s", 2))
    assert nothing_comes(scene.api, WORKER)
    publish(scene.api, TASKS, b"nonsense")
    give_up(scene.api, WORKER)
    first = fetch(scene.api, ALERTS).json["type"]
    silent = first.endswith("terminated")  # else the notice of the task given up came before
    told = any("lowered max_deliver" in note for note in plan.notes)
    assert told == silent == (Version.parse(scene.api.info["version"]) < ADVISES_LOWERED_MAX_DELIVER)


def test_a_raised_max_deliver_is_no_reason_for_a_note(start_server: StartServer, tmp_path: Path) -> None:
    with Scene(start_server(version=OLDEST).url, tmp_path) as scene:
        scene.converge(WORKERS % ("30s", 3))
        assert [scene.plan(scene.wish(WORKERS % ("30s", raised))).notes for raised in (4, -1)] == [(), ()]


def kept(agents: Api, stream: str = "DEAD_LETTERS") -> dict[str, int]:
    """How many messages the stream holds under each subject."""
    info = agents.request(f"$JS.API.STREAM.INFO.{stream}", {"subjects_filter": ">"})
    found: dict[str, int] = info["state"].get("subjects") or {}
    return found


def the_dead_letter(agents: Api, ref: str) -> dict[str, Any]:
    """The only dead letter, which a person is alerted of: it is of this consumer, and stored under its name."""
    notice = fetch(agents, ALERTS).json
    assert f"{notice['stream']}/{notice['consumer']}" == ref
    assert kept(agents) == {f"genbrain.org.deadletter.{ref.replace('/', '.')}": 1}
    told = {key: notice[key] for key in ("stream_seq", "deliveries", "reason") if key in notice}
    return {"type": notice["type"].rpartition(".")[2]} | told
