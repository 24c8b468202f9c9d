"""Every manifest in cases/lint is valid, and warned about exactly as beside it; what is ignored is not told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.lint import rules
from cyborg_infra.core.lint.lint import UNNEEDED_IGNORE_CODE, lint, notes
from cyborg_infra.core.lint.rules import EVERY_LINT, NOTES
from cyborg_infra.manifest.load import load, loads
from cyborg_infra.manifest.template import template_manifest
from cyborg_infra.model.organisation import IgnoredWarning, Org
from cyborg_infra.model.problems import ManifestInvalid, Problem

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests/cases/lint"
NAMES = sorted(path.stem for path in CASES.glob("*.yaml"))
CODES = [row.code for row in EVERY_LINT if row not in NOTES]
ENVIRONMENTS = {"single-replica": "prod-eu", "an-environments-own": "laptop"}


def warnings(org: Org) -> list[Problem]:
    return lint(org, expand(org))


def case(name: str, env: str | None = None) -> Org:
    path = CASES / f"{name}.yaml"
    return loads(path.read_text(encoding="utf-8"), file=path.name, env=env or ENVIRONMENTS.get(name))


def ignoring(org: Org, codes: set[str]) -> Org:
    """Return the same, with these codes ignored in its last layer."""
    ignored = tuple(IgnoredWarning(code, "it is right here") for code in sorted(codes))
    return replace(org, layers=(*org.layers[:-1], org.layers[-1]._replace(ignored=ignored)))


@pytest.mark.parametrize("name", NAMES)
def test_a_lint_warning_has_its_line_and_a_reason(name: str, golden: Callable[[Path, str], None]) -> None:
    found = warnings(case(name))
    golden(CASES / f"{name}.txt", "".join(f"[{each.code}] {each}\n" for each in found))
    assert all(each.where and each.hint for each in found)


@pytest.mark.parametrize("code", [*CODES, UNNEEDED_IGNORE_CODE])
def test_every_code_has_a_case_that_finds_it_and_nothing_else(code: str) -> None:
    assert {each.code for each in warnings(case(code))} == {code}


def test_every_golden_text_has_its_manifest() -> None:
    assert sorted(path.stem for path in CASES.glob("*.txt")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_ignored_lint_warning_is_not_given(name: str) -> None:
    org = case(name)
    codes = {each.code for each in warnings(ignoring(org, set()))}
    assert warnings(ignoring(org, codes)) == []


def test_the_worked_example_and_what_init_writes_cost_nothing() -> None:
    assert warnings(load(ROOT / "org.yaml")) == []
    assert warnings(loads(template_manifest("acme", ["ceo", "cto"]))) == []


@pytest.mark.parametrize(
    ("environment", "costly"),
    [("production", True), ("Prod", True), ("live-2", True), ("staging", False), ("products", False)],
)
def test_one_replica_is_costly_in_production_alone(environment: str, *, costly: bool) -> None:
    org = loads(f"org: gen\nroles: [cto]\nenvironments: {{{environment}: }}\n", env=environment)
    assert [each.code for each in warnings(org)] == ["single-replica"] * costly
    three = loads(
        f"org: gen\nroles: [cto]\nenvironments: {{{environment}: {{defaults: {{replicas: 3}}}}}}\n",
        env=environment,
    )
    assert warnings(three) == []


@pytest.mark.parametrize(
    ("roles", "told"),
    [
        ("[cto]", 0),
        ("[cto, cso]", 1),
        ("{cto: , cso: {reports_to: cto}}", 0),
        ("{cto: , cso: {reports_to: false}}", 0),
    ],
)
def test_open_assignment_is_a_note_which_can_be_ignored(roles: str, told: int) -> None:
    text = f"org: gen\nroles: {roles}\n"
    org = loads(text)
    assert [(each.code, each.where and each.where.line) for each in notes(org, expand(org))] == [
        ("open-assignment", 2)
    ] * told
    assert warnings(org) == []
    org = loads(f"{text}lint: {{ignore: {{open-assignment: they know one another}}}}\n")
    assert notes(org, expand(org)) == []
    assert [each.code for each in warnings(org)] == [UNNEEDED_IGNORE_CODE] * (1 - told)


@pytest.mark.parametrize(
    ("channel", "told"),
    [
        ("{of: role, publishers: [ceo]}", 1),
        ("{of: org, publishers: [ceo], readers: [cto]}", 1),
        ("{of: role, publishers: [ceo], durable: true}", 0),
        ("{of: role, publishers: self, readers: operator}", 0),
        ("{of: org}", 0),
    ],
)
def test_a_channel_that_relies_on_its_subject_is_noted(channel: str, told: int) -> None:
    org = loads(f"org: gen\nroles: {{ceo: , cto: {{reports_to: ceo}}}}\nchannels: {{control: {channel}}}\n")
    assert [each.code for each in notes(org, expand(org))] == ["trusted-subject"] * told


@pytest.mark.parametrize(
    ("channel", "told"),
    [
        ("{of: role, durable: true, publishers: self}", 1),
        ("{of: role, publishers: self}", 1),
        ("{of: org, durable: true, publishers: [ceo], readers: [ceo]}", 1),
        ("{of: org, durable: true, publishers: [board], readers: [ceo]}", 1),
        ("{of: org, durable: true, publishers: [ceo], readers: [ceo, cto]}", 0),
        ("{of: org, durable: true, publishers: [ceo]}", 0),
        ("{of: org, durable: true, publishers: [ceo], readers: []}", 0),
        ("{of: role, publishers: self, readers: operator}", 0),
        ("{of: role, durable: true, publishers: self, readers: []}", 0),
        ("{of: group, publishers: self}", 0),
        ("{of: role}", 0),
    ],
)
def test_a_channel_in_which_a_role_talks_to_itself_is_noted(channel: str, told: int) -> None:
    text = f"org: gen\nroles: {{ceo: , cto: {{reports_to: ceo}}}}\ngroups: {{board: [ceo]}}\nchannels: {{notes: {channel}}}\n"
    org = loads(text)
    found = [each for each in notes(org, expand(org)) if each.code != "trusted-subject"]
    assert [(each.code, str(each.where)) for each in found] == [
        ("heard-by-its-publisher", "org.yaml:4:12")
    ] * told


@pytest.mark.parametrize(("subscribers", "told"), [("[ceo]", 1), ("[ceo, cto]", 0), ("[]", 0)])
def test_an_event_that_a_role_tells_itself_is_noted(subscribers: str, told: int) -> None:
    event = f"{{publishers: [ceo], subscribers: {subscribers}, durable: true}}"
    org = loads(f"org: gen\nroles: {{ceo: , cto: {{reports_to: ceo}}}}\nevents: {{deploy.done: {event}}}\n")
    assert [each.code for each in notes(org, expand(org))] == ["heard-by-its-publisher"] * told


@pytest.mark.parametrize(("bucket", "told"), [("{watchers: [cto]}", 1), ("{readers: [cto]}", 0)])
def test_a_bucket_that_some_may_watch_is_noted(bucket: str, told: int) -> None:
    org = loads(f"org: gen\nroles: [cto]\nkey_value: {{drafts: {bucket}}}\n")
    assert [each.code for each in notes(org, expand(org))] == ["watched-bucket"] * told


def test_few_roles_are_told_one_by_one() -> None:
    codes = [each.code for each in warnings(case("one-line-for-many-roles", "few"))]
    assert codes == ["drops-unread"] * 3 + ["short-ack-wait"]


def test_an_ignore_is_asked_for_its_use_where_it_stands() -> None:
    """The manifest's own serves environments as well: dropping it because one of them has no need would be wrong."""
    text = (
        "org: gen\nroles: [cto]\nlint: {ignore: {short-ack-wait: agents answer in seconds}}\n"
        "consumers: {worker: {ack_wait: 1m}}\n"
        "environments: {slow: {consumers: {worker: {ack_wait: 30m}}}}\n"
    )
    assert warnings(loads(text)) == []
    assert warnings(loads(text, env="slow")) == []


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{short-ack: why}", "3:17: short-ack is no key of ignore (did you mean short-ack-wait?)"),
        ("{unneeded-ignore: why}", "3:17: unneeded-ignore is no key of ignore"),
        ("{short-ack-wait: ''}", "3:33: short-ack-wait must say why"),
        ("{short-ack-wait: ' '}", "3:33: short-ack-wait must say why"),
        ("{short-ack-wait: }", "3:33: short-ack-wait must be text, not empty"),
        ("[short-ack-wait]", "3:8: ignore must be a mapping, not a list"),
    ],
)
def test_an_ignore_is_a_known_code_with_a_reason(written: str, said: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        loads(f"org: gen\nroles: [cto]\nlint: {{ignore: {written}}}\n", file="o")
    assert str(caught.value) == f"o:{said}"


def test_an_ignore_is_written_for_a_role_in_a_list_as_well() -> None:
    role = "{name: cto, worker: {max_deliver: 1}, lint: {ignore: {one-delivery: a person looks}}}"
    assert warnings(loads(f"org: gen\nroles: [{role}, cso]\n")) == []


def test_every_row_says_what_why_and_what_instead_and_is_listed() -> None:
    texts = [text for row in EVERY_LINT for text in (row.about, row.reason, row.advice, row.find.__doc__)]
    assert all(texts)
    assert len({row.code for row in EVERY_LINT}) == len(EVERY_LINT)
    finders = [
        found
        for name, found in vars(rules).items()
        if not name.startswith("_")
        and getattr(found, "__annotations__", {}).get("return") in ("Iterator[str]", "Iterator[Found]")
    ]
    assert {row.find for row in EVERY_LINT} == set(finders)
