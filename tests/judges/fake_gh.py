"""Stands in for `gh` in the tests of the action and of the workflows: a repository in a file, and every request made of it."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
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


def command_line() -> argparse.ArgumentParser:
    """Return what of gh's own command line is here; anything else is refused."""
    parser = argparse.ArgumentParser("gh", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    api = commands.add_parser("api")
    api.add_argument("--method", default="GET")
    api.add_argument("path")
    api.add_argument("--input", choices=["-"])
    runs = commands.add_parser("run").add_subparsers(dest="what", required=True)
    listed = runs.add_parser("list")
    for option in ("--workflow", "--commit", "--status", "--limit"):
        listed.add_argument(option, required=True)
    download = runs.add_parser("download")
    download.add_argument("run")
    download.add_argument("--name", required=True)
    view = commands.add_parser("pr").add_subparsers(dest="what", required=True).add_parser("view")
    view.add_argument("number", type=int)
    for each in (listed, view):
        each.add_argument("--json", required=True)
        each.add_argument("--jq", required=True)
    return parser


def main() -> None:
    """Answer one command."""
    asked = command_line().parse_args()
    file = Path(os.environ["FAKE_GH"])
    state = json.loads(file.read_text(encoding="utf-8"))
    match asked.command, getattr(asked, "what", ""):
        case "api", _:
            fields = json.loads(sys.stdin.read()) if asked.input else {}
            state["requests"].append([asked.method, asked.path.split("?")[0]])
            answered = answer(state, asked.method, asked.path, fields)
            file.write_text(json.dumps(state), encoding="utf-8")
            sys.stdout.write(json.dumps(answered))
        case "run", "list":
            wanted = (asked.workflow, asked.commit, asked.status)
            found = [
                each
                for each in reversed(state["runs"])
                if (each["workflow"], each["headSha"], each["conclusion"]) == wanted
            ]
            select([chosen(each, asked.json) for each in found[: int(asked.limit)]], asked.jq)
        case "run", "download":
            artifact = file.parent / "artifacts" / asked.run / asked.name
            if not asked.run or not artifact.is_dir():
                sys.exit("no valid artifacts found to download")
            shutil.copytree(artifact, Path.cwd(), dirs_exist_ok=True)
        case "pr", "view":
            labels = [{"name": name} for name in state["labels"].get(str(asked.number), [])]
            select(chosen({"labels": labels}, asked.json), asked.jq)


def chosen(record: dict[str, Any], names: str) -> dict[str, Any]:
    """Return the members that were asked for. Raises KeyError."""
    return {name: record[name] for name in names.split(",")}


def select(value: object, expression: str) -> None:
    """Print what an expression makes of it; gh has the language of jq within itself."""
    subprocess.run(["jq", "--raw-output", expression], input=json.dumps(value), text=True, check=True)  # noqa: S607


if __name__ == "__main__":
    main()
