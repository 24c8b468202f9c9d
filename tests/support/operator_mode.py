"""An operator with two accounts, made on the spot: its users, and the server's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyborg_infra.model.claims import account_claims, account_user_claims, operator_claims, sign
from cyborg_infra.model.key_pairs import KeyKind
from cyborg_infra.operations.key_files import credentials, new_key

_NO_LIMITS = {
    **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1),
    "wildcards": True,
}
_JETSTREAM = {"mem_storage": 1 << 20, "disk_storage": 1 << 30, "streams": 7, "consumer": 11}


class Operator:
    """A trust chain. `config` makes a server accept users of the account AGENTS (JetStream, 7 streams) and BARE."""

    def __init__(self) -> None:
        self.key = new_key(KeyKind.OPERATOR)
        self.accounts = {name: new_key(KeyKind.ACCOUNT) for name in ("SYS", "AGENTS", "BARE")}
        limits = {"AGENTS": _NO_LIMITS | _JETSTREAM}
        self._tokens = {
            name: sign(
                account_claims(name, key.public, issued=1, nats={"limits": limits.get(name, _NO_LIMITS)}),
                self.key,
            )
            for name, key in self.accounts.items()
        }

    @property
    def config(self) -> str:
        """For nats-server."""
        preload = "\n".join(f"  {key.public}: {self._tokens[name]}" for name, key in self.accounts.items())
        trust = sign(operator_claims("OP", self.key.public, issued=1, nats={}), self.key)
        return (
            f"operator: {trust}\n"
            f"system_account: {self.accounts['SYS'].public}\n"
            f"resolver: MEMORY\nresolver_preload: {{\n{preload}\n}}\n"
        )

    def user(self, account: str, **permissions: Any) -> tuple[str, str]:
        """Return token and seed of a fresh user; `permissions` such as `pub={"deny": ["x"]}`."""
        key = new_key(KeyKind.USER)
        claims = account_user_claims("ops", key.public, issued=1)
        claims["nats"] |= permissions
        return sign(claims, self.accounts[account]), key.seed

    def creds(self, path: Path, account: str, **permissions: Any) -> Path:
        """Return `path`, now a credentials file as `nsc` writes it."""
        path.write_text(credentials(*self.user(account, **permissions)), encoding="utf-8")
        return path
