"""Pack a long text for metadata, of which a server takes 128 KiB: a journal with the subjects of a thousand roles is longer, and says little."""

from __future__ import annotations

import base64
import binascii
import zlib

PACKED_ABOVE = 32 * 1024
"""Characters up to which a text is stored as it is: whoever looks at it can read it, and so can earlier versions."""

LARGEST_TEXT = 16 * 1024 * 1024
"""Bytes that a packed text may have: labels can be edited, and a few bytes can be packed out of gigabytes."""

_MARK = "zlib:"


def pack(text: str) -> str:
    """Return a text that `unpack` makes this one of: itself, if it is short."""
    if len(text) <= PACKED_ABOVE:
        return text
    return _MARK + base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(text: str) -> str:
    """Return what was packed. Raises ValueError if that cannot be read."""
    if not text.startswith(_MARK):
        return text
    try:
        packed = base64.b64decode(text.removeprefix(_MARK), validate=True)
        opened = zlib.decompressobj()
        found = opened.decompress(packed, LARGEST_TEXT)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"packed text: {error}") from None
    if not opened.eof:
        raise ValueError("packed text: cut off, or too long")
    return found.decode()
