"""Run one command for the GitHub action: its report, and the step's outputs. Ends with 0 whatever the command ends with.

Inputs are environment variables, named in `action.yml`; nothing of them is put into a shell's line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the command, and write what the other steps need."""
    command, temporary = os.environ["COMMAND"], Path(os.environ["RUNNER_TEMP"])
    report, saved = temporary / "cyborg-infra-report.md", temporary / "cyborg-infra.plan"
    saved.unlink(missing_ok=True)
    match command:
        case "validate":
            code, told = run(command, "--format", "github")
            sys.stdout.write(told)
            plan = None
        case "plan":
            target = Path(os.environ.get("PLAN_FILE") or saved)
            code, told = run(command, "--format", "markdown", "--out", str(target))
            plan = json.loads(target.read_text(encoding="utf-8"))["plan"] if target.exists() else None
        case "drift":
            code, told = run(command, "--format", "markdown")
            _, as_json = run(command, "--format", "json")
            plan = json.loads(as_json) if as_json else None
        case _:
            sys.exit(f"command is validate, plan or drift, not {command!r}")
    if command != "validate":
        report.write_text(told, encoding="utf-8")
        append("GITHUB_STEP_SUMMARY", told)
    outputs = {"exit-code": code, "report": report} | counts(plan)
    append("GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in outputs.items()))


def run(command: str, *options: str) -> tuple[int, str]:
    """Return the command's exit code and its answer; what it tells people goes to the log."""
    environment = dict(os.environ)
    credentials = environment.pop("CREDENTIALS", "")
    for ours, theirs in (
        ("SERVER", "NATS_URL"),
        ("CONTEXT", "NATS_CONTEXT"),
        ("ENVIRONMENT", "CYBORG_INFRA_ENV"),
        ("INBOX_PREFIX", "CYBORG_INFRA_INBOX_PREFIX"),
    ):
        if environment.get(ours):
            environment[theirs] = environment[ours]
    file = Path(environment["RUNNER_TEMP"]) / "cyborg-infra.creds"
    try:
        if credentials:
            file.unlink(missing_ok=True)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
                written.write(credentials)
            environment["NATS_CREDS"] = str(file)
        ended = subprocess.run(
            [sys.executable, "-m", "cyborg_infra", command, *options, environment["MANIFEST"]],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        file.unlink(missing_ok=True)
    return ended.returncode, ended.stdout


def counts(plan: dict[str, Any] | None) -> dict[str, object]:
    """Return what a plan comes to; nothing where there is none."""
    if plan is None or "summary" not in plan:
        return {}
    summary = plan["summary"]
    return {
        "added": summary["create"],
        "changed": summary["update"] + summary["adopt"],
        "destroyed": summary["delete"] + summary["replace"],
        "hazards": ",".join(plan["allow"]),
    }


def append(variable: str, text: str) -> None:
    """Add to the file that the runner reads."""
    with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
