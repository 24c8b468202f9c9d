"""`python -m cyborg_infra` and the `cyborg-infra` command."""

from __future__ import annotations

import gc
import os
import sys

from cyborg_infra.interrupts import end_at_once


def main() -> None:
    """Run the command line and exit with its code."""
    end_at_once()  # before anything is imported that takes time
    # A command makes a few large values and drops them at its end. To look for cycles among them takes a tenth of a
    # start and half of a large manifest, and finds some 700 objects, after an apply of 4,000 changes as well.
    # What runs for days (status --watch) switches it on again.
    gc.disable()
    try:
        from cyborg_infra.cli.app import run_command_line

        code = run_command_line(sys.argv[1:])
    except KeyboardInterrupt:  # nothing has begun, or all is said
        sys.stderr.write("Error: interrupted\n")
        code = 1
    # Not by way of sys.exit: taking apart what is in memory takes a tenth of a start, and seconds of a large plan.
    os._exit(code)


if __name__ == "__main__":
    main()
