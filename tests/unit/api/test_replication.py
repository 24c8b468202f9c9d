"""When a cluster is at rest, by what INFO says of it; and that nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.api.replication import is_replicated, wait_until_replicated
from cyborg_infra.live.connection.errors import NoReply
from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource
from tests.support.faults import Faults

WHOLE: dict[str, Any] = {
    "leader": "a",
    "replicas": [{"name": "b", "current": True}, {"name": "c", "current": True}],
}
BEHIND = {"name": "c", "current": False, "lag": 7}


@pytest.mark.parametrize(
    ("members", "wanted", "rests"),
    [
        (WHOLE, 3, True),
        (WHOLE, 0, True),
        (WHOLE, 1, False),  # two have to go
        ({"leader": "a"}, 1, True),
        ({"leader": "a"}, 3, False),
        (WHOLE | {"leader": ""}, 3, False),
        (WHOLE | {"desired": {}}, 3, False),
        (WHOLE | {"replicas": [WHOLE["replicas"][0], BEHIND]}, 3, False),
        (WHOLE | {"replicas": [WHOLE["replicas"][0], BEHIND | {"offline": True}]}, 3, True),
    ],
)
def test_at_rest(members: dict[str, Any], wanted: int, rests: bool) -> None:  # noqa: FBT001 - a table
    assert is_replicated(members, wanted) is rests


class Cluster:
    """Answers with the members it was given, the last one for ever; None is no answer."""

    is_clustered = True

    def __init__(self, *answers: dict[str, Any] | None) -> None:
        self._answers = list(answers)

    async def cluster_info(self, ref: Ref, *, timeout: float) -> dict[str, Any]:  # noqa: ASYNC109
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if answer is None:
            raise NoReply(str(ref), timeout)
        return dict(answer)


def wait(
    *answers: dict[str, Any] | None, patience: float, waits: Callable[[str], None] = lambda _: None
) -> None:
    server = cast("JetStream", Cluster(*answers))
    asyncio.run(
        wait_until_replicated(server, Resource(Ref("S"), {"num_replicas": 3}), waits, max_wait=patience)
    )


def test_it_waits_while_nobody_answers_and_while_a_copy_is_behind() -> None:
    wait(None, {"leader": ""}, WHOLE | {"replicas": [BEHIND, BEHIND]}, WHOLE, patience=60)


def test_without_progress_it_gives_up_and_says_how_far_it_is() -> None:
    with pytest.raises(
        ServerFault, match=r"S: .* not carried out: 1 of 3 copies current; nothing was heard of c"
    ):
        wait({"leader": "a", "replicas": [BEHIND]}, patience=0)


def test_a_long_wait_is_reported_once_for_each_step(faults: Faults) -> None:
    faults.waits(WAIT_NOTICE_AFTER_SECONDS=-1)
    faults.waits(REPLICATION_POLL_SECONDS=0)
    heard: list[str] = []
    alone = {"leader": "a", "replicas": [BEHIND]}
    many = {"leader": "a", "replicas": [BEHIND] * 3}
    half = WHOLE | {"replicas": [WHOLE["replicas"][0], BEHIND]}
    wait({"leader": ""}, alone, alone, many, half, half, WHOLE, WHOLE, patience=60, waits=heard.append)
    assert heard == [
        "waiting for S: no leader",
        "waiting for S: 1 of 3 copies current",
        "waiting for S: 4 copies where 3 are wanted",
        "waiting for S: 2 of 3 copies current",
        "waiting for S: 3 of 3 copies current",
    ]
