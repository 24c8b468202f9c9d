"""A long text fits into metadata, and comes back as it was."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.model.packed_text import LARGEST_TEXT, PACKED_ABOVE, pack, unpack
from tests.support.draws import draws


@draws()
@given(st.text(), st.integers(1, 9000))
def test_a_text_comes_back_as_it_was(text: str, times: int) -> None:
    """Also a long one, which takes less than it says."""
    long = f"{{{text}" * times
    assert unpack(pack(long)) == long
    if len(long) <= PACKED_ABOVE:
        assert pack(long) == long


@pytest.mark.parametrize(
    "packed",
    [
        "zlib:",
        "zlib:?",
        "zlib:" + base64.b64encode(b"no zlib").decode(),
        pack("x" * (PACKED_ABOVE + 1))[:-12],
        "zlib:" + base64.b64encode(zlib.compress(bytes(LARGEST_TEXT + 1))).decode(),
        "zlib:" + base64.b64encode(zlib.compress(bytes([255]))).decode(),
    ],
)
def test_what_cannot_be_read_is_a_value_error(packed: str) -> None:
    """Labels can be edited; and a few bytes can be packed out of gigabytes."""
    with pytest.raises(ValueError, match=r"packed|codec"):
        unpack(packed)
