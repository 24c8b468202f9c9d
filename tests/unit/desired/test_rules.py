"""Every manifest in cases/rules loads, and cannot exist as a whole: refused with exactly the problems beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.desired.rules import RULES
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.problems import ManifestInvalid

CASES = Path(__file__).parents[2] / "cases/rules"
ENVIRONMENTS = {"in_an_environment": "production"}


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.yaml")))
def test_what_cannot_exist_together_is_refused_with_its_line(
    name: str, golden: Callable[[Path, str], None]
) -> None:
    path = CASES / f"{name}.yaml"
    org = loads(path.read_text(encoding="utf-8"), file=path.name, env=ENVIRONMENTS.get(name))
    with pytest.raises(ManifestInvalid) as caught:
        expand(org)
    golden(path.with_suffix(".txt"), "".join(f"{problem}\n" for problem in caught.value.problems))
    assert all(problem.where for problem in caught.value.problems)


def test_every_golden_text_has_its_manifest() -> None:
    assert {path.stem for path in CASES.glob("*.yaml")} == {path.stem for path in CASES.glob("*.txt")}


def test_without_its_environment_a_manifest_is_not_refused_for_it() -> None:
    path = CASES / "in_an_environment.yaml"
    assert expand(loads(path.read_text(encoding="utf-8"))).resources


def test_a_mapping_of_stored_subjects_is_not_judged_by_its_filters() -> None:
    """A transform stores under other subjects than it captures: what a filter finds cannot be known."""
    settings = "subject_transform: {src: 'gen.org.*', dest: 'kept.{{wildcard(1)}}'}"
    manifest = (
        f"org: gen\nroles: [cto]\nstreams: {{broadcasts: {{{settings}}}}}\n"
        "consumers: {broadcast_reader: {filter_subject: kept.broadcasts}}\n"
    )
    assert expand(loads(manifest)).resources


def test_every_rule_says_what_holds() -> None:
    assert all(rule.__doc__ for rule in RULES)
