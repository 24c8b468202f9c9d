"""Limits of a server's own, which no request tells: what the manifest leaves open is the server's, what it says is refused first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.cli.output import json_text
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.changes import Cause
from cyborg_infra.model.metadata_keys import SERVER_VALUES_KEY
from cyborg_infra.model.problems import PlanRefused, Problem
from cyborg_infra.operations import provision
from cyborg_infra.render import json_format
from tests.support.acceptance_cases import account
from tests.support.cluster import running_clusters
from tests.support.scenario import Scenario
from tests.support.servers import VERSIONS, StartServer, server_binary

LIMITS = 'jetstream { limits { duplicate_window: "1m", max_ack_pending: 500, max_request_batch: 100 } }'
OTHERS = "jetstream { limits { max_ack_pending: 500, max_request_batch: 100 } }"
MINUTE = 60 * 10**9
TASKS, WORKER, READER = (
    "A_AGENT_CTO_TASKS",
    "A_AGENT_CTO_TASKS/cto-worker",
    "A_AGENT_INBOXES/cto-inbox-reader",
)


@pytest.fixture(scope="module", params=VERSIONS)
def scenario(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """Yield one server of each version, with every limit."""
    home: Path = tmp_path_factory.mktemp("limits")
    with (
        EmbeddedServer(home, config=LIMITS, binary=server_binary(str(request.param))) as server,
        Scenario(server.url, home) as opened,
    ):
        yield opened


def manifest(name: str, tasks: str = "", worker: str = "", more: str = "", prefix: str = "A_") -> str:
    return (
        f"org: {name}\nroles: {{cto: {{tasks: {{{tasks}}}, worker: {{{worker}}}}}, cso: {{}}}}\n"
        f"naming: {{stream_prefix: {name}_{prefix}}}\n{more}"
    )


def held(scenario: Scenario, name: str, ref: str, prefix: str = "A_") -> dict[str, Any]:
    """Return what limits decide of one of ours."""
    config = scenario.config(f"{name}_{ref.replace('A_', prefix, 1)}")
    return {
        field: config[field]
        for field in ("duplicate_window", "max_ack_pending", "max_batch")
        if field in config
    }


CHANGES: dict[str, dict[str, str]] = {
    "nothing": {},
    "a worker is updated": {"worker": "ack_wait: 1h"},
    "a worker is made anew": {"worker": "max_waiting: 9"},
    "a stream is updated": {"tasks": "max_age: 80h"},
    "a stream is moved": {"tasks": "storage: memory"},
    "streams are renamed": {"prefix": "B_"},
    "a queue": {"tasks": "retention: workqueue"},
    "only a label": {"tasks": "metadata: {team: a}", "worker": "metadata: {team: a}"},
    "a role comes": {"more": "key_value: {docs: {}}"},
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_is_left_open_is_the_servers(scenario: Scenario, case: str) -> None:
    """It is no difference, after the first apply or any other one."""
    name = f"open{list(CHANGES).index(case)}"
    scenario.converge(manifest(name))
    assert not scenario.plan(scenario.request(manifest(name)))
    wish = manifest(name, **CHANGES[case])
    scenario.converge(wish)
    assert not scenario.plan(scenario.request(wish))
    prefix = CHANGES[case].get("prefix", "A_")
    assert held(scenario, name, TASKS, prefix) == {"duplicate_window": MINUTE}
    assert held(scenario, name, WORKER, prefix) == {"max_ack_pending": 5, "max_batch": 100}
    assert held(scenario, name, READER, prefix) == {"max_ack_pending": 500, "max_batch": 100}
    assert not scenario.plan(scenario.request(wish)).has_drift


def test_a_shorter_age_is_a_shorter_window(scenario: Scenario) -> None:
    """A window is at most the age; where that is below the usual one and above the limit, the limit holds."""
    for seconds, expected in ((90, MINUTE), (30, MINUTE // 2)):
        wish = manifest(f"age{seconds}", f"max_age: {seconds}s")
        scenario.converge(wish)
        assert held(scenario, f"age{seconds}", TASKS) == {"duplicate_window": expected}
        assert not scenario.plan(scenario.request(wish))


SAID: dict[str, tuple[str, str, str]] = {
    "tasks: duplicate_window": ("duplicate_window: 2m", "duplicate_window is 2m, and the server allows 1m (err_code 10052)", "duplicate_window: 1m"),
    "worker: max_ack_pending": ("max_ack_pending: 501", "max_ack_pending is 501, and the server allows 500 (err_code 10121)", "max_ack_pending: 500"),
    "worker: max_batch": ("max_batch: 101", "max_batch is 101, and the server allows 100 (err_code 10125)", "max_batch: 100"),
}  # fmt: skip


@pytest.mark.parametrize("lives", ["", "lives"], ids=["made", "updated"])
@pytest.mark.parametrize("case", SAID)
def test_what_is_said_and_more_than_the_server_allows_is_refused_before_the_first_write(
    scenario: Scenario, case: str, lives: str
) -> None:
    """It names the resource, the field, the limit, and what to write; with that written it is done."""
    name, (setting, message, instead) = f"said{list(SAID).index(case)}{lives}", SAID[case]
    of = case.split(":", maxsplit=1)[0]
    if lives:
        scenario.converge(manifest(name))
    wish = scenario.request(manifest(name, **{of: setting}))
    (problem,) = refusal(scenario, wish)
    which = f"{name}_{TASKS if of == 'tasks' else WORKER}"
    assert problem.message == f"trying the new configuration of {which}: {message}; nothing was changed"
    assert problem.where is not None
    assert (problem.hint or "").startswith(f"write {instead}, or less")
    allowed = manifest(name, **{of: instead})
    scenario.converge(allowed)
    assert not scenario.plan(scenario.request(allowed))


def refusal(scenario: Scenario, wish: provision.PlanRequest) -> tuple[Problem, ...]:
    """Return why nothing is written."""
    before = scenario.everything()
    with scenario.requests() as made, pytest.raises(PlanRefused) as refused:
        scenario.apply(wish)
    assert [request.verb for request in made if request.writes] == []
    assert scenario.everything().keys() == before.keys()
    return tuple(refused.value.problems)


def test_what_somebody_changes_is_drift(scenario: Scenario) -> None:
    """Only what the server itself made of it is the server's."""
    wish = manifest("drift")
    scenario.converge(wish)
    for ref, field, value in (
        (f"drift_{WORKER}", "max_batch", 50),
        (f"drift_{READER}", "max_ack_pending", 7),
    ):
        stream, consumer = ref.split("/")
        config = {**scenario.config(ref), field: value}
        body = {"stream_name": stream, "config": config, "action": "update"}
        scenario.ask(f"CONSUMER.CREATE.{stream}.{consumer}", body)
        (change,) = scenario.plan(scenario.request(wish)).changes
        assert (str(change.ref), change.cause, [each.field for each in change.fields]) == (
            ref,
            Cause.DRIFT,
            [field],
        )
        scenario.converge(wish)
        assert held(scenario, "drift", ref.removeprefix("drift_"))["max_batch"] == 100
    assert not scenario.plan(scenario.request(wish))


