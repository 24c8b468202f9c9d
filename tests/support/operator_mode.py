"""An operator with two accounts, made on the spot: JWTs, seeds and the server's configuration."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import nkeys  # type: ignore[import-untyped]  # it has no stubs


@dataclass(frozen=True)
class Key:
    """A fresh key pair; `seed` is the secret half in NATS's notation."""

    seed: str
    public: str

    @classmethod
    def new(cls, prefix: int) -> Self:
        """Return a pair of the kind that `prefix` stands for."""
        seed = nkeys.encode_seed(os.urandom(32), prefix).decode()
        return cls(seed, nkeys.from_seed(bytearray(seed.encode())).public_key.decode())

    def sign(self, subject: Key, kind: str, name: str, claims: dict[str, Any]) -> str:
        """Return a JWT of this issuer about `subject`."""
        body = {"jti": name, "iat": 1, "iss": self.public, "sub": subject.public, "name": name}
        body["nats"] = claims | {"type": kind, "version": 2}
        text = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(body)}"
        signature = nkeys.from_seed(bytearray(self.seed.encode())).sign(text.encode())
        return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def user_key() -> Key:
    """Return a user's key pair, also for plain nkey authentication."""
    return Key.new(nkeys.PREFIX_BYTE_USER)


_NO_LIMITS = {
    "subs": -1,
    "data": -1,
    "payload": -1,
    "imports": -1,
    "exports": -1,
    "wildcards": True,
    "conn": -1,
    "leaf": -1,
}
_JETSTREAM = {"mem_storage": 1 << 20, "disk_storage": 1 << 30, "streams": 7, "consumer": 11}


class Operator:
    """A trust chain. `config` makes a server accept users of the account AGENTS (JetStream, 7 streams) and BARE."""

    def __init__(self) -> None:
        self.key = Key.new(nkeys.PREFIX_BYTE_OPERATOR)
        self.accounts = {name: Key.new(nkeys.PREFIX_BYTE_ACCOUNT) for name in ("SYS", "AGENTS", "BARE")}
        limits = {"AGENTS": _NO_LIMITS | _JETSTREAM}
        self._jwts = {
            name: self.key.sign(key, "account", name, {"limits": limits.get(name, _NO_LIMITS)})
            for name, key in self.accounts.items()
        }

    @property
    def config(self) -> str:
        """For nats-server."""
        preload = "\n".join(f"  {key.public}: {self._jwts[name]}" for name, key in self.accounts.items())
        return (
            f"operator: {self.key.sign(self.key, 'operator', 'OP', {})}\n"
            f"system_account: {self.accounts['SYS'].public}\n"
            f"resolver: MEMORY\nresolver_preload: {{\n{preload}\n}}\n"
        )

    def user(self, account: str, **permissions: Any) -> tuple[str, str]:
        """Return JWT and seed of a fresh user; `permissions` such as `pub={"deny": ["x"]}`."""
        key = user_key()
        claims = {"subs": -1, "data": -1, "payload": -1} | permissions
        return self.accounts[account].sign(key, "user", "ops", claims), key.seed

    def creds(self, path: Path, account: str, **permissions: Any) -> Path:
        """Return `path`, now a credentials file as `nsc` writes it."""
        jwt, seed = self.user(account, **permissions)
        path.write_text(creds_text(jwt, seed), encoding="utf-8")
        return path


def creds_text(jwt: str, seed: str) -> str:
    """Return what a credentials file holds."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "NKEY Seed printed below can be used to sign and prove identity.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n"
        "*************************************************************\n"
    )
