"""What an answer of the API becomes."""

from __future__ import annotations

import pytest

from cyborg_infra.live.api.decode import decode_resource
from cyborg_infra.model.ref import Ref


@pytest.mark.parametrize(
    ("run", "delivered", "expected"),
    [
        ("NABC", {"last_active": "2026-01-01T00:00:00Z"}, "NABC"),
        ("", {"last_active": "2026-01-01T00:00:00Z"}, "2026-01-01T00:00:00Z"),
        ("", {}, ""),
    ],
)
def test_the_run_of_a_server_is_known_by_its_id_or_by_what_it_would_forget(
    run: str, delivered: dict[str, str], expected: str
) -> None:
    row = {
        "config": {},
        "delivered": {"stream_seq": 0, **delivered},
        "ack_floor": {"stream_seq": 0},
        **dict.fromkeys(("num_pending", "num_ack_pending", "num_redelivered", "num_waiting"), 0),
    }
    assert decode_resource(Ref("S", "c"), row, run).activity.incarnation == expected
