"""Problems of a manifest as CI servers show them beside the line: GitHub's annotations, SARIF, GitLab's code quality.

What has no place of its own is shown at the beginning of the manifest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any
from urllib.parse import quote

from cyborg_infra.model.problems import Problem, SourcePosition
from cyborg_infra.model.project import PROJECT
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.render.command_line import in_command_line_words

_HELP = f"{PROJECT}/blob/main/docs/reference/problems.md"


class Level(Enum):
    """How much a finding weighs: what GitHub, SARIF and GitLab call that."""

    ERROR = ("error", "error", "major")
    WARNING = ("warning", "warning", "minor")
    NOTE = ("notice", "note", "info")

    @property
    def github(self) -> str:
        """Return the workflow command."""
        return self.value[0]

    @property
    def sarif(self) -> str:
        """Return the level of a result."""
        return self.value[1]

    @property
    def gitlab(self) -> str:
        """Return the severity of an issue."""
        return self.value[2]


class Finding(NamedTuple):
    """A problem, how much it weighs, and where it is shown."""

    level: Level
    code: str
    text: str
    where: SourcePosition


def collect(
    manifest: str, errors: Sequence[Problem], warnings: Sequence[Problem] = (), notes: Sequence[Problem] = ()
) -> list[Finding]:
    """Return what was found in a manifest, the errors first."""
    return [
        Finding(level, problem.code, _text(problem), problem.where or SourcePosition(manifest, 1, 1))
        for level, problems in ((Level.ERROR, errors), (Level.WARNING, warnings), (Level.NOTE, notes))
        for problem in problems
    ]


def github(found: Sequence[Finding]) -> str:
    """Return a workflow command for each; whatever a value contains, it ends none and begins none.

    Source: actions/toolkit, `command.ts`.
    """
    return "".join(
        f"::{each.level.github} {','.join(_github_properties(each))}::{_data(each.text)}\n" for each in found
    )


def sarif(found: Sequence[Finding], version: str) -> dict[str, Any]:
    """Return a log of one run of this `version` (SARIF 2.1.0), which GitHub's code scanning shows."""
    codes = sorted({each.code for each in found})
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "cyborg-infra",
                        "semanticVersion": version,
                        "informationUri": PROJECT,
                        "rules": [_rule(code) for code in codes],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [
                    _result(each, codes.index(each.code), fingerprint)
                    for each, fingerprint in zip(found, _fingerprints(found), strict=True)
                ],
            }
        ],
    }


def gitlab(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return a code-quality report. An issue keeps its fingerprint where lines above it come and go."""
    return [
        {
            "description": each.text,
            "check_name": each.code,
            "fingerprint": fingerprint,
            "severity": each.level.gitlab,
            "location": {"path": each.where.file, "lines": {"begin": each.where.line}},
        }
        for each, fingerprint in zip(found, _fingerprints(found), strict=True)
    ]


def _text(problem: Problem) -> str:
    spoken = in_command_line_words(problem)
    return f"{spoken.message}: {spoken.hint}" if spoken.hint else spoken.message


def _github_properties(found: Finding) -> Iterator[str]:
    where = found.where
    for name, value in (
        ("file", where.file),
        ("line", where.line),
        ("col", where.column),
        ("title", found.code),
    ):
        yield f"{name}={_data(str(value)).replace(':', '%3A').replace(',', '%2C')}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _rule(code: str) -> dict[str, Any]:
    words = code.replace("-", " ")
    return {
        "id": code,
        "shortDescription": {"text": f"{words.capitalize()}."},
        "helpUri": _HELP,
    }


def _result(found: Finding, rule: int, fingerprint: str) -> dict[str, Any]:
    region = {"startLine": found.where.line, "startColumn": found.where.column}
    return {
        "ruleId": found.code,
        "ruleIndex": rule,
        "level": found.level.sarif,
        "message": {"text": found.text},
        "locations": [
            {"physicalLocation": {"artifactLocation": {"uri": _uri(found.where.file)}, "region": region}}
        ],
        "partialFingerprints": {"finding/v1": fingerprint},
    }


def _uri(file: str) -> str:
    return ("file://" if file.startswith("/") else "") + quote(file)


def _fingerprints(found: Sequence[Finding]) -> list[str]:
    """Return for each what stays the same while the finding does: not its line, but which of those alike it is."""
    alike = Counter[tuple[str, str, str]]()
    fingerprints = []
    for each in found:
        content = (each.code, each.where.file, each.text)
        fingerprints.append(hashlib.sha256(repr((*content, alike[content])).encode()).hexdigest())
        alike[content] += 1
    return fingerprints
