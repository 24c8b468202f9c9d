"""Claims: what an operator says of an account, and an account of a user, as a signed JSON web token.

The form is that of github.com/nats-io/jwt/v2, which servers and `nsc` use. A document is read as it is and written as it
was read, with what is unknown here in its place.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from cyborg_infra.model.key_pairs import KeyPair, is_signature
from cyborg_infra.model.valueclass import NamedTuple

Claims = Mapping[str, Any]
"""The body of a token: `iss` has signed it, `sub` is whom it is about, `iat` and `exp` are seconds since 1970."""

MAX_TOKEN_BYTES = 1 << 20
"""The longest token that nats-server 2.15.1 reads, whatever its max_payload is; 2.10.26 has no such limit."""

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_VERSION = 2


class NoClaims(ValueError):
    """A text is no token with claims, or is not signed by whom it says. The reason never quotes the text."""


def user_claims(
    name: str, public: str, account: str, *, issued: int, expires: int | None = None
) -> dict[str, Any]:
    """Return the claims of a user of a scoped signing key: neither permissions nor limits, or servers refuse it.

    `account` is the public key of the account, `issued` and `expires` are seconds since 1970.
    """
    body = {"iat": issued, "sub": public, "name": name}
    if expires is not None:
        body["exp"] = expires
    return {**body, "nats": {"issuer_account": account, "type": "user", "version": _VERSION}}


def account_user_claims(name: str, public: str, *, issued: int) -> dict[str, Any]:
    """Return the claims of a user that the account itself signs, and who may do all that the account may."""
    nats = {**dict.fromkeys(("subs", "data", "payload"), -1), "type": "user", "version": _VERSION}
    return {"iat": issued, "sub": public, "name": name, "nats": nats}


def account_claims(name: str, public: str, *, issued: int, nats: Claims) -> dict[str, Any]:
    """Return the claims of an account; `nats` are its limits and what else it has."""
    return {
        "iat": issued,
        "sub": public,
        "name": name,
        "nats": {**nats, "type": "account", "version": _VERSION},
    }


def operator_claims(name: str, public: str, *, issued: int, nats: Claims) -> dict[str, Any]:
    """Return the claims of an operator, which it signs itself."""
    return {
        "iat": issued,
        "sub": public,
        "name": name,
        "nats": {**nats, "type": "operator", "version": _VERSION},
    }


def sign(claims: Claims, signer: KeyPair) -> str:
    """Return the token of the claims. Its `iss` is the signer, its `jti` is made of all the rest."""
    body = {key: value for key, value in claims.items() if key != "jti"} | {"iss": signer.public}
    digest = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()
    body["jti"] = base64.b32encode(digest).decode().rstrip("=")
    signed = f"{_encode(orjson.dumps(_HEADER))}.{_encode(orjson.dumps(body))}"
    return f"{signed}.{_encode(signer.sign(signed.encode()))}"


def decode(token: str) -> dict[str, Any]:
    """Return the claims of a token, once its signature is found to be by its issuer. Raises NoClaims."""
    parts = token.strip().split(".")
    if len(parts) != len(_Parts._fields):
        raise NoClaims("it is no JSON web token: that has three parts with dots between")
    header, body, signature = (_decode(part) for part in parts)
    if _object(header).get("alg") != _HEADER["alg"]:
        raise NoClaims(f"it is not signed by {_HEADER['alg']}, which is what NATS takes")
    claims = _object(body)
    if not all(isinstance(claims.get(key), str) for key in ("iss", "sub")) or not isinstance(
        claims.get("nats"), dict
    ):
        raise NoClaims("it says nothing of NATS: no issuer, subject or `nats`")
    if not is_signature(claims["iss"], f"{parts[0]}.{parts[1]}".encode(), signature):
        raise NoClaims("its signature is not its issuer's")
    return claims


_LAST_SECOND = 253_402_300_799  # of the year 9999: no date is later


def expiry(token: str) -> int | None:
    """Return when a token expires, in seconds since 1970; None if not before the year 10000, or if it is no token."""
    try:
        expires = decode(token).get("exp")
    except NoClaims:
        return None
    return expires if isinstance(expires, int) and 0 < expires <= _LAST_SECOND else None


class _Parts(NamedTuple):
    header: str
    body: str
    signature: str


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise NoClaims("it is no JSON web token: a part of it is not base64") from None


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NoClaims("it is no JSON web token: a part of it is no JSON object")
    return found
