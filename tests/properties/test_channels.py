"""Whatever channels and names a manifest makes up, nothing meets: or it is refused, and the place is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from cyborg_infra.core.desired import expand as expansion
from cyborg_infra.core.desired.naming import channel_subject
from cyborg_infra.core.desired.rules import RULES_OF_SUBJECTS
from cyborg_infra.core.desired.sandbox import sandbox_org
from cyborg_infra.core.importing.describe import describe_org
from cyborg_infra.core.operate.dead_letters import org_of_dead_letters
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.manifest.load import loads, loads_naming
from cyborg_infra.manifest.write import write_manifest
from cyborg_infra.model.channels import DEAD_LETTERS
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import ManifestInvalid, Problem
from cyborg_infra.model.resources import LiveState
from cyborg_infra.model.subjects import SubjectIndex
from tests.support.draws import draws
from tests.support.live_resources import all_as_live

ROLES = st.lists(st.sampled_from(["ceo", "cto", "a-b", "a_b", "A", "x"]), min_size=1, max_size=4, unique=True)
TOKEN = st.sampled_from(
    ["a", "b", "agents", "org", "tasks", "*", "{role}", "{role}", "{group}", ">", "x1", "events"]
)
SUBJECT = st.lists(TOKEN, min_size=1, max_size=4).map(".".join)
PIECE = st.sampled_from(["{ROLE}", "{role}", "A", "_", "TASKS", "-x", "AGENT_", "{", "."])
TEMPLATE = st.lists(PIECE, min_size=1, max_size=3).map("".join)
NAMES = st.sampled_from(["control", "outbox", "event", "worker", "inboxes", "tasks_x", "meetings", "lag"])
STREAM_KINDS = ("tasks", "inboxes", "broadcasts", "events", "dead_letters", "control", "outbox")
CONSUMER_KINDS = ("worker", "inbox_reader", "broadcast_reader", "dead_letter_alerts", "control_reader")


def sometimes(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.none() | strategy


@st.composite
def own(draw: st.DrawFn, roles: list[str]) -> dict[str, Any]:
    parties = st.sampled_from(["anyone", "self", "operator"]) | st.lists(
        st.sampled_from(roles), max_size=2, unique=True
    )
    durable = draw(st.booleans())
    said = {
        "of": draw(st.sampled_from(["role", "org", "group"])),
        "durable": durable,
        "subject": draw(sometimes(SUBJECT)),
        "publishers": draw(sometimes(parties)),
        "readers": draw(sometimes(parties)),
        "stream": {"retention": draw(st.sampled_from(["limits", "interest", "workqueue"]))}
        if durable
        else None,
        "reader": {"ack_policy": draw(st.sampled_from(["explicit", "none"]))} if durable else None,
    }
    return {key: value for key, value in said.items() if value is not None}


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    roles = draw(ROLES)
    channels: dict[str, Any] = draw(st.dictionaries(NAMES, own(roles), max_size=3))
    for built_in in draw(
        st.lists(st.sampled_from(["tasks", "inbox", "broadcasts", "dead_letters", "status"]), max_size=2)
    ):
        channels[built_in] = {"subject": draw(SUBJECT)} if draw(st.booleans()) else False
    if draw(st.booleans()):
        channels["group_broadcasts"] = (
            draw(sometimes(SUBJECT.map(lambda subject: {"subject": subject}))) or True
        )
    some = st.dictionaries(st.sampled_from(STREAM_KINDS), TEMPLATE, max_size=2)
    named = {
        "streams": {
            kind: name
            for kind, name in draw(some).items()
            if kind not in ("control", "outbox") or kind in channels
        },
        "consumers": draw(st.dictionaries(st.sampled_from(CONSUMER_KINDS[:4]), TEMPLATE, max_size=1)),
        "subject_prefix": draw(st.sampled_from(["", "gen", "acme.eu", "a.b.c"])),
    }
    return {
        "org": "gen",
        "roles": roles,
        "groups": draw(
            st.dictionaries(st.sampled_from(["team", "all", "b"]), st.just(roles[:2]), max_size=2)
        ),
        "channels": channels,
        "naming": named,
        "events": {"a.b": {"durable": draw(st.booleans()), "subscribers": roles[:1]}},
    }


def loaded(manifest: dict[str, Any]) -> Org | None:
    """Return the organisation, or None if it is refused; then every problem has its place."""
    refused: tuple[Problem, ...] = ()
    try:
        org = loads(json.dumps(manifest, indent=1))
        expansion.expand(org)
    except ManifestInvalid as refusal:
        refused = refusal.problems
    event("refused" if refused else "expands")
    assert all(problem.where for problem in refused), refused
    return None if refused else org


@draws(400)
@given(manifests())
def test_a_table_of_channels_expands_without_collisions_or_is_refused_with_a_place(
    manifest: dict[str, Any],
) -> None:
    org = loaded(manifest)
    if org is None:
        return
    state = expansion.expand_unchecked(org)
    assert len(state.streams()) == len(list(expansion._planned_streams(org)))  # noqa: SLF001
    assert len(state.consumers()) == len(list(expansion._readers(org)))  # noqa: SLF001
    assert [problem for rule in RULES_OF_SUBJECTS for problem in rule(org, state)] == []
    for stream in state.streams():
        read = SubjectIndex()
        for consumer in (
            state.consumers(stream.ref.stream) if stream.config["retention"] == "workqueue" else ()
        ):
            subject = consumer.config.get("filter_subject", ">")
            assert not read.overlapping(subject)
            read.add(subject, "")


@draws(200)
@given(manifests())
def test_a_saved_plan_tells_whose_a_dead_letter_is_as_the_manifest_does(manifest: dict[str, Any]) -> None:
    org = loaded(manifest)
    letters = org.channel(DEAD_LETTERS) if org else None
    if org is None or letters is None:
        return
    state = expansion.expand_unchecked(org)
    known = org_of_dead_letters(org.name, state)
    again = {*expansion.expand_unchecked(known).resources}
    tasks = ("tasks", "worker")
    assert {ref for ref, found in state.resources.items() if found.metadata[KIND_KEY] in tasks} <= again
    assert channel_subject(known, DEAD_LETTERS) == channel_subject(org, DEAD_LETTERS)


@draws(300)
@given(manifests(), st.booleans())
def test_what_was_applied_is_imported_as_an_equal_organisation(
    manifest: dict[str, Any],
    by_file: bool,  # noqa: FBT001
) -> None:
    """By the channels and names of its manifest, whatever roles, events and settings that has."""
    org = loaded(manifest)
    if org is None:
        return
    state = expansion.expand(org)
    names = replace(org, roles=(), events=(), layers=())
    if by_file:
        text = json.dumps({key: manifest[key] for key in ("channels", "naming", "groups")}, indent=1)
        names = loads_naming(text, "gen")
        assert [each._replace(mark=None) for each in names.channels] == [
            each._replace(mark=None) for each in org.channels
        ]
    live = LiveState(all_as_live(state))
    found = describe_org(live, names)
    if not found.roles:  # nothing of it has a stream or a consumer
        event("no role")
        assert not any(each.role for each in state.resources.values())
        return
    again = expansion.expand(loads(write_manifest(found, "Imported.")))
    assert {ref: each.normalised() for ref, each in again.resources.items()} == {
        ref: each.normalised() for ref, each in state.resources.items()
    }
    assert not make_plan(live, again, owner="gen")


@draws(200)
@given(manifests())
def test_the_copy_that_verify_tries_meets_nothing_of_the_organisation(manifest: dict[str, Any]) -> None:
    org = loaded(manifest)
    if org is None:
        return
    copy = sandbox_org(org, "abcdef")
    state, mirrored = expansion.expand(org), expansion.expand(copy)
    assert len(state.resources) == len(mirrored.resources)
    theirs = SubjectIndex(
        (subject, "") for stream in state.streams() for subject in stream.config["subjects"]
    )
    for stream in mirrored.streams():
        assert stream.ref not in state.resources
        for subject in stream.config["subjects"]:
            assert not theirs.overlapping(subject)
