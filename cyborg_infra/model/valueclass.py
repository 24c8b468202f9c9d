"""`valueclass`: a frozen dataclass, but that only type checkers keep it from changing.

Python's own freezing sets each field by a call, so that one takes four times as long to make, and its class twice. It
is for what there are tens of thousands of, and for what every command imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["valueclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass as valueclass
else:
    from dataclasses import dataclass

    def valueclass(*, frozen: bool, slots: bool) -> object:
        """Return as dataclass, hashed as one that is frozen."""
        return dataclass(slots=slots, unsafe_hash=frozen)
