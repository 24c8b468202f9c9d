"""`python -m cyborg_infra` and the `cyborg-infra` command."""

from __future__ import annotations

import gc
import os
import sys

# A command makes a few large values and drops them at its end; looking for cycles among them every 700 objects takes
# a tenth of a start and half of a large manifest. What runs for days (status --watch, dev) is still looked through.
_OBJECTS_BETWEEN_COLLECTIONS = 200_000


def main() -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    from cyborg_infra.cli.app import run

    # Not by way of sys.exit: taking apart what is in memory takes a tenth of a start, and seconds of a large plan.
    os._exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
