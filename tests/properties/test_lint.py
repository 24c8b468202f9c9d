"""Whatever a valid manifest says: warnings, each in a line of it, or none; and none of what it ignores."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.core.desired.expand import expand_unchecked
from cyborg_infra.core.lint.lint import UNNEEDED_IGNORE_CODE, lint
from cyborg_infra.core.lint.rules import EVERY_LINT, NOTES
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.channels import (
    BUILT_IN,
    ConsumerKind,
    StreamKind,
    consumer_kinds,
    kinds_for_one_role,
    stream_kinds,
)
from cyborg_infra.model.fields import FIELDS, Field, Kind, Unit
from cyborg_infra.model.organisation import IgnoredWarning, Org
from cyborg_infra.model.server_versions import NEWEST_LEVEL
from tests.support.draws import draws

ROLES = ("ceo", "cto", "data-eng", "ops")
EDGES: dict[Unit, list[Any]] = {
    Unit.SIZE: [-1, 0, "1KB", "1MB"],
    Unit.DURATION: [0, "1s", "1m", "1h", "99h"],
    Unit.DURATIONS: [[], ["1s"], ["30m", "1s"]],
    Unit.FLAG: [True, False],
    Unit.COUNT: [-1, 0, 1, 2, 50, 1000],
}


def values(field: Field) -> st.SearchStrategy[Any]:
    """Return what the manifest may say of the field: its example, and where checks change their mind."""
    found = [field.example, *(field.choices or ()), *EDGES.get(field.unit, ())]
    least, most = field.least, field.most
    return st.sampled_from(
        [
            value
            for value in found
            if not isinstance(value, int)
            or ((least is None or value >= least) and (most is None or value <= most))
        ]
    )


FIELDS_OF = {
    kind: st.lists(
        st.sampled_from(sorted(fields.keys() - {"filter_subject"})), max_size=4, unique=True
    ).flatmap(
        lambda names, fields=fields: st.fixed_dictionaries({name: values(fields[name]) for name in names})  # type: ignore[misc]
    )
    for kind, fields in FIELDS.items()
}
"""Some settings; never filter_subject, which the loader refuses beside filter_subjects."""


def some(keys: Any, value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from([str(key) for key in keys]), value, max_size=2)


def of_roles(which: type[str]) -> list[str]:
    return [kind for kind in kinds_for_one_role(BUILT_IN) if isinstance(kind, which)]


ROLE = st.builds(
    lambda streams, consumers: streams | consumers,
    some(of_roles(StreamKind), FIELDS_OF[Kind.STREAM]),
    some(of_roles(ConsumerKind), FIELDS_OF[Kind.CONSUMER]),
)
LAYER = st.fixed_dictionaries(
    {
        "defaults": st.fixed_dictionaries({}, optional={"storage": st.sampled_from(["file", "memory"])}),
        "streams": some(stream_kinds(BUILT_IN), FIELDS_OF[Kind.STREAM]),
        "consumers": some(consumer_kinds(BUILT_IN), FIELDS_OF[Kind.CONSUMER]),
    }
)


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    """Return a small organisation with any settings, in JSON, which YAML is; legal for the schema, if not for a server."""
    roles = draw(st.dictionaries(st.sampled_from(ROLES), ROLE, min_size=1))
    production = draw(LAYER) | {"roles": draw(st.dictionaries(st.sampled_from(list(roles)), ROLE))}
    return {
        "org": "gen",
        "roles": roles,
        **draw(LAYER),
        "events": {"deploy.complete": {"durable": True, "subscribers": list(roles)}},
        "environments": {"production": production},
    }


def ignoring(org: Org, codes: set[str]) -> Org:
    """Return the same, with these codes ignored in its last layer."""
    ignored = tuple(IgnoredWarning(code, "it is right here") for code in codes)
    return replace(org, layers=(*org.layers[:-1], org.layers[-1]._replace(ignored=ignored)))


@given(manifest=manifests(), env=st.sampled_from([None, "production"]), level=st.integers(0, NEWEST_LEVEL))
@draws(100)
def test_every_warning_has_a_line_and_can_be_ignored(
    manifest: dict[str, Any], env: str | None, level: int
) -> None:
    text = json.dumps(manifest, indent=1)
    org = loads(text, env=env)
    state = expand_unchecked(org, level)
    found = lint(org, state)
    codes, every = {each.code for each in found}, {row.code for row in EVERY_LINT if row not in NOTES}
    assert all(each.where and 1 <= each.where.line <= len(text.splitlines()) for each in found)
    assert codes <= every
    assert lint(ignoring(org, codes), state) == []
    assert [each.code for each in lint(ignoring(org, every), state)] == [UNNEEDED_IGNORE_CODE] * len(
        every - codes
    )
