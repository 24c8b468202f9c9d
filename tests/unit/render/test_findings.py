"""Findings beside the line: what each host of a repository is told."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.model.problems import Problem, SourcePosition
from cyborg_infra.model.project import PROJECT
from cyborg_infra.render import findings
from tests.support.draws import draws

ROOT = Path(__file__).parents[3]
HERE = SourcePosition("teams/a, b:c.yaml", 12, 5)


def test_a_finding_is_shown_at_its_line_by_each_of_them() -> None:
    found = findings.collect("org.yaml", [Problem("unknown-key", "50% off", HERE, "one\ntwo")])
    assert findings.github(found) == (
        "::error file=teams/a%2C b%3Ac.yaml,line=12,col=5,title=unknown-key::50%25 off: one%0Atwo\n"
    )
    (issue,) = findings.gitlab(found)
    assert (issue["location"], issue["severity"]) == ({"path": HERE.file, "lines": {"begin": 12}}, "major")
    ((run,), (result,)) = (
        (runs := findings.sarif(found, "1.2.3")["runs"]),
        runs[0]["results"],
    )
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "unknown-key"
    assert result["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "teams/a%2C%20b%3Ac.yaml"},
        "region": {"startLine": 12, "startColumn": 5},
    }


def test_what_has_no_place_is_shown_where_the_manifest_begins() -> None:
    found = findings.collect("org.yaml", (), [Problem("warned", "costly")], [Problem("noted", "by the way")])
    assert findings.github(found) == (
        "::warning file=org.yaml,line=1,col=1,title=warned::costly\n"
        "::notice file=org.yaml,line=1,col=1,title=noted::by the way\n"
    )


def test_a_fingerprint_stays_while_lines_move_and_tells_two_that_are_alike() -> None:
    def prints(*lines: int) -> list[str]:
        problems = [Problem("unknown-key", "no key", HERE._replace(line=line)) for line in lines]
        return [issue["fingerprint"] for issue in findings.gitlab(findings.collect("", problems))]

    first, second = prints(3, 9)
    assert first != second
    assert prints(4, 17) == [first, second]
    assert prints(17) == [first]


@given(st.text(), st.text(min_size=1), st.text())
@draws()
def test_whatever_a_value_contains_ends_no_annotation_and_begins_none(
    message: str, file: str, code: str
) -> None:
    found = findings.collect("", [Problem(code, message, SourcePosition(file, 1, 1))])
    told = findings.github(found)
    assert re.fullmatch(r"::error file=[^:,\r\n]*,line=1,col=1,title=[^:,\r\n]*::[^\r\n]*\n", told)


def test_the_project_is_where_it_says_that_it_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["urls"]["Repository"] == PROJECT
