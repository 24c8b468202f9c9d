"""What of nats-py is loaded by whoever needs a connection."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATER = "'nats.js.api' in sys.modules"


@pytest.mark.parametrize(
    "look",
    [
        "import nats; nats.NATS().jetstream()",
        "from nats.js.errors import APIError",
        "import nats.js.kv",
        "import cyborg_infra.live.verify.agent",
    ],
)
def test_the_client_of_jetstream_is_loaded_when_it_is_first_asked_for_something(look: str) -> None:
    program = f"import sys, cyborg_infra.live.connection.reconnecting; print({LATER}); {look}; print({LATER})"
    assert output(program) == "False\nTrue\n"


def test_nothing_is_left_that_looks_at_other_imports() -> None:
    assert output(
        "import sys; before = list(sys.meta_path); import cyborg_infra.live.connection.reconnecting;"
        "print(sys.meta_path == before)"
    ) == ("True\n")


def test_who_has_imported_nats_before_has_all_of_it() -> None:
    assert output(
        "import sys, nats; before = list(sys.meta_path); import cyborg_infra.live.connection.reconnecting;"
        f"print(sys.meta_path == before, {LATER})"
    ) == ("True True\n")


def output(program: str) -> str:
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    return ended.stdout