def test_what_is_said_takes_over_from_what_the_server_made(scenario: Scenario) -> None:
    """The same value, said: then it is the manifest's; and left open again."""
    scenario.converge(manifest("said"))
    for worker in ("max_batch: 100", "max_batch: 60", ""):
        wish = manifest("said", worker=worker)
        scenario.converge(wish)
        assert not scenario.plan(scenario.request(wish))
    assert held(scenario, "said", WORKER)["max_batch"] == 100


def test_a_saved_plan_knows_what_is_left_open(scenario: Scenario, tmp_path: Path) -> None:
    plan = scenario.plan(scenario.request(manifest("saved")))
    path = tmp_path / "plan.json"
    path.write_text(json_text(json_format.saved(plan)), encoding="utf-8")
    scenario.apply(provision.load_request(str(path)))
    assert not scenario.plan(scenario.request(manifest("saved")))


@pytest.mark.parametrize("version", VERSIONS)
def test_limits_come_and_go(start_server: StartServer, tmp_path: Path, version: str) -> None:
    """What lives stays as it is, but for a limit that comes; what is changed afterwards is as the server is then."""
    free = start_server(version=version)
    text = "org: acme\nroles: {cto: {worker: {ack_wait: %s}}}\n"
    with Scenario(free.url, tmp_path) as scenario:
        scenario.converge(text % "1h")
    for number, (config, most) in enumerate(
        ((OTHERS, 100), ("", None), (OTHERS.replace("100", "50"), 50)), 2
    ):
        free.stop()
        free = EmbeddedServer(free.store_dir, config=config, binary=server_binary(version)).start()
        try:
            with Scenario(free.url, tmp_path) as scenario:
                same = scenario.plan(scenario.request(text % f"{number - 1}h"))
                assert {each.field for change in same.changes for each in change.fields} <= {"max_batch"}
                assert not same or number != 3  # a start fills in what nobody has noted
                scenario.converge(text % f"{number}h")
                assert not scenario.plan(scenario.request(text % f"{number}h"))
                worker = scenario.config("AGENT_CTO_TASKS/cto-worker")
                assert worker.get("max_batch") == most
                assert (SERVER_VALUES_KEY in worker["metadata"]) == bool(most)
        finally:
            free.stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_accounts_limit_is_the_servers_as_well(
    start_server: StartServer, tmp_path: Path, version: str
) -> None:
    """What is left open is what the account allows; what is said is refused by the plan."""
    server = start_server(config=account("max_ack_pending: 300"), version=version)
    with Scenario(server.url, tmp_path) as scenario:
        scenario.converge(manifest("acc"))
        assert not scenario.plan(scenario.request(manifest("acc")))
        assert held(scenario, "acc", READER) == {"max_ack_pending": 300}
        wish = scenario.request(manifest("acc", worker="max_ack_pending: 301"))
        assert [problem.code for problem in scenario.plan(wish).blocking_problems] == ["limit-ack-pending"]


