"""Read keys and certificates into nats-py's connect options; refuse bad ones before anything is sent."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyborg_infra import files
from cyborg_infra.live.connection.target import Target
from cyborg_infra.model.problems import ConnectFailed, Problem

if TYPE_CHECKING:
    import ssl

_JWT = r"-+BEGIN NATS USER JWT-+\s+(\S+)\s+-+END NATS USER JWT-+"
_SEED = r"-+BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END USER NKEY SEED-+"


def login_options(target: Target) -> dict[str, Any]:
    """Return the part of nats-py's connect options that logs in. Raises ConnectFailed for a file without a usable key."""
    options: dict[str, Any] = {}
    if target.user:
        options |= {"user": target.user, "password": target.password}
    if target.token:
        options["token"] = target.token
    if target.creds:
        options["user_credentials"] = _credentials(*_read_creds(target.creds))
    if target.nkey:
        options["nkeys_seed_str"] = _checked(_read(target.nkey).strip(), f"nkey file {target.nkey}")
    if target.jwt:
        options["user_credentials"] = _credentials(
            target.jwt, _checked(target.seed, "the seed of the user JWT")
        )
    return options


def expired_since(target: Target) -> str:
    """Return when the credentials of a login have expired, by our clock; empty if they have not, or none tells."""
    import time

    from cyborg_infra.model.claims import expiry

    token = target.jwt or (_read_creds(target.creds)[0] if target.creds else "")
    expires = expiry(token) if token else None
    if expires is None or expires > time.time():
        return ""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(expires))


def tls_context(target: Target) -> ssl.SSLContext | None:
    """Return the TLS settings; None where plain text will do unless the server wants TLS. Raises ConnectFailed."""
    if not target.tls_wanted:
        return None
    import ssl

    try:
        context = ssl.create_default_context(cafile=target.tls_ca)
    except (ssl.SSLError, OSError):
        raise _unusable(f"CA file {target.tls_ca}", "it holds no PEM certificate") from None
    if target.tls_cert:
        try:
            # Without a password OpenSSL would ask the terminal for one.
            context.load_cert_chain(target.tls_cert, target.tls_key, password="")
        except (ssl.SSLError, OSError):
            files = f"client certificate {target.tls_cert} with key {target.tls_key}"
            raise _unusable(files, "not in PEM form, encrypted, or not of one pair") from None
    return context


def _unusable(what: str, reason: str) -> ConnectFailed:
    return ConnectFailed(Problem("bad-key", f"cannot use {what}: {reason}"))


def _read(path: Path) -> str:
    try:
        return files.read_text(path)
    except files.Unreadable as error:
        raise _unusable(str(path), str(error)) from None


def _read_creds(path: Path) -> tuple[str, str]:
    text = _read(path)
    jwt, seed = re.search(_JWT, text), re.search(_SEED, text)
    if not jwt or not seed:
        missing = "user JWT" if not jwt else "user seed"
        raise _unusable(f"credentials file {path}", f"there is no {missing} in it")
    return jwt[1], _checked(seed[1], f"credentials file {path}")


def _checked(seed: str, what: str) -> str:
    """Return `seed` itself. Raises ConnectFailed if it is not a user's, or mistyped."""
    if not _is_user_seed(seed):
        raise _unusable(what, "it holds no valid user seed (58 characters that begin with SU)")
    return seed


def _is_user_seed(seed: str) -> bool:
    import nkeys  # type: ignore[import-untyped]  # it has no stubs

    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
        prefix, _ = nkeys.decode_seed(bytearray(seed.encode()))
    except (nkeys.NkeysError, ValueError):
        return False
    # nkeys leaves the checksum to its callers.
    return bool(prefix == nkeys.PREFIX_BYTE_USER and nkeys.crc16_checksum(bytearray(raw[:-2])) == raw[-2:])


def _credentials(jwt: str, seed: str) -> Any:
    from nats.aio.client import RawCredentials

    return RawCredentials(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
