"""Where this project is, and how people install more of it. It is on no registry yet."""

from __future__ import annotations

PROJECT = "https://github.com/genbrain/cyborg-infra"


def pip_install(extra: str) -> str:
    """Return the command that installs an extra, such as `server`."""
    return f"pip install 'cyborg-infra[{extra}] @ git+{PROJECT}'"
