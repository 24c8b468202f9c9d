"""Predictions at length: `python -m tests.predictions --seed N --case M`."""

from __future__ import annotations

import sys

from tests.predictions.draw import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
