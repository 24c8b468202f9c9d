"""Key pairs of operators, accounts and users, in NATS's notation (nkeys). No text of an error has a seed in it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from enum import Enum
from typing import Self


class KeyKind(Enum):
    """Whose a key is; its first letter, and a seed's second one."""

    OPERATOR = "O"
    ACCOUNT = "A"
    USER = "U"

    @property
    def prefix_byte(self) -> int:
        """The first byte of such a key before it is encoded."""
        import nkeys  # type: ignore[import-untyped]  # it has no stubs

        prefix: int = getattr(nkeys, f"PREFIX_BYTE_{self.name}")
        return prefix


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair. `public` is known to everybody; `seed` is the secret and is never printed."""

    public: str
    seed: str = field(repr=False)

    @classmethod
    def of_random(cls, kind: KeyKind, random: bytes) -> Self:
        """Return the pair that 32 random bytes make."""
        import nkeys

        return cls.of_seed(kind, nkeys.encode_seed(random, kind.prefix_byte).decode())

    @classmethod
    def of_seed(cls, kind: KeyKind, seed: str) -> Self:
        """Return the pair of a seed. Raises ValueError if it is not of this kind, or mistyped."""
        import nkeys

        problem = ValueError(
            f"it holds no valid seed of {_WHOSE[kind]} (58 characters that begin with S{kind.value})"
        )
        try:
            raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
            prefix, _ = nkeys.decode_seed(bytearray(seed.encode()))
        except (nkeys.NkeysError, ValueError):
            raise problem from None
        # nkeys leaves the checksum to its callers.
        if prefix != kind.prefix_byte or nkeys.crc16_checksum(bytearray(raw[:-2])) != raw[-2:]:
            raise problem
        return cls(nkeys.from_seed(bytearray(seed.encode())).public_key.decode(), seed)

    def sign(self, data: bytes) -> bytes:
        """Return the signature of the data."""
        import nkeys

        signature: bytes = nkeys.from_seed(bytearray(self.seed.encode())).sign(data)
        return signature


_WHOSE = {KeyKind.OPERATOR: "an operator", KeyKind.ACCOUNT: "an account", KeyKind.USER: "a user"}


def is_public_key(kind: KeyKind, text: str) -> bool:
    """Return whether a text is the public key of an operator, an account or a user."""
    return text[:1] == kind.value and _verifying_bytes(text) is not None


def is_signature(public: str, data: bytes, signature: bytes) -> bool:
    """Return whether the owner of a public key has signed the data."""
    from nacl.exceptions import BadSignatureError
    from nacl.exceptions import ValueError as BadLength
    from nacl.signing import VerifyKey

    key = _verifying_bytes(public)
    if key is None:
        return False
    try:
        VerifyKey(key).verify(data, signature)
    except (BadSignatureError, BadLength):
        return False
    return True


def _verifying_bytes(public: str) -> bytes | None:
    """Return the 32 bytes that a public key stands for; None if it is none, or mistyped."""
    import nkeys

    try:
        raw = base64.b32decode(public)
    except ValueError:
        return None
    if len(raw) != _PUBLIC_KEY_BYTES or nkeys.crc16_checksum(bytearray(raw[:-2])) != raw[-2:]:
        return None
    return raw[1:-2]


_PUBLIC_KEY_BYTES = 1 + 32 + 2  # whose it is, the key, a checksum
