"""Chaos at length: `python -m tests.chaos --seed N --seconds S`."""

from __future__ import annotations

from tests.chaos.rounds import main

if __name__ == "__main__":
    main()
