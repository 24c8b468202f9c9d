"""What a plan says that carrying it out takes: the storage that it reserves, and the work that it waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyborg_infra.model.plan import Reservation
from cyborg_infra.model.ref import Ref
from cyborg_infra.render.change_lines import effort
from tests.support.acceptance_cases import ORG, TASK, TWO, WORKER, account, worker
from tests.support.scenario import Scenario, after_apply, fetched, published
from tests.support.servers import VERSIONS, StartServer

MIB = 1024 * 1024
ROOMY = (
    ORG
    + "streams: {tasks: {max_bytes: 150MB}, inboxes: {max_bytes: 400MB}, broadcasts: {storage: memory, max_bytes: 8MB}}\n"
)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("limits", "most", "told"),
    [
        ("max_file: 2GB, max_mem: 64MB", (2 * 1024 * MIB, 64 * MIB), "the account may have 2 GiB"),
        ("", (-1, -1), "the account has no limit of its own"),
    ],
)
def test_a_plan_says_how_much_storage_it_reserves_and_how_much_there_may_be(
    start_server: StartServer, tmp_path: Path, version: str, limits: str, most: tuple[int, int], told: str
) -> None:
    """What shrinks gives nothing back in the sum: until it has shrunk, both are there."""
    with Scenario(
        start_server(config=account(limits) if limits else "", version=version).url, tmp_path
    ) as scene:
        first = scene.plan(scene.request(ORG))
        assert first.reserves == (Reservation("file", 600 * MIB, 0, most[0]),)
        assert effort(first)[0].startswith("It reserves 600 MiB of file storage in all")
        assert told in effort(first)[0]
        scene.converge(ORG)
        taken = scene.ask("INFO")["reserved_storage"] if limits else 0
        grown = scene.plan(scene.request(ROOMY))
        file, memory = grown.reserves
        assert (file.storage, file.bytes, file.most) == ("file", 50 * MIB, most[0])
        assert file.taken >= taken
        assert (memory.storage, memory.bytes, memory.most) == ("memory", 8 * MIB, most[1])
        assert scene.plan(scene.request(ORG)).reserves == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_says_what_it_will_wait_for(start_server: StartServer, tmp_path: Path, version: str) -> None:
    with Scenario(start_server(version=version).url, tmp_path) as scene:
        for step in (after_apply(TWO), published(TASK, 3), fetched(WORKER, 2)):
            step(scene)
        replaced = worker("max_waiting: 9").replace("[cto]", "[cto, ceo]")
        plan = scene.plan(scene.request(replaced))
        assert plan.waits == {Ref(*WORKER.split("/")): 2}
        (told,) = effort(plan)
        assert "(2 messages)" in told
        assert "--drain-timeout (1m unless given)" in told
        assert told.endswith(f"{WORKER}.")
