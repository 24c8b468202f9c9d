"""Messages as a stream holds them."""

from __future__ import annotations

from cyborg_infra.model.fields import Config
from cyborg_infra.model.valueclass import valueclass

Headers = tuple[tuple[str, str], ...]
"""Names and values in their order; a name may come more than once."""


@valueclass(frozen=True, slots=True)
class StoredMessage:
    """A stored message. `time` is RFC 3339 as the server writes it."""

    subject: str
    sequence: int
    time: str
    data: bytes = b""
    headers: Headers = ()

    def header(self, name: str) -> str:
        """Return the first value of a header, empty if there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@valueclass(frozen=True, slots=True)
class StreamUsage:
    """What DEAD_LETTERS holds: in all, on the subject of copies, and the number of its first entry."""

    config: Config
    messages: int
    bytes: int
    first: int
    copies: int
