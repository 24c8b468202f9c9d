"""The line by which a comment or an issue of ours is found again."""

from __future__ import annotations

import os

MOST_CHARS = 65_536
"""Of a comment and of an issue at GitHub; GitLab takes more."""


def marked(text: str) -> tuple[str, str]:
    """Return the marker, which nobody sees, and the text with it in front."""
    marker = f"<!-- {os.environ['MARKER'].strip().replace('--', '- -')} -->"
    return marker, f"{marker}\n{text}"[:MOST_CHARS]
