"""The table of constraints says what it means; what it says of servers, tests/predictions/test_predictions.py holds to them."""

from __future__ import annotations

import pytest

from cyborg_infra.core.desired.expand import expand, expand_unchecked
from cyborg_infra.core.desired.rules import OWN_RULES
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.live.api.decode import decode_limits
from cyborg_infra.manifest.load import loads
from cyborg_infra.model import subject_transforms
from cyborg_infra.model.constraints import (
    CONSTRAINTS,
    Concerns,
    Constraint,
    ServerContext,
    full_config,
    version_boundaries,
    violations,
    violations_on_every_server,
)
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import FIELDS, Kind
from cyborg_infra.model.problems import ManifestInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, LiveState, Resource
from cyborg_infra.model.server import Limits, ServerInfo
from cyborg_infra.model.server_versions import LEVELS, NEWEST_LEVEL, Version

NEWEST = LEVELS[NEWEST_LEVEL]


@pytest.mark.parametrize("row", CONSTRAINTS, ids=lambda row: row.says[:60])
def test_a_row_names_fields_of_the_table_and_says_what_to_write_instead(row: Constraint) -> None:
    kind = Kind.STREAM if row.concerns in (Concerns.STREAM, Concerns.NEW_STREAM) else Kind.CONSUMER
    for field in row.fields:
        of_stream = field.startswith("stream.")
        assert field == "name" or field.removeprefix("stream.") in FIELDS[Kind.STREAM if of_stream else kind]
    assert row.says
    assert row.instead
    assert not (row.says + row.instead).endswith(".")
    assert row.error in vars(ErrorCode).values()
    assert all(span.before is None or span.first < span.before for span in row.versions)


def test_rules_that_are_not_the_server_s_have_codes_of_their_own() -> None:
    assert not OWN_RULES.keys() & {row.code for row in CONSTRAINTS}


def test_every_version_at_which_something_changes_is_asked_for() -> None:
    assert {
        *LEVELS.values(),
        Version(2, 14, 2),
        Version(2, 12, 10),
        *subject_transforms.BEHAVIOUR_CHANGES,
    } <= {*version_boundaries()}


def refused(settings: str) -> list[str]:
    """Return what `validate` says of a role that is set so."""
    try:
        expand(loads(f"org: acme\nroles: {{cto: {settings}}}\n", file="o"))
    except ManifestInvalid as error:
        return [str(problem) for problem in error.problems]
    return []


def test_what_some_server_takes_is_left_to_the_plan() -> None:
    """Filters that meet and do not lie in one another: refused before 2.12.5, and taken since."""
    settings = "{worker: {filter_subjects: [acme.*.cto.tasks, acme.agents.*.tasks]}}"
    assert refused(settings) == []
    org = loads(f"org: acme\nroles: {{cto: {settings}}}\n")
    for version, codes in ((NEWEST, []), (Version(2, 12, 4), ["filter"])):
        plan = make_plan(LiveState(server_info=ServerInfo(version, 5)), expand(org), owner="acme", org=org)
        assert [problem.code for problem in plan.blocking_problems] == codes


def test_a_setting_that_no_server_takes_is_told_where_it_stands() -> None:
    (told,) = refused("{tasks: {allow_msg_counter: true, discard: new}}")
    assert told.startswith("o:2:42: AGENT_CTO_TASKS: allow_msg_counter and discard: new exclude each other (")
    (told,) = refused("{tasks: {retention: workqueue}, worker: {ack_policy: all}}")
    assert told.startswith("o:2:67: AGENT_CTO_TASKS/cto-worker: a consumer of a workqueue needs ack_policy: ")


def test_a_prefix_that_meets_what_an_origin_stores_is_refused() -> None:
    """The one rule that no drawn case can break: its origin stores nearly everything."""
    origin = Resource(Ref("WIDE"), {"subjects": ["*.wide.>"], "no_ack": True})
    sources = [{"name": "WIDE"}, {"name": "FAR", "external": {"api": "$JS.far.API", "deliver": "x.wide"}}]
    copy = Resource(Ref("COPY"), {"subjects": ["copy"], "sources": sources})
    around = ServerContext(streams={"WIDE": full_config(origin)})
    assert [found.rule.error for found in violations(copy, around, NEWEST)] == [
        ErrorCode.JSStreamExternalDelPrefixOverlapsErrF
    ]


