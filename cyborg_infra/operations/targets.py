"""Which server, and as whom: without a connection, and without what one needs."""

from __future__ import annotations

from collections.abc import Mapping

from cyborg_infra.live.connection.context import saved_contexts
from cyborg_infra.live.connection.target import Flags, Target, resolve

__all__ = ["Flags", "Target", "context_names", "resolve"]


def context_names(environ: Mapping[str, str]) -> list[str]:
    """Return the names that `--context` takes."""
    return saved_contexts(environ)
