"""`python -m cyborg_infra` and the `cyborg-infra` command."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    # A command makes a few large values and drops them at its end. To look for cycles among them takes a tenth of a
    # start and half of a large manifest, and finds some 700 objects, after an apply of 4,000 changes as well.
    # What runs for days (status --watch) switches it on again.
    gc.disable()
    from cyborg_infra.cli.app import run

    # Not by way of sys.exit: taking apart what is in memory takes a tenth of a start, and seconds of a large plan.
    os._exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
