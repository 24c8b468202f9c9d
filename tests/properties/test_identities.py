"""No role may do what another's is, however an organisation is drawn: its queues, its readers, its status, its inbox."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from hypothesis import HealthCheck, assume, given
from hypothesis import strategies as st

from cyborg_infra.core.desired import expand as expansion
from cyborg_infra.core.desired.chart import may_assign
from cyborg_infra.core.desired.naming import channel_subject
from cyborg_infra.core.identity.accounts import crossings
from cyborg_infra.core.identity.permissions import identities
from cyborg_infra.model.channels import REQUESTS, STATUS, TASKS, Party
from cyborg_infra.model.identities import CrossingKind, Identity, IdentityKind
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import ManifestInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.subjects import covers, overlap
from tests.properties.test_channels import loaded, manifests, own
from tests.support.draws import draws


@st.composite
def organisations(draw: st.DrawFn) -> dict[str, Any]:
    """Return a manifest with channels of its own, a chart, groups, events with publishers and buckets.

    Three of four are without what most manifests of drawn names are refused for: those that meet, and subjects that do.
    """
    manifest = draw(manifests())
    if draw(st.integers(0, 3)) < 3:
        manifest["roles"] = [name for name in manifest["roles"] if name != "a_b"] or ["ceo"]
        manifest["channels"] = {
            name: draw(own(manifest["roles"])) | {"subject": f"{{role}}.{name}", "of": "role"}
            for name in draw(st.sets(st.sampled_from(["control", "outbox", "meetings"])))
        }
        manifest["events"]["a.b"]["subscribers"] = manifest["roles"][:1]
        manifest["naming"] = {"subject_prefix": manifest["naming"]["subject_prefix"]}
    names = manifest["roles"]
    some = st.lists(st.sampled_from([*names, "team"]), max_size=2, unique=True)
    if draw(st.booleans()):
        manifest["roles"] = {
            name: {
                **({"reports_to": names[draw(st.integers(0, at - 1))]} if at else {"reports_to": False}),
                "assigns": draw(some),
            }
            for at, name in enumerate(names)
        }
    manifest["groups"] = {"team": names[-2:]}
    manifest["events"] |= {"x.y": {"publishers": draw(some), "subscribers": draw(some)}}
    manifest["key_value"] = {
        "drafts": {
            "readers": draw(some),
            "writers": draw(some),
            "watchers": draw(some),
            "allow_direct": draw(st.booleans()),
        }
    }
    return manifest


def requests(consumer: Resource) -> Iterator[str]:
    """Yield what somebody sends who works on a consumer's messages, acknowledges them, or meddles with it."""
    stream, name = consumer.ref
    for verb in ("INFO", "MSG.NEXT", "DELETE", "CREATE", "DURABLE.CREATE", "PAUSE", "RESET"):
        yield f"$JS.API.CONSUMER.{verb}.{stream}.{name}"
    yield f"$JS.API.CONSUMER.CREATE.{stream}.{name}.a.subject"
    yield f"$JS.ACK.{stream}.{name}.1.2.3.4.5"
    yield f"$JS.ACK._.HASH.{stream}.{name}.1.2.3.4.5"


def derived(manifest: dict[str, Any]) -> tuple[Org, list[Identity]]:
    """Return an organisation, and the identities of its roles."""
    org, found = all_identities(manifest)
    return org, [each for each in found if each.kind is IdentityKind.ROLE]


def all_identities(manifest: dict[str, Any]) -> tuple[Org, tuple[Identity, ...]]:
    """Return an organisation, and all of its identities."""
    org = loaded(manifest)
    assume(org is not None)
    assert org is not None
    try:
        found = identities(org, expansion.expand_unchecked(org))
    except ManifestInvalid:  # a channel's subject takes in the server's own
        found = ()
    assume(bool(found))
    return org, found


