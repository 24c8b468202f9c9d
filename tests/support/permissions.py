"""A server with the users that docs/how-to/permissions.md has, for the manifest `SMALL`, and an admin beside them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.transcript import BLOCK

DOCUMENT = Path(__file__).parents[2] / "docs/how-to/permissions.md"
BLOCKS = {
    named[1]: text
    for language, text in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))
    if language == "text" and (named := re.match(r"# (\w+)\n", text))
}
READER, WRITER = BLOCKS["reader"], BLOCKS["writer"]


def config(reader: str = READER, writer: str = WRITER) -> str:
    return f"""
      authorization {{ users: [
        {{ user: reader, password: reader, {reader} }}
        {{ user: writer, password: writer, {writer} }}
        {{ user: operator, password: operator, {BLOCKS["operator"]} }}
        {{ user: monitor, password: monitor, {BLOCKS["monitor"]} }}
        {{ user: verifier, password: verifier, {BLOCKS["verifier"]} }}
        {{ user: admin, password: admin }}
      ] }}
    """


def user(url: str, name: str) -> tuple[str, ...]:
    """Return the options of one of these users, who hears what is for it alone."""
    return ("--server", url, "--user", name, "--password", name, "--inbox-prefix", f"_INBOX.{name}")
