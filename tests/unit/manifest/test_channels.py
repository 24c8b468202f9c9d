"""What a manifest says of channels and names, and where it may say it."""

from __future__ import annotations

import json

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.desired.naming import advisories_of_stream
from cyborg_infra.core.operate.outgoing import prepare_messages
from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.messages import check_messages
from cyborg_infra.model.channels import BUILT_IN, ConsumerKind, StreamKind, is_kind
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.outgoing import Destination
from cyborg_infra.model.problems import UsageInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.units import HOUR, MINUTE
from tests.support.agents import TASK

OWN = """\
org: acme
roles:
  cto: {control_reader: {ack_wait: 3m}}
  cso:
channels:
  control: {of: role, durable: true, stream: {max_age: 1h}, reader: {ack_wait: 1m}}
streams:
  control: {max_msgs: 5}
environments:
  production:
    streams: {control: {max_age: 2h}}
    roles: {cso: {control_reader: {ack_wait: 4m}}}
    naming: {stream_prefix: P_, subject_prefix: acme.eu, streams: {control: CTL}}
"""


def config(org: Org, ref: str) -> dict[str, object]:
    stream, _, consumer = ref.partition("/")
    return dict(expand(org).resources[Ref(stream, consumer)].config)


def test_without_a_word_there_are_the_built_in_channels() -> None:
    assert loads("org: acme\nroles: [cto]\n").channels == BUILT_IN


def test_a_setting_may_stand_at_the_channel_at_its_kind_and_at_a_role() -> None:
    org = loads(OWN)
    assert org.layers[0].streams[StreamKind("control")] == {"max_age": HOUR, "max_msgs": 5}
    assert config(org, "AGENT_CONTROL/cto-control-reader")["ack_wait"] == 3 * MINUTE
    assert config(org, "AGENT_CONTROL/cso-control-reader")["ack_wait"] == MINUTE


def test_an_environment_changes_settings_and_names_of_a_channel() -> None:
    org = loads(OWN, "production")
    stream = config(org, "P_CTL")
    assert (stream["max_age"], stream["max_msgs"]) == (2 * HOUR, 5)
    assert stream["subjects"] == ["acme.eu.agents.*.control"]
    assert config(org, "P_CTL/cso-control-reader")["ack_wait"] == 4 * MINUTE


def test_a_problem_of_a_channel_has_the_place_where_the_channel_says_it() -> None:
    org = loads(OWN)
    where = org.marks["streams", "control", "max_age"]
    assert (where.line, where.column) == (6, 56)


def test_a_role_may_have_a_stream_of_its_own_for_a_channel() -> None:
    org = loads(
        "org: acme\nroles: {cto: {control: {max_msgs: 9}}, cso: }\n"
        "channels: {control: {of: role, durable: true}}\nnaming: {streams: {control: 'C_{ROLE}'}}\n"
    )
    assert (config(org, "C_CTO")["max_msgs"], config(org, "C_CSO")["max_msgs"]) == (9, -1)
    assert config(org, "C_CTO/cto-control-reader")["filter_subject"] == "acme.agents.cto.control"


def test_a_stream_of_thousands_of_readers_has_room_for_them() -> None:
    roles = ", ".join(f"r{number}" for number in range(1500))
    org = loads(f"org: acme\nroles: [{roles}]\nchannels: {{control: {{of: role, durable: true}}}}\n")
    assert config(org, "AGENT_CONTROL")["max_consumers"] == 2000
    assert config(org, "AGENT_CONTROL/r7-control-reader")["filter_subject"] == "acme.agents.r7.control"


def test_dead_letters_hear_of_every_stream_but_their_own() -> None:
    state = expand(loads(OWN))
    heard = {*state.resources[Ref("DEAD_LETTERS")].config["subjects"]}
    for stream in state.streams():
        assert heard.issuperset(advisories_of_stream(stream.ref.stream)) == (
            stream.ref.stream != "DEAD_LETTERS"
        )


@pytest.mark.parametrize(
    ("channels", "code"),
    [
        ("tasks: false", "no-channel"),
        ('tasks: {subject: "agents.{role}.tasks.>"}', "no-send-to"),
    ],
)
def test_a_task_is_sent_to_one_subject_or_not_at_all(channels: str, code: str) -> None:
    org = loads(f"org: acme\nroles: [cto, cso]\nchannels: {{{channels}}}\n")
    task = check_messages(json.dumps(TASK), "task.json", None)
    with pytest.raises(UsageInvalid) as refused:
        prepare_messages(org, Destination.TASK, "cto", task)
    assert [problem.code for problem in refused.value.problems] == [code]


def test_a_task_below_a_wildcard_is_sent_where_the_channel_says() -> None:
    org = loads(
        "org: acme\nroles: [cto, cso]\n"
        'channels: {tasks: {subject: "agents.{role}.tasks.>", send_to: assigned}}\n'
    )
    task = check_messages(json.dumps(TASK), "task.json", None)
    (sent,) = prepare_messages(org, Destination.TASK, "cto", task)
    assert sent.subject == "acme.agents.cto.tasks.assigned"


@pytest.mark.parametrize(
    ("kind", "of_stream", "of_consumer"),
    [
        ("tasks", True, False),
        ("worker", True, True),
        ("control", True, False),
        ("x_reader", True, True),
        ("A b", False, False),
        ("", False, False),
    ],
)
def test_what_may_be_a_kind_is_known_without_a_manifest(
    kind: str, *, of_stream: bool, of_consumer: bool
) -> None:
    assert (is_kind(kind, consumer=False), is_kind(kind, consumer=True)) == (of_stream, of_consumer)


def test_kinds_are_words() -> None:
    assert (f"{StreamKind.TASKS}", StreamKind.TASKS == "tasks") == ("tasks", True)
    assert isinstance(ConsumerKind.WORKER, str)
