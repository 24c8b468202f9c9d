"""The credentials of identities: which files there are, never what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cyborg_infra.model.credentials import Credentials
from cyborg_infra.render.json_format import SCHEMA_VERSION
from cyborg_infra.render.terminal.layout import Page, Table, line


def credentials_table(found: Sequence[Credentials]) -> Page:
    """Return a table with a row for each identity, and how to renew what has expired."""
    rows = tuple(
        (
            each.identity,
            each.file,
            _state(each),
            each.inbox_prefix,
            _moment(each.expires),
            each.signing_key,
        )
        for each in found
    )
    table = Table(("identity", "credentials", "", "inbox prefix", "expires", "signing key"), rows)
    expired = [each.file for each in found if each.expired]
    if not expired:
        return Page((table,))
    renew = f"No login takes what has expired. Remove {', '.join(expired)}; `auth creds` makes new ones with the same signing key."
    return Page((table, line(), line(renew)))


def _state(credentials: Credentials) -> str:
    if credentials.expired:
        return "expired"
    return "made" if credentials.made else "kept"


def data(found: Sequence[Credentials]) -> dict[str, Any]:
    """Return the credentials as data (auth-credentials.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "identities": [
            {
                "name": each.identity,
                "credentials": each.file,
                "made": each.made,
                "inbox_prefix": each.inbox_prefix,
                "expires": each.expires,
                "expired": each.expired,
                "signing_key": each.signing_key,
            }
            for each in found
        ],
    }


def _moment(seconds: int | None) -> str:
    return "never" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
