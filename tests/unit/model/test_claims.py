"""Tokens: what is signed is read back as it was, and nothing else is read."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.model.claims import NoClaims, decode, expiry, sign, user_claims
from cyborg_infra.model.key_pairs import KeyKind, KeyPair, is_public_key
from tests.support.draws import draws

OPERATOR, ACCOUNT, USER = (
    KeyPair.of_random(kind, bytes([number] * 32)) for number, kind in enumerate(KeyKind)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@draws(30)
@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=4), st.binary(min_size=32, max_size=32))
def test_what_is_signed_is_read_back_as_it_was(more: dict[str, Any], random: bytes) -> None:
    signer = KeyPair.of_random(KeyKind.ACCOUNT, random)
    claims = {**more, "sub": USER.public, "nats": more}
    found = decode(sign(claims, signer))
    assert found.pop("iss") == signer.public
    assert len(found.pop("jti")) == 52
    claims.pop("iss", None), claims.pop("jti", None)
    assert found == claims


def altered(token: str) -> str:
    header, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = (
        base64.urlsafe_b64encode(json.dumps(claims | {"exp": 99999999999}).encode()).decode().rstrip("=")
    )
    return f"{header}.{changed}.{signature}"


TOKEN = sign(user_claims("cto", USER.public, ACCOUNT.public, issued=1, expires=2), ACCOUNT)


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "no JSON web token"),
        ("a.b", "no JSON web token"),
        ("%.%.%", "not base64"),
        ("YQ.YQ.YQ", "no JSON object"),
        ("e30.e30.e30", "not signed by ed25519-nkey"),
        (altered(TOKEN), "its signature is not its issuer's"),
        (TOKEN.rsplit(".", 1)[0] + ".YQ", "its signature is not its issuer's"),
        (sign({"sub": "x"}, ACCOUNT), "says nothing of NATS"),
    ],
)
def test_what_is_no_token_is_not_read(token: str, why: str) -> None:
    with pytest.raises(NoClaims, match=why) as caught:
        decode(token)
    assert len(token) < 20 or token not in str(caught.value)
    assert expiry(token) is None


def test_a_user_of_a_scoped_key_has_neither_permissions_nor_limits() -> None:
    """Servers refuse one that has (measured on 2.10.26 and 2.15.1)."""
    claims = decode(TOKEN)
    assert claims["nats"] == {"issuer_account": ACCOUNT.public, "type": "user", "version": 2}
    assert (claims["sub"], claims["exp"], expiry(TOKEN)) == (USER.public, 2, 2)


def test_a_token_that_outlives_every_date_does_not_expire() -> None:
    token = sign(user_claims("cto", USER.public, ACCOUNT.public, issued=1, expires=10**15), ACCOUNT)
    assert expiry(token) is None


def test_a_seed_is_checked_and_never_quoted() -> None:
    assert KeyPair.of_seed(KeyKind.USER, USER.seed) == USER
    assert USER.seed not in repr(USER)
    mistyped = ("B" if USER.seed[-1] != "B" else "C").join((USER.seed[:-1], ""))
    for seed in (ACCOUNT.seed, mistyped, USER.seed[:-1], "", "SU", USER.public, "\N{SNOWMAN}"):
        with pytest.raises(ValueError, match="it holds no valid seed of a user") as caught:
            KeyPair.of_seed(KeyKind.USER, seed)
        assert len(seed) < 3 or seed not in str(caught.value)


def test_a_public_key_is_known_by_its_letter_and_checksum() -> None:
    assert is_public_key(KeyKind.ACCOUNT, ACCOUNT.public)
    others = (USER.public, ACCOUNT.seed, ACCOUNT.public[:-1], "", "trust/account.jwt")
    assert not any(is_public_key(KeyKind.ACCOUNT, each) for each in others)
