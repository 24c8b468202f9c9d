"""The results of `verify` as lines for people, as JSON and as JUnit's XML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any
from xml.etree import ElementTree as ET

from cyborg_infra.model.verification import AuthCheckName, CheckResult, Verdict, Verification, VerifyStage
from cyborg_infra.render.command_line import spoken
from cyborg_infra.render.json_format import SCHEMA_VERSION
from cyborg_infra.render.terminal.layout import Block, Page, line
from cyborg_infra.render.values import plural

_WORDS = {
    Verdict.PASSED: ("ok", "green"),
    Verdict.FAILED: ("FAILED", "bold red"),
    Verdict.NOT_SUPPORTED: ("not supported", "yellow"),
    Verdict.NOT_CONFIGURED: ("not configured", ""),
}
_WORST_FIRST = (Verdict.FAILED, Verdict.NOT_SUPPORTED, Verdict.PASSED, Verdict.NOT_CONFIGURED)
_WIDTH = max(len(word) for word, _ in _WORDS.values())
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def progress(value: VerifyStage | CheckResult) -> Page | None:
    """Return a line for a check that begins or has failed; what succeeds is told at the end."""
    if isinstance(value, VerifyStage):
        return Page((line(f"{value.value.capitalize()} ..."),))
    return Page(tuple(_beneath([value]))) if value.verdict is Verdict.FAILED else None


def text(found: Verification) -> Page:
    """Return one line a check; beneath those that do not hold, what was expected and what was seen; a verdict at the end."""
    copied = f" as {found.scratch}" if found.scratch != found.org else ""
    blocks: list[Block] = [
        line(f"Organisation {found.org}{copied} on {found.url}, nats-server {found.version}"),
        line(),
    ]
    for _, group in groupby(found.results, lambda result: result.check):
        blocks += _check(list(group))
    blocks += [line(), line(_sum(found)), *_leftovers(found)]
    return Page(tuple(blocks))


def data(found: Verification) -> dict[str, Any]:
    """Return every result (verify.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "org": found.org,
        "scratch": found.scratch,
        "server": {"url": found.url, "version": found.version},
        "passed": found.passed,
        "results": [
            {
                "check": result.check.value,
                "role": result.role or None,
                "outcome": result.verdict.value,
                "expected": result.expected,
                "seen": spoken(result.seen) or None,
                "seconds": round(result.seconds, 3),
            }
            for result in found.results
        ],
        "left_behind": list(found.abandoned),
        "removed": list(found.removed),
    }


def junit(found: Verification) -> str:
    """Return a suite with a test case for each result, its class the check; what could not be tried is skipped, with the reason."""
    failed = sum(result.verdict is Verdict.FAILED for result in found.results)
    skipped = sum(
        result.verdict in (Verdict.NOT_SUPPORTED, Verdict.NOT_CONFIGURED) for result in found.results
    )
    counts = {
        "tests": str(len(found.results)),
        "failures": str(failed),
        "errors": "0",
        "skipped": str(skipped),
    }
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", {"name": _xml(f"cyborg-infra verify {found.org}"), **counts})
    for result in found.results:
        case = ET.SubElement(
            suite,
            "testcase",
            {
                "classname": f"verify.{result.check}",
                "name": _xml(result.role or result.check),
                "time": f"{result.seconds:.3f}",
            },
        )
        if result.verdict is Verdict.FAILED:
            failure = ET.SubElement(case, "failure", {"message": _xml(spoken(result.seen))})
            failure.text = _xml(f"expected: {result.expected}\nseen: {spoken(result.seen)}")
        elif result.verdict is not Verdict.PASSED:
            ET.SubElement(case, "skipped", {"message": _xml(f"{result.verdict}: {spoken(result.seen)}")})
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def cleaned(names: Sequence[str]) -> Page:
    """Return what `--clean` removed."""
    sentence = f"Removed {', '.join(names)}." if names else "Nothing is left of earlier runs."
    return Page((line((sentence, "bold green")),))


def _check(results: Sequence[CheckResult]) -> list[Block]:
    """Return the line of one check over all its roles or identities, by the worst of them."""
    verdict = min((result.verdict for result in results), key=_WORST_FIRST.index)
    alike = [result for result in results if result.verdict is verdict]
    word, style = _WORDS[verdict]
    names = [result.role for result in alike if result.role]
    noun = ("identity", "identities") if isinstance(alike[0].check, AuthCheckName) else ("role",)
    whose = (
        f"  ({plural(len(names), *noun) if len(alike) == len(results) else ', '.join(names)})"
        if names
        else ""
    )
    head = line((word.ljust(_WIDTH), style), f"  {alike[0].check}{whose}", hang=_WIDTH + 2)
    return [head] if verdict is Verdict.PASSED else [head, *_beneath(alike, named=False)]


def _beneath(results: Sequence[CheckResult], *, named: bool = True) -> list[Block]:
    """Return what was expected, once, and what was seen of each role, alike ones together."""
    first = results[0]
    blocks: list[Block] = []
    if named:
        word, style = _WORDS[first.verdict]
        blocks.append(line((word, style), f" {first.check}"))
    if first.verdict is Verdict.FAILED:
        blocks.append(line(f"expected  {first.expected}", indent=4, hang=10))
        label = "seen      "
    else:
        label = ""
    for seen, alike in groupby(results, lambda result: spoken(result.seen)):
        roles = [result.role for result in alike if result.role]
        whose = f"{', '.join(roles)}: " if roles and first.verdict is Verdict.FAILED else ""
        blocks.append(line(f"{label}{whose}{seen}", indent=4, hang=10))
    return blocks


def _sum(found: Verification) -> tuple[str, str]:
    checks = {result.check for result in found.results}
    failed = {result.check for result in found.results if result.verdict is Verdict.FAILED}
    if failed:
        return f"{len(failed)} of {plural(len(checks), 'check')} failed.", "bold red"
    tried = {result.check for result in found.results if result.verdict is Verdict.PASSED}
    rest = len(checks) - len(tried)
    return (
        f"{plural(len(tried), 'check')} passed{f', {rest} could not be tried' if rest else ''}.",
        "bold green",
    )


def _leftovers(found: Verification) -> Iterator[Block]:
    if found.removed:
        yield line(("Note: ", "bold"), f"removed what earlier runs have left: {', '.join(found.removed)}")
    if found.abandoned:
        left = (
            f"earlier runs have left {', '.join(found.abandoned)}; `cyborg-infra verify --clean` removes them"
        )
        yield line(("Note: ", "bold"), left)


def _xml(text: str) -> str:
    """Return the text without the characters that XML cannot hold."""
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)
