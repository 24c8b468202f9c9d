"""Robustness at length: `python -m tests.robustness --seed N --seconds S`."""

from __future__ import annotations

import sys

from tests.robustness.commands import main

if __name__ == "__main__":
    sys.exit(main())
