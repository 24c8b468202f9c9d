"""The naming scheme keeps the rules of subjects by itself: `check` and lint ask for them only where somebody set a subject."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from cyborg_infra.core.desired.expand import expand_unchecked
from cyborg_infra.core.desired.message_flow import unmatched
from cyborg_infra.core.desired.rules import RULES_OF_SUBJECTS
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.problems import ManifestInvalid
from tests.support.draws import draws

TOKENS = st.text("ab-_AB1", min_size=1, max_size=4)


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    """Any names for anything that has one, and nothing set by hand."""
    roles = draw(st.lists(TOKENS, min_size=1, max_size=5, unique=True))
    former = draw(st.lists(TOKENS | st.none(), min_size=len(roles), max_size=len(roles)))
    events = draw(st.lists(st.tuples(TOKENS, TOKENS, st.booleans()), max_size=4))
    subscribers = draw(st.lists(st.sampled_from(roles), max_size=3, unique=True))
    return {
        "org": draw(TOKENS),
        "roles": {
            role: {"renamed_from": old} if old else None for role, old in zip(roles, former, strict=True)
        },
        "events": {
            f"{domain}.{event}": {"durable": durable, "subscribers": subscribers}
            for domain, event, durable in events
        },
        "key_value": dict.fromkeys(draw(st.lists(TOKENS, max_size=3, unique=True))),
        "task_state": draw(st.booleans()),
        "naming": {"stream_prefix": draw(TOKENS | st.just(""))},
    }


@draws(300)
@given(manifests())
def test_nobody_needs_to_look_at_subjects_that_the_scheme_made(manifest: dict[str, Any]) -> None:
    try:
        org = loads(json.dumps(manifest))
    except ManifestInvalid:
        assume(False)
    state = expand_unchecked(org)
    assert [problem for rule in RULES_OF_SUBJECTS for problem in rule(org, state)] == []
    assert [stream.ref for stream in state.streams() if stream.role and unmatched(stream, state)] == []
