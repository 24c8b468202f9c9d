"""What needs no server: what a manifest expands to, what it will cost, a manifest to start from, messages that are checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyborg_infra.core.expand import expand
from cyborg_infra.core.lint import lint
from cyborg_infra.core.namespace import subjects
from cyborg_infra.manifest.load import load
from cyborg_infra.model.namespace import Subject
from cyborg_infra.model.org import Org
from cyborg_infra.model.state import State

if TYPE_CHECKING:  # `validate` and `show` need neither
    from cyborg_infra.model.messages import Message, MessageKind

__all__ = ["expanded", "lint", "messages_in", "show", "starter"]


def expanded(path: str, env: str | None = None) -> tuple[Org, State]:
    """The organisation, and its streams and consumers. Needs no server. Raises ManifestInvalid."""
    org = load(path, env)
    return org, expand(org)


def show(path: str, env: str | None = None) -> tuple[Org, Sequence[Subject], State]:
    """The same with its namespace between them."""
    org, state = expanded(path, env)
    return org, subjects(org, state), state


def messages_in(path: str, kind: MessageKind | None = None) -> Sequence[Message]:
    """The messages in the file at `path`, or on standard input if it is `-`, checked. Needs no server.

    Raises MessageInvalid.
    """
    from cyborg_infra.manifest.messages import read

    return read(path, kind)


def starter(org: str, roles: Sequence[str]) -> str:
    """The text of a commented manifest to start from. Raises ManifestInvalid for names that cannot be."""
    from cyborg_infra.manifest import starter

    return starter.starter(org, roles)
