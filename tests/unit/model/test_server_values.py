"""What a server's own limits made of fields that are left open is noted, and read back as left open."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.model.fields import Kind
from cyborg_infra.model.metadata_keys import SERVER_VALUES_KEY
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.server_values import LIMITED_FIELDS, noted_values, with_server_values
from cyborg_infra.model.units import SECOND
from tests.support.draws import draws

KINDS = st.sampled_from(Kind)


@st.composite
def noted(draw: st.DrawFn) -> tuple[Kind, dict[str, Any], dict[str, int]]:
    """Draw a configuration that leaves all open, and what a server makes of it."""
    kind = draw(KINDS)
    values = draw(st.dictionaries(st.sampled_from(LIMITED_FIELDS[kind]), st.integers(1, 2**53)))
    config: dict[str, Any] = {"metadata": {"team": "a"}}
    if kind is Kind.STREAM:
        config["max_age"] = draw(st.sampled_from([0, 30 * SECOND, 90 * SECOND, 999 * SECOND]))
        config["duplicate_window"] = min(120 * SECOND, config["max_age"] or 120 * SECOND)
    else:
        config |= {"max_ack_pending": 1000, "max_batch": 0}
    return kind, config, values


def resource(kind: Kind, config: dict[str, Any]) -> Resource:
    return Resource(Ref("A", "a" if kind is Kind.CONSUMER else ""), config)


@draws()
@given(noted())
def test_what_is_noted_means_what_was_left_open(drawn: tuple[Kind, dict[str, Any], dict[str, int]]) -> None:
    """It is no difference, and its note is gone with it."""
    kind, config, values = drawn
    held = with_server_values(config, values)
    assert noted_values(held) == values
    assert resource(kind, held).digest() == resource(kind, config).digest()
    assert with_server_values(held, {}) == config


@draws()
@given(noted(), st.integers(1, 2**53))
def test_what_somebody_changes_is_not_the_servers(
    drawn: tuple[Kind, dict[str, Any], dict[str, int]], other: int
) -> None:
    kind, config, values = drawn
    for name, value in values.items():
        changed = {**with_server_values(config, values), name: other}
        bare = {**config, name: other}
        if other != value:
            assert noted_values(changed).keys() == values.keys() - {name}
            assert resource(kind, changed).normalised().get(name) == resource(kind, bare).normalised().get(
                name
            )


@draws()
@given(st.text())
def test_a_note_may_say_anything(text: str) -> None:
    """Whoever may write the label can write nonsense into it."""
    config = {"max_batch": 5, "metadata": {SERVER_VALUES_KEY: text}}
    assert set(noted_values(config)) <= {"max_batch"}
    assert resource(Kind.CONSUMER, config).digest()