@draws(60, ignoring=[HealthCheck.filter_too_much])  # many organisations are none
@given(organisations())
def test_a_role_works_on_its_own_consumers_alone_and_makes_none(manifest: dict[str, Any]) -> None:
    org, roles = derived(manifest)
    state = expansion.expand_unchecked(org)
    for identity in roles:
        may = identity.publish_rules
        for consumer in state.consumers():
            told = [may.cover(subject) for subject in requests(consumer)]
            if consumer.role == identity.name:
                acks = consumer.get("ack_policy") != "none"
                assert told == [True, True, *[False] * 6, acks, acks], consumer.ref
            else:
                assert not any(told), consumer.ref
                own = [each.ref for each in state.consumers() if each.role == identity.name]
                by_way_of = [f"$JS.ACK.{'.'.join(consumer.ref)}.{'.'.join(each)}.1.2.3" for each in own]
                assert not any(map(may.cover, by_way_of))
        assert not any(
            overlap(grant.subject, "$JS.API.STREAM.*.*") and "KV_" not in grant.subject
            for grant in identity.publish
        )


@draws(60, ignoring=[HealthCheck.filter_too_much])  # many organisations are none
@given(organisations())
def test_a_role_hears_its_own_inbox_and_speaks_for_itself(manifest: dict[str, Any]) -> None:
    org, roles = derived(manifest)
    for identity in roles:
        assert all(rules.allow or rules.deny for rules in (identity.publish_rules, identity.subscribe_rules))
        for other in roles:
            if other is identity:
                assert identity.subscribe_rules.cover(f"{other.inbox_prefix}.answer")
                continue
            for grant in identity.subscribe:
                assert not overlap(grant.subject, f"{other.inbox_prefix}.>"), grant
            for grant in (
                identity.publish
            ):  # all inboxes, to answer whoever asks, and nothing that somebody else's is in
                assert grant.subject == "_INBOX.>" or not overlap(grant.subject, "_INBOX.>"), grant
            for name in (STATUS, REQUESTS):
                if org.channel(name) is None:
                    continue
                subject = channel_subject(org, name, other.name)
                heard = [grant for grant in identity.subscribe if overlap(grant.subject, subject)]
                assert not heard, heard
                if name == STATUS:
                    assert not identity.publish_rules.cover(subject)


@draws(60, ignoring=[HealthCheck.filter_too_much])  # many organisations are none
@given(organisations())
def test_a_role_gives_tasks_to_those_whom_the_chart_puts_below_it(manifest: dict[str, Any]) -> None:
    org, roles = derived(manifest)
    channel = org.channel(TASKS)
    assume(channel is not None and channel.publishers == (Party.CHART,))
    for identity in roles:
        for other in roles:
            subject = channel_subject(org, TASKS, other.name)
            assert identity.publish_rules.cover(subject) == may_assign(org, identity.name, other.name)


@draws(60, ignoring=[HealthCheck.filter_too_much])  # many organisations are none
@given(organisations())
def test_the_roles_account_reaches_what_roles_may_send_once_and_none_of_the_api_that_changes_anything(
    manifest: dict[str, Any],
) -> None:
    org, found = all_identities(manifest)
    state = expansion.expand_unchecked(org)
    sent = [each.subject for each in crossings(org, state, found) if each.kind is CrossingKind.SERVICE]
    roles = [each for each in found if each.kind is IdentityKind.ROLE]
    stored = [subject for stream in state.streams() for subject in stream.get("subjects")]
    for subject in {grant.subject for role in roles for grant in role.publish} - {"_INBOX.>"}:
        if subject.startswith("$JS.") or any(overlap(subject, each) for each in stored):
            assert len([each for each in sent if covers(each, subject)]) == 1, subject
    for one, other in combinations(sent, 2):
        assert not overlap(one, other), "it would be sent twice"
    assert not [
        each for each in sent if "*" not in each and ">" not in each
    ]  # an answer would be taken for a request
    for stream in state.streams():
        for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "RESTORE", "SNAPSHOT"):
            assert not any(overlap(each, f"$JS.API.STREAM.{verb}.{stream.ref}") for each in sent)
        any_consumer = Resource(Ref(stream.ref.stream, "any"), {})
        for request in () if is_bucket(stream) else requests(any_consumer):
            is_used = request.startswith("$JS.ACK.") or ".INFO." in request or ".MSG.NEXT." in request
            assert any(covers(each, request) for each in sent) <= is_used, request
    assert not any(overlap(each, "_INBOX.*.>") for each in sent)


def is_bucket(stream: Resource) -> bool:
    """Return whether a stream is a bucket's."""
    return stream.ref.stream.startswith("KV_")
