"""Predictions at length: `python -m tests.predictions --seed N --case M`, or `... handovers --seed N --case M`."""

from __future__ import annotations

import sys

from tests.predictions import draw, handovers

if __name__ == "__main__":
    which, arguments = draw.main, sys.argv[1:]
    if arguments[:1] == ["handovers"]:
        which, arguments = handovers.main, arguments[1:]
    sys.exit(which(arguments))
