"""Stands in for `gh api` in the tests of the action: a repository in a file, and every request that was made of it."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


def answer(state: dict[str, Any], method: str, path: str, fields: dict[str, Any]) -> Any:
    """Return what GitHub would, and change the repository as it would."""
    url = urlsplit(path)
    asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
    resource = url.path.removeprefix("repos/acme/org/")
    if match := re.fullmatch(r"issues/comments/(\d+)", resource):
        (found,) = [each for each in state["comments"] if each["id"] == int(match[1])]
        found.update(fields)
        return found
    if match := re.fullmatch(r"issues/(\d+)/comments", resource):
        if method == "GET":
            return page([each for each in state["comments"] if each["on"] == int(match[1])], asked)
        return added(state["comments"], id=1000 + len(state["comments"]), on=int(match[1]), **fields)
    if match := re.fullmatch(r"issues/(\d+)", resource):
        (found,) = [each for each in state["issues"] if each["number"] == int(match[1])]
        found.update(fields)
        return found
    if resource == "issues" and method == "GET":
        open_ones = [each for each in state["issues"] if each["state"] == asked["state"]]
        return page([each for each in open_ones if asked["labels"] in each["labels"]], asked)
    if resource == "issues":
        return added(state["issues"], number=100 + len(state["issues"]), state="open", **fields)
    sys.exit(f"HTTP 404: Not Found ({path})")


def added(those: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """Return what was added. Like GitHub, refuse a text that is too long."""
    if len(fields["body"]) > 65_536:
        sys.exit("HTTP 422: body is too long (maximum is 65536 characters)")
    those.append(fields)
    return fields


def page(those: list[dict[str, Any]], asked: dict[str, str]) -> list[dict[str, Any]]:
    """Return one page of a list."""
    size, number = int(asked["per_page"]), int(asked["page"])
    return those[(number - 1) * size : number * size]


def main() -> None:
    """Answer one request: `gh api --method METHOD PATH [--input -]`."""
    file = Path(os.environ["FAKE_GH"])
    state = json.loads(file.read_text(encoding="utf-8"))
    _, _, method, path, *rest = sys.argv[1:]
    fields = json.loads(sys.stdin.read()) if rest else {}
    state["requests"].append([method, path.split("?")[0]])
    answered = answer(state, method, path, fields)
    file.write_text(json.dumps(state), encoding="utf-8")
    sys.stdout.write(json.dumps(answered))


if __name__ == "__main__":
    main()