def test_roles_of_a_kind_are_tried_once(scenario: Scenario) -> None:
    """A hundred roles cost as many requests as one; those that are set otherwise are tried as well."""

    def tried(name: str, roles: str) -> int:
        with scenario.requests() as made:
            scenario.converge(f"org: {name}\nroles: {{{roles}}}\nnaming: {{stream_prefix: {name}_}}\n")
        return sum("rehearsal" in request.verb for request in made)

    one = tried("one", "r0: {}")
    assert one == tried("hundred", ", ".join(f"r{number}: {{}}" for number in range(100)))
    others = ", ".join(f"r{number}: {{worker: {{max_batch: {number + 1}}}}}" for number in range(3))
    assert one < tried("three", others) <= 3 * one


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cluster_is_no_other(tmp_path: Path, version: str) -> None:
    """With copies: what is left open converges, and what is said is refused."""
    text = "org: acme\ndefaults: {replicas: 3}\nroles: {cto: {worker: {%s}}%s}\n"
    with (
        running_clusters(
            tmp_path / "servers", {"tests": ["n0", "n1", "n2"]}, version, f"{LIMITS}\n"
        ) as clusters,
        Scenario(clusters["tests"][0].url, tmp_path) as scenario,
    ):
        for worker in ("", "ack_wait: 1h", "max_waiting: 9"):
            scenario.converge(text % (worker, ""))
            assert not scenario.plan(scenario.request(text % (worker, "")))
        (problem,) = refusal(scenario, scenario.request(text % ("max_waiting: 9, max_batch: 101", "")))
        assert "max_batch is 101, and the server allows 100" in problem.message
