"""Checked messages as lines for people, without their content."""

from __future__ import annotations

from collections.abc import Sequence

from cyborg_infra.model.messages import MessageKind, OrgMessage
from cyborg_infra.render.terminal.layout import Page, line
from cyborg_infra.render.values import plural


def checked(messages: Sequence[OrgMessage]) -> Page:
    """Return the line about valid messages: how many there are of each type."""
    counts = ((sum(each.kind is kind for each in messages), kind.words) for kind in MessageKind)
    types = ", ".join(f"{count:,} {words}" for count, words in counts if count)
    verb = "is" if len(messages) == 1 else "are"
    return Page((line(f"{plural(len(messages), 'message')} {verb} valid: {types}."),))
