"""What a listing names and does not tell of: only what is certain to be somebody else's is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from cyborg_infra.live.api.paging import MissingRow
from cyborg_infra.live.api.unreachable import MissingRows, find_foreign_consumers, find_foreign_streams
from cyborg_infra.live.connection.errors import PermissionDenied
from cyborg_infra.model.metadata_keys import OWNER_KEY, RENAMED_FROM_KEY
from cyborg_infra.model.problems import SnapshotIncomplete
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource, State
from cyborg_infra.model.subjects import overlap

UNTOLD = MissingRow("", None)
DESIRED = State(
    {
        Ref("TASKS"): Resource(Ref("TASKS"), {"subjects": ["acme.agents.cto.tasks"]}),
        Ref("OWN"): Resource(Ref("OWN"), {"subjects": ["own.subject"]}),
        Ref("TASKS", "worker"): Resource(Ref("TASKS", "worker"), {}),
    }
)
STORED = {
    "TASKS": "acme.agents.cto.tasks",
    "OLD_TASKS": "acme.agents.cto.tasks",
    "RETIRED": "acme.agents.cso.tasks",
    "OWN_BEFORE": "own.subject",
    "PARKED": "_parked.PARKED",
    "FOREIGN": "foreign.>",
    "BETA": "beta.agents.cto.tasks",
}


def labelled(owner: str) -> MissingRow:
    return MissingRow("", {"config": {"metadata": {OWNER_KEY: owner}}})


def strangers(missing: MissingRows, *, page: int = 2, denied: bool = False) -> set[str]:
    """Return by a cluster that knows what streams store whose servers are down."""

    async def ask(verb: str, body: Mapping[str, Any], *, doing: str) -> dict[str, Any]:
        assert (verb, bool(doing)) == ("STREAM.NAMES", True)
        if denied:
            raise PermissionDenied("$JS.API.STREAM.NAMES")
        names = sorted(name for name, subject in STORED.items() if overlap(subject, body["subject"]))
        return {"streams": names[body["offset"] :][:page] or None, "total": len(names)}

    return asyncio.run(find_foreign_streams(ask, missing, "acme", DESIRED))


@pytest.mark.parametrize("page", [1, 2, 100])
def test_a_stream_is_strange_that_has_neither_a_name_nor_a_label_nor_a_subject_of_ours(page: int) -> None:
    missing = dict.fromkeys([*STORED, "MIRROR", "cyborg-infra-temporary-TASKS"], UNTOLD)
    assert strangers(missing, page=page) == {"FOREIGN", "BETA", "MIRROR"}
    assert strangers({"MIRROR": labelled("acme"), "OTHER": labelled("beta")}, page=page) == {"OTHER"}
    assert strangers({"TASKS": UNTOLD}, page=page, denied=True) == set()
    with pytest.raises(SnapshotIncomplete, match=r"FOREIGN could not be read.*\$JS\.API\.STREAM\.NAMES"):
        strangers({"FOREIGN": UNTOLD}, page=page, denied=True)


def test_a_consumer_is_strange_that_has_neither_a_name_nor_a_label_of_ours() -> None:
    missing = {
        "worker": UNTOLD,
        "cyborg-infra-placeholder-worker": UNTOLD,
        "debug": UNTOLD,
        "ours": labelled("acme"),
        "theirs": labelled("beta"),
    }
    assert find_foreign_consumers(missing, (), "TASKS", "acme", DESIRED) == {"debug", "theirs"}
    assert find_foreign_consumers(missing, (), "ELSEWHERE", "acme", DESIRED) == set()
    renamed = Resource(Ref("TASKS", "new-worker"), {"metadata": {RENAMED_FROM_KEY: "old"}})
    desired = State({**DESIRED.resources, renamed.ref: renamed})
    assert find_foreign_consumers(missing, (), "TASKS", "acme", desired) == {
        "theirs"
    }  # `debug` may be its predecessor
    assert find_foreign_consumers(missing, ["new-worker"], "TASKS", "acme", desired) == {"debug", "theirs"}
