"""The credentials of identities: which files there are, never what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cyborg_infra.model.credentials import Credentials
from cyborg_infra.render.json_format import SCHEMA_VERSION
from cyborg_infra.render.terminal.layout import Page, Table


def credentials_table(found: Sequence[Credentials]) -> Page:
    """Return a table with a row for each identity."""
    rows = tuple(
        (
            each.identity,
            each.file,
            "made" if each.made else "kept",
            each.inbox_prefix,
            _moment(each.expires),
            each.signing_key,
        )
        for each in found
    )
    return Page((Table(("identity", "credentials", "", "inbox prefix", "expires", "signing key"), rows),))


def data(found: Sequence[Credentials]) -> dict[str, Any]:
    """Return the same (auth-credentials.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "identities": [
            {
                "name": each.identity,
                "credentials": each.file,
                "made": each.made,
                "inbox_prefix": each.inbox_prefix,
                "expires": each.expires,
                "signing_key": each.signing_key,
            }
            for each in found
        ],
    }


def _moment(seconds: int | None) -> str:
    return "never" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
