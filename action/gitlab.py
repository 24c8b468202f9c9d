"""Tell what came of a command at GitLab: a plan in one note of the merge request, drift in one issue, each kept up to date.

Without a token it is in the job's log alone. Usage: `gitlab.py plan|drift EXIT_CODE REPORT`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from marker import marked

TOKEN = "CYBORG_INFRA_GITLAB_TOKEN"
IN_SYNC, DRIFT = "0", "2"
LABEL = "drift"
_PAGE = 100


def main() -> None:
    """Do so, if there is a token."""
    command, code, report = sys.argv[1:]
    if not os.environ.get(TOKEN):
        sys.stderr.write(f"No merge request or issue is told: there is no variable {TOKEN}.\n")
        return
    marker, body = marked(Path(report).read_text(encoding="utf-8"))
    if command == "plan":
        note(marker, body)
    elif code in (IN_SYNC, DRIFT):  # a command that failed says nothing of drift
        issue(marker, body, drift=code == DRIFT)


def note(marker: str, body: str) -> None:
    """Make the note of the merge request, or update the one that is there."""
    notes = f"merge_requests/{os.environ['CI_MERGE_REQUEST_IID']}/notes"
    if found := find(notes, "body", marker):
        api("PUT", f"{notes}/{found['id']}", body=body)
    else:
        api("POST", notes, body=body)


def issue(marker: str, body: str, *, drift: bool) -> None:
    """Open, update or close."""
    found = find(f"issues?state=opened&labels={LABEL}", "description", marker)
    if drift and found:
        api("PUT", f"issues/{found['iid']}", description=body)
    elif drift:
        title = f"Drift: {os.environ['MARKER'].removeprefix('cyborg-infra drift ').strip()}"
        api("POST", "issues", title=title, description=body, labels=LABEL)
    elif found:
        api("POST", f"issues/{found['iid']}/notes", body="The server is as it was applied again.")
        api("PUT", f"issues/{found['iid']}", state_event="close")


def find(path: str, member: str, marker: str) -> dict[str, Any] | None:
    """Return the first of a list of which this member begins with the marker, page by page."""
    page = 0
    while True:
        page += 1
        listed = api("GET", f"{path}{'&' if '?' in path else '?'}per_page={_PAGE}&page={page}")
        for each in listed:
            if (each[member] or "").startswith(marker):
                found: dict[str, Any] = each
                return found
        if len(listed) < _PAGE:
            return None


def api(method: str, path: str, **fields: str) -> Any:
    """Return what GitLab answers. Ends the job with its words if it refuses."""
    request = Request(  # noqa: S310 - the address is the runner's own
        f"{os.environ['CI_API_V4_URL']}/projects/{os.environ['CI_PROJECT_ID']}/{path}",
        json.dumps(fields).encode() if fields else None,
        {"PRIVATE-TOKEN": os.environ[TOKEN], "Content-Type": "application/json"},
        method=method,
    )
    try:
        with urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)
    except HTTPError as error:
        sys.exit(f"GitLab refused {method} {path}: {error.code} {error.read().decode(errors='replace')}")
    except URLError as error:
        sys.exit(f"GitLab was not reached for {method} {path}: {error.reason}")


if __name__ == "__main__":
    main()