def test_names_are_those_that_the_server_takes() -> None:
    for ref in (Ref("a b"), Ref("A", "x/y"), Ref("A", "x" * 256)):
        stream = Resource(Ref(ref.stream), {"subjects": ["a"]})
        named = Resource(ref, {"ack_policy": "explicit"} if ref.consumer else stream.config)
        found = violations_on_every_server(named, ServerContext(stream if ref.consumer else None))
        assert [breach.rule.code for breach in found] == ["name"]


def test_a_filter_may_be_wider_than_its_stream_but_has_to_meet_it() -> None:
    assert refused("{worker: {filter_subject: 'acme.>'}}") == []
    assert [
        "unmatched" in text or "meets none" in text for text in refused("{worker: {filter_subject: other}}")
    ] == [True]


def test_what_says_nothing_is_not_sent_to_who_does_not_know_it() -> None:
    org = loads("org: acme\nroles: {cto: {tasks: {allow_batched: false, allow_atomic: true}}}\n")
    sent = expand_unchecked(org, level=2).resources[Ref("AGENT_CTO_TASKS")].config
    assert "allow_batched" not in sent
    assert sent["allow_atomic"] is True


def test_republishing_all_as_all_is_written_as_the_server_would() -> None:
    transform = "subject_transform: {src: acme.agents.cto.tasks, dest: stored}"
    org = loads(
        f"org: acme\nroles: {{cto: {{tasks: {{republish: {{src: '>', dest: '>'}}, {transform}}}}}}}\n"
    )
    sent = expand(org).resources[Ref("AGENT_CTO_TASKS")]
    assert sent.config["republish"] == {"src": "stored", "dest": "stored"}
    assert sent.normalised()["republish"] == sent.config["republish"]


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ("{max_age: 1m, duplicate_window: 0}", 60 * 10**9),
        ("{max_age: 1m}", 60 * 10**9),
        ("{duplicate_window: 0, sources: [{name: A}]}", 0),
        ("{mirror: {name: A}, duplicate_window: 5m}", 0),
    ],
)
def test_a_window_of_nothing_is_what_the_server_makes_of_it(settings: str, window: int) -> None:
    org = loads(f"org: acme\nroles: {{cto: {{tasks: {settings}}}}}\n")
    assert expand(org).resources[Ref("AGENT_CTO_TASKS")].config["duplicate_window"] == window


def test_limits_by_replicas_are_not_taken_for_none_at_all() -> None:
    zero = {"max_memory": 0, "max_storage": 0, "max_streams": 0}
    assert decode_limits({"limits": zero, "tiers": {"R1": {"limits": zero}}}) == Limits()
    assert decode_limits({"limits": zero}).max_storage == 0


@pytest.mark.parametrize(
    ("cluster", "placement", "said"),
    [
        ("", "{cluster: eu}", "a single server keeps the placement"),
        ("eu", "{cluster: eu}", ""),
        ("eu", "{cluster: us}", "whether there is a server with cluster us"),
        ("eu", "{tags: [ssd]}", "whether there is a server with tag ssd"),
        ("eu", "{tags: [known]}", ""),
    ],
)
def test_a_placement_that_no_server_may_have_is_a_note_of_the_plan(
    cluster: str, placement: str, said: str
) -> None:
    org = loads(f"org: acme\nroles: {{cto: {{tasks: {{placement: {placement}}}}}}}\n")
    other = LiveResource(Ref("OTHER"), {"subjects": ["other"], "placement": {"tags": ["known"]}})
    live = LiveState({other.ref: other}, ServerInfo(NEWEST, NEWEST_LEVEL, cluster=cluster))
    notes = make_plan(live, expand(org), owner="acme", org=org).notes
    assert [note.startswith(said) for note in notes if "server" in note] == ([True] if said else [])
