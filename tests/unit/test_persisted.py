"""What accounts and files hold, and what scripts read, stays as it is: `cases/persisted.json` is the list.

To move or rename a module, class, function or field changes nothing in it. If it does, what an earlier version has
written can no longer be read, or a script no longer finds what it looks for. `make cases` writes the list anew; the
changelog then has to say what becomes of what there is.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyborg_infra.live.execute.consumer.placeholder import placeholder_ref
from cyborg_infra.live.records.journal import Journal
from cyborg_infra.model.buckets import APPLIED_BUCKET, LEASE_BUCKET, bucket_stream, bucket_subject
from cyborg_infra.model.channels import BUILT_IN, StreamKind, consumer_kinds, stream_kinds
from cyborg_infra.model.constraints import CONSTRAINTS
from cyborg_infra.model.problems import (
    EXIT_DIFFERENCES,
    EXIT_ERROR,
    EXIT_OK,
    EXIT_REFUSED,
    CyborgError,
    PlanRefused,
    SendRefused,
)
from cyborg_infra.model.ref import Ref, fence_subject, rehearsal_stream, stop_subject, temporary_stream
from cyborg_infra.model.resources import LiveResource, Resource
from cyborg_infra.render import json_format
from tests.conftest import Golden
from tests.support.plan_examples import PLANS

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parents[1] / "cases"
SOURCES = [
    ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "cyborg_infra").rglob("*.py"))
]
STREAM = Ref("ACME_TASKS")
CONSUMER = Ref("ACME_TASKS", "worker")
WHOLE = Journal(
    ingest={"subjects": ["a"]},
    retention="limits",
    positions={"w": 5},
    consumers={"w": {"ack_wait": 1}},
    labels={"team": "x"},
    limits={"max_msgs": 5},
    floors={"w": 3},
    still=True,
    unfinished={"w": [3, 4]},
    paused={"w": "2200-01-01T00:00:00Z"},
)
OWN = r"cyborg-infra([.-][a-z.-]+)?|_parked\.[*>]?"
KINDS = [
    [*map(str, stream_kinds(BUILT_IN)), str(StreamKind.KEY_VALUE)],
    [*map(str, consumer_kinds(BUILT_IN))],
]
FREE = ("config", "base", "metadata", "constraints", "server", "before", "after", "value")
"""Whose keys are JetStream's, or names that somebody has chosen."""
ANNOTATIONS = ("$comment", "description", "examples", "markdownDescription", "title")


def test_what_is_persisted_and_what_scripts_read_stays_as_it_is(golden: Golden) -> None:
    persisted = {
        "metadata keys, buckets, kinds and prefixes of names": sorted(set(_own_words())),
        "names": {
            "a stream that holds the messages of one being replaced": str(temporary_stream(STREAM)),
            "a stream that is tried": str(rehearsal_stream(STREAM)),
            "a stream that is tried, whose name would be too long": str(rehearsal_stream(Ref("A" * 240))),
            "a consumer that keeps a position": str(placeholder_ref(CONSUMER)),
            "the subject of a stream that takes nothing in": fence_subject(STREAM),
            "the subject of a consumer that is stopped": stop_subject(CONSUMER),
            "the stream of the leases": bucket_stream(LEASE_BUCKET),
            "the stream of what was applied": bucket_stream(APPLIED_BUCKET),
            "the subjects of the leases": bucket_subject(LEASE_BUCKET),
        },
        "the journal of a replace": {
            key: json.loads(value) if value.startswith("{") else value
            for key, value in WHOLE.metadata(Resource(STREAM, {}), temporary_stream(STREAM)).items()
        },
        "keys of the records in buckets and journals": sorted(
            keys for path in (ROOT / "cyborg_infra/live/records").glob("*.py") for keys in _keys(path)
        ),
        "saved plan": sorted({path for plan in PLANS.values() for path in _paths(json_format.saved(plan))}),
        "schemas": {
            path.relative_to(ROOT / "schemas").as_posix(): _digest(
                json.loads(path.read_text(encoding="utf-8"))
            )
            for path in sorted((ROOT / "schemas").rglob("*.json"))
        },
        "exit codes": {
            "done, or in sync": EXIT_OK,
            "failed": EXIT_ERROR,
            "there are differences": EXIT_DIFFERENCES,
            "refused": EXIT_REFUSED,
            "any error": CyborgError.exit_code,
            "a plan is refused": PlanRefused.exit_code,
            "a message is refused": SendRefused.exit_code,
        },
        "codes of problems": sorted({*_codes(), *(row.code for row in CONSTRAINTS)}),
        "words of enumerations": sorted([*_words(), *KINDS]),
    }
    golden(CASES / "persisted.json", json.dumps(persisted, indent=2, ensure_ascii=False) + "\n")


def test_a_journal_that_was_written_is_read_back_as_it_was() -> None:
    """By its words in the account alone: they are in the list."""
    kept = json.loads((CASES / "persisted.json").read_text(encoding="utf-8"))["the journal of a replace"]
    metadata = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in kept.items()}
    assert Journal.from_stream(LiveResource(temporary_stream(STREAM), {"metadata": metadata})) == WHOLE


def _own_words() -> Iterator[str]:
    """Yield every string of the package that begins a name of ours on a server."""
    for tree in SOURCES:
        for node in ast.walk(tree):
            match node:
                case ast.Constant(str(word)) if re.fullmatch(OWN, word):
                    yield word


def _codes() -> Iterator[str]:
    for tree in SOURCES:
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name("Problem"), args=[ast.Constant(str(code)), *_]):
                    yield code


def _words() -> Iterator[list[str]]:
    """Yield the values of each enumeration of words, in their order."""
    for tree in SOURCES:
        for node in ast.walk(tree):
            match node:
                case ast.ClassDef(bases=[ast.Name("StrEnum")], body=body):
                    lines = [line.value for line in body if isinstance(line, ast.Assign)]
                    rows = [line.elts[0] if isinstance(line, ast.Tuple) else line for line in lines]
                    words = [str(row.value) for row in rows if isinstance(row, ast.Constant)]
                    if words and not any("`" in word for word in words):  # those are sentences for readers
                        yield words


def _keys(path: Path) -> Iterator[list[str]]:
    """Yield the keys of each JSON object that a module reads back: those that it has written."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name("object_of"), args=args) if args and (
                found := sorted({*_strings(args)})
            ):
                yield found


def _strings(nodes: list[ast.expr]) -> Iterator[str]:
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                yield inner.value


def _paths(value: Any, path: str = "") -> Iterator[str]:
    """Yield `changes[].action`: every key of a JSON value, with those above it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}{key}"
            if key not in FREE:
                yield from _paths(inner, f"{path}{key}.")
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner, f"{path.removesuffix('.')}[].")


def _digest(schema: Any) -> str:
    """Return of what a schema admits; its words for people may change."""
    return hashlib.sha256(json.dumps(_bare(schema), sort_keys=True).encode()).hexdigest()[:16]


def _bare(schema: Any, *, names: bool = False) -> Any:
    if isinstance(schema, dict):
        return {
            key: _bare(inner, names=key in {"properties", "$defs", "patternProperties"} and not names)
            for key, inner in schema.items()
            if names or key not in ANNOTATIONS
        }
    return [_bare(inner) for inner in schema] if isinstance(schema, list) else schema
