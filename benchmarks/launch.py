"""Runs one command and prints what it took: `python launch.py REPORT OUTPUT ERRORS COMMAND...`.

A program of its own, because Linux counts to the peak of a new process what its parent occupied when it was started:
only a parent that is smaller than every child tells the child's own.
"""

from __future__ import annotations

import os
import sys
import time

_WRITABLE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def main() -> None:
    """Write exit code, wall seconds, processor seconds and peak in KiB into the file REPORT."""
    report, output, errors, *command = sys.argv[1:]
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, output, _WRITABLE, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, errors, _WRITABLE, 0o600),
    ]
    start = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=files)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    code, cpu = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
    with open(report, "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib would make this process larger
        file.write(f"{code} {seconds} {cpu} {usage.ru_maxrss}")


if __name__ == "__main__":
    main()
