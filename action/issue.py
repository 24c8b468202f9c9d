"""Keep one issue about drift: opened when there is some, updated while there is, closed when it is gone.

A command that failed says nothing of drift, so it changes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

from github import api, find
from marker import marked

IN_SYNC, DRIFT = "0", "2"
LABEL = "drift"


def main() -> None:
    """Open, update or close."""
    marker, body = marked(Path(os.environ["REPORT"]).read_text(encoding="utf-8"))
    code = os.environ["EXIT_CODE"]
    if code not in (IN_SYNC, DRIFT):
        return
    found = find(f"issues?state=open&labels={LABEL}", marker)
    if code == DRIFT and found:
        api("PATCH", f"issues/{found['number']}", body=body)
    elif code == DRIFT:
        title = f"Drift: {os.environ['MARKER'].removeprefix('cyborg-infra drift ').strip()}"
        api("POST", "issues", title=title, body=body, labels=[LABEL])
    elif found:
        api("POST", f"issues/{found['number']}/comments", body="The server is as it was applied again.")
        api("PATCH", f"issues/{found['number']}", state="closed", state_reason="completed")


if __name__ == "__main__":
    main()
