"""Sent messages as lines for people and as JSON, without their content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cyborg_infra.model.outgoing import SendResult
from cyborg_infra.render.command_line import spoken
from cyborg_infra.render.json_format import SCHEMA_VERSION, problem_row
from cyborg_infra.render.terminal.layout import Block, Page, line


def sent(results: Sequence[SendResult], *, dry_run: bool) -> Page:
    """Return one line for each message: where it is, or why not."""
    return Page(tuple(block for result in results for block in _sent(result, dry_run=dry_run)))


def _sent(result: SendResult, *, dry_run: bool) -> Iterator[Block]:
    message = result.message
    what = f"{message.kind.words} {message.id}"
    if result.sequence:
        verb = "Already there" if result.duplicate else "Sent"
        yield line((f"{verb}: ", "bold"), f"{what}: {message.stream}, sequence {result.sequence:,}")
    elif result.problem:
        yield line(("Not sent: ", "bold red"), f"{what}: {spoken(str(result.problem))}")
    elif dry_run:
        yield line(("Would be sent: ", "bold"), f"{what} to {message.subject}, kept by {message.stream}")
    else:
        yield line(("Not sent: ", "bold red"), f"{what}: not reached")


def data(results: Sequence[SendResult], *, dry_run: bool) -> dict[str, Any]:
    """Return every message (sent.schema.json)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "dry_run": dry_run,
        "complete": all(result.sequence for result in results),
        "messages": [
            {
                "type": result.message.kind.value,
                "id": result.message.id,
                "subject": result.message.subject,
                "stream": str(result.message.stream),
                "sequence": result.sequence or None,
                "duplicate": result.duplicate,
                "problem": problem_row(result.problem),
            }
            for result in results
        ],
    }
