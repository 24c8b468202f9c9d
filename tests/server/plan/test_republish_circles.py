"""What is told of streams that republish to one another is what servers do with one message."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

from cyborg_infra.core.desired.message_flow import republish_cycles
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.server_versions import Version
from tests.support.agents import publish, until
from tests.support.flows import MANY, SUBJECTS, Streams, drawn, state, walked
from tests.support.nats_client import Api, is_haunted

KNOWS_COPIES = Version(2, 15, 0)
"""From here on a stream stores nothing that says that it was copied from another one (10227)."""


EACH = 5
"""So many cases in which a message comes to an end, and as many in which it does not."""


def held(api: Api, streams: Streams) -> Counter[tuple[str, str]]:
    """(stream, subject) -> messages."""
    found: Counter[tuple[str, str]] = Counter()
    for name in streams:
        answer = api.request(f"$JS.API.STREAM.INFO.{name}", {"subjects_filter": ">"})
        for subject, number in (answer["state"].get("subjects") or {}).items():
            found[name, subject] += number
    return found


def run(
    api: Api, streams: Streams, expected: Mapping[str, Counter[tuple[str, str]]], *, endless: bool
) -> None:
    """Each message is published, and becomes what was expected of it, or more and more; then all is deleted."""
    for name, config in streams.items():
        while is_haunted(answer := api.request(f"$JS.API.STREAM.CREATE.{name}", config)):
            api.request(f"$JS.API.STREAM.DELETE.{name}")
        assert "error" not in answer, (streams, answer)
    for subject in expected:
        publish(api, subject, b"task")
    every = sum(expected.values(), Counter[tuple[str, str]]())
    if endless:
        until(lambda: held(api, streams).total() > 2 * MANY, seconds=120)
    else:
        until(lambda: held(api, streams) == every, seconds=120)
    for name in streams:
        api.request(f"$JS.API.STREAM.DELETE.{name}")


def test_a_message_multiplies_where_a_circle_is_told_and_nowhere_else(any_server: EmbeddedServer) -> None:
    """A message that comes to an end is where it was expected, as often, and nowhere else."""
    tried: Counter[bool] = Counter()
    with Api(any_server.url) as api:
        copies_travel = Version.parse(api.info["version"]) < KNOWS_COPIES
        for seed in itertools.count():
            streams = drawn(seed)
            walks = {each: walked(streams, each, copies_travel=copies_travel) for each in SUBJECTS}
            endless = any(walk.total() >= MANY for walk in walks.values())
            assert not endless or republish_cycles(state(streams)), streams
            if tried[endless] < EACH:
                run(api, streams, {each: walk for each, walk in walks.items() if walk}, endless=endless)
                tried[endless] += 1
            if tried == {True: EACH, False: EACH}:
                return
