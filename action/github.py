"""What the action asks of GitHub, by `gh api`, which is on every runner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

_PAGE = 100


def api(method: str, path: str, **fields: Any) -> Any:
    """Return what GitHub answers. Ends the step with its words if it refuses."""
    request = ["gh", "api", "--method", method, f"repos/{os.environ['GITHUB_REPOSITORY']}/{path}"]
    ended = subprocess.run(
        [*request, "--input", "-"] if fields else request,
        input=json.dumps(fields),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        sys.exit(f"GitHub refused {method} {path}: {ended.stderr.strip()}")
    return json.loads(ended.stdout)


def find(path: str, marker: str) -> dict[str, Any] | None:
    """Return the first of a list whose text begins with the marker, page by page."""
    page = 0
    while True:
        page += 1
        listed = api("GET", f"{path}{'&' if '?' in path else '?'}per_page={_PAGE}&page={page}")
        for each in listed:
            if (each["body"] or "").startswith(marker):
                found: dict[str, Any] = each
                return found
        if len(listed) < _PAGE:
            return None
