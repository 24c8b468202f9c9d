"""What crosses between the two accounts of an organisation: derived from what each may publish and hear."""

from __future__ import annotations

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.identity.accounts import crossings
from cyborg_infra.core.identity.permissions import identities
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.identities import Grant, Identity, IdentityKind
from cyborg_infra.model.problems import ManifestInvalid

USE = [
    ("service", "$JS.API.CONSUMER.INFO.*.*"),
    ("service", "$JS.API.CONSUMER.MSG.NEXT.*.*"),
    ("service", "$JS.ACK.*.*.*.*.*.*.*"),
    ("service", "$JS.ACK.*.*.*.*.*.*.*.*.*"),
]
QUIET = ("service", "$JS.*.INFO")


def derived(manifest: str) -> set[tuple[str, str]]:
    """Return what crosses."""
    org = loads(manifest)
    state = expand(org)
    return {(each.kind, each.subject) for each in crossings(org, state, identities(org, state))}


def test_what_crosses_does_not_grow_with_the_roles_and_holds_no_more_than_they_do() -> None:
    small = derived("org: acme\nroles: [cto, backend]\n")
    assert small == {
        *USE,
        QUIET,
        *(("service", f"acme.agents.*.{channel}") for channel in ("tasks", "inbox", "status")),
        ("service", "acme.org.*"),
    }
    many = ", ".join(f"role-{number}" for number in range(200))
    assert derived(f"org: acme\nroles: [{many}]\n") == small


def test_a_bucket_crosses_as_far_as_it_is_used() -> None:
    """A watch comes back on the inbox of who watches."""
    manifest = (
        "org: acme\nroles: [cto, backend]\nkey_value: {drafts: {readers: [cto], writers: [backend]%s}}\n"
    )
    plain = derived("org: acme\nroles: [cto, backend]\n")
    read = derived(manifest % "") - plain
    assert read == {
        ("service", "$JS.*.STREAM.INFO.KV_drafts"),
        ("service", "$JS.*.DIRECT.GET.KV_drafts"),
        ("service", "$JS.API.DIRECT.GET.KV_drafts.>"),
        ("service", "$KV.drafts.>"),
    }
    watched = derived(manifest % ", watchers: [cto]") - plain - read
    assert ("stream", "_INBOX.cto.>") in watched
    assert ("service", "$JS.*.CONSUMER.CREATE.KV_drafts") in watched
    assert not [subject for _, subject in watched if "backend" in subject]


def test_a_push_consumer_of_a_role_is_heard_across() -> None:
    manifest = (
        "org: acme\nroles: {cto: {broadcast_reader: {deliver_subject: push.cto, deliver_group: ctos}}}\n"
    )
    assert ("stream", "push.cto") in derived(manifest)


def test_a_subject_that_no_pattern_is_left_for_is_refused() -> None:
    """An import without a wildcard would hand on answers, and two that meet would send twice."""
    org = loads("org: acme\nroles: [cto]\n")
    sent = tuple(Grant(subject, "because") for subject in ("*.c", "d.*", "a.b"))
    role = Identity("cto", IdentityKind.ROLE, "_INBOX.cto", sent, (), is_apart=True)
    hears = Identity("watch", IdentityKind.STANDING, "_INBOX.watch", (), (Grant(">", "all of it"),))
    with pytest.raises(ManifestInvalid, match=r"a\.b cannot be imported by the roles' account"):
        crossings(org, expand(org), [role, hears])
