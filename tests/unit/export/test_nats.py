"""The files for the `nats` CLI."""

from __future__ import annotations

import json

from tests.support.exports import exported


def test_each_stream_consumer_and_role_has_a_file_and_each_resource_a_line_of_the_script() -> None:
    files = exported("nats", "org: acme\nroles: [cto]\n").files
    assert {path for path in files if "cto" in path.lower()} == {
        "streams/AGENT_CTO_TASKS.json",
        "consumers/AGENT_CTO_TASKS/cto-worker.json",
        "consumers/AGENT_INBOXES/cto-inbox-reader.json",
        "consumers/ORG_BROADCASTS/cto-broadcast-reader.json",
        "contexts/acme-cto.json",
    }
    script = files["add.sh"]
    assert [path for path in files if path.endswith("s/AGENT_CTO_TASKS.json") and path not in script] == []
    assert script.count("nats stream add") + script.count("nats consumer add") == 8
    assert script.rindex("nats stream add") < script.index("nats consumer add")


def test_a_context_has_the_role_s_own_inbox_and_credentials() -> None:
    made = exported(
        "nats", "org: acme\nroles: [cto]\n", server="tls://nats.acme.example", creds="/etc/creds/"
    )
    assert json.loads(made.files["contexts/acme-cto.json"]) == {
        "description": "cto of acme",
        "url": "tls://nats.acme.example",
        "inbox_prefix": "_INBOX.cto",
        "creds": "/etc/creds/cto.creds",
    }


def test_what_older_servers_do_not_know_is_written_only_where_it_says_something() -> None:
    files = exported("nats", "org: acme\nroles: {cto: {tasks: {allow_msg_ttl: true}}, cso: {}}\n").files
    assert "allow_msg_ttl" in files["streams/AGENT_CTO_TASKS.json"]
    assert "allow_msg_ttl" not in files["streams/AGENT_CSO_TASKS.json"]


def test_what_no_new_stream_can_be_is_a_gap_and_a_comment_and_is_not_written() -> None:
    made = exported("nats", "org: acme\nroles: {cto: {tasks: {sealed: true}}}\n")
    (gap,) = made.gaps
    assert gap.startswith("AGENT_CTO_TASKS: sealed;")
    assert gap in made.files["add.sh"]
    assert "sealed" not in json.loads(made.files["streams/AGENT_CTO_TASKS.json"])
