"""A server whose disk can be filled and emptied at any moment, without any rights: by a limit on the size of its files."""

from __future__ import annotations

import resource
import signal
from typing import Self

from cyborg_infra.live.embedded import EmbeddedServer

FOREVER = resource.RLIM_INFINITY


class DiskServer(EmbeddedServer):
    """As its base, on a disk that fills up on command.

    A write beyond the limit gives EFBIG; the server treats it exactly as ENOSPC on a small file system (measured 2.10.26
    and 2.15.1 on a tmpfs). Linux only: nobody else changes the limits of a running process.
    """

    def start(self, timeout: float = 20) -> Self:
        # The signal that comes with EFBIG would end the server; whoever starts it passes on what it has blocked.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGXFSZ})
        try:
            return super().start(timeout)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def fill(self, largest: int = 0) -> None:
        """No file grows beyond `largest` bytes any more."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (largest, FOREVER))

    def empty(self) -> None:
        """There is room again."""
        self.fill(FOREVER)

    def restart(self) -> None:
        """Ended in order and started again, with room."""
        self.empty()
        self.stop()
        self.start()
