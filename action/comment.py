"""Post the plan on the pull request: one comment, which is kept up to date."""

from __future__ import annotations

import os
from pathlib import Path

from github import api, find
from marker import marked


def main() -> None:
    """Make the comment, or update the one that is there."""
    marker, body = marked(Path(os.environ["REPORT"]).read_text(encoding="utf-8"))
    comments = f"issues/{os.environ['NUMBER']}/comments"
    if found := find(comments, marker):
        api("PATCH", f"issues/comments/{found['id']}", body=body)
    else:
        api("POST", comments, body=body)


if __name__ == "__main__":
    main()
