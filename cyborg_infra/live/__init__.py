"""Everything that talks to a server; the only asynchronous package.

Of nats-py it needs the connection. nats-py imports its own client of JetStream as well, which is a third of what it
takes to load and is used by `verify` alone, as agents would: it is loaded when it is first asked for something.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType


class _JetStreamClientLater:
    """Finds `nats.js` once, for nats-py, and has Python load it at the first look into it."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path, target) if name == "nats.js" else None
        if found is None or found.loader is None:
            return None
        found.loader = LazyLoader(found.loader)
        sys.meta_path.remove(cls)
        return found


if "nats" not in sys.modules:
    sys.meta_path.insert(0, _JetStreamClientLater)
