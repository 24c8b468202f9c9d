"""What `dev` says to try, once its server listens."""

from __future__ import annotations

import pytest

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.manifest.load import loads
from cyborg_infra.render.terminal import plan as text

STATUS = "cyborg-infra status"


@pytest.mark.parametrize(
    ("channels", "tries"),
    [
        (
            "{}",
            [
                "cyborg-infra send task qa --title 'Say hello'",
                STATUS,
                "nats consumer next AGENT_QA_TASKS qa-worker",
            ],
        ),
        ("{tasks: false}", [STATUS]),
        ("{tasks: false, inbox: false, broadcasts: false, dead_letters: false}", [STATUS]),
    ],
    ids=["tasks", "no-tasks", "no-consumers"],
)
def test_a_task_is_tried_where_there_are_tasks(channels: str, tries: list[str]) -> None:
    state = expand(loads(f"org: acme\nroles: [qa]\nchannels: {channels}\n"))
    lines = text.dev("nats://127.0.0.1:1", state, manifest=None, kept_in=None).plain()
    assert [each.strip() for each in lines][-len(tries) :] == tries
