"""Messages are what their type asks for, or refused with every problem and its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cyborg_infra.manifest import json_source, messages
from cyborg_infra.manifest.input import MAX_BYTES
from cyborg_infra.manifest.messages import check_messages, load_message_file, schema_of
from cyborg_infra.manifest.schema import read_schema
from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.problems import MessageInvalid
from cyborg_infra.model.task_lifecycle import TaskStatus
from cyborg_infra.render.command_line import spoken
from tests.conftest import Golden

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests/cases/messages"
VALID = sorted(path for path in (CASES / "valid").iterdir() if path.suffix != ".txt")
INVALID = sorted(path for path in (CASES / "invalid").iterdir() if path.suffix != ".txt")
SCHEMAS = {kind: read_schema(schema_of(kind)) for kind in MessageKind}
EXAMPLES = [(kind, example) for kind, schema in SCHEMAS.items() for example in schema["examples"]]
QUERY = '{"type": "query", "question": "?"}'


def name(path: object) -> str:
    return path.stem if isinstance(path, Path) else ""


def refusal(text: str, kind: MessageKind | None = None) -> str:
    with pytest.raises(MessageInvalid) as caught:
        check_messages(text, "it", kind)
    return str(caught.value)


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema in a schema, itself included."""
    if isinstance(node, dict):
        yield node
        for key, item in node.items():
            if key not in ("examples", "enum", "const"):
                yield from nodes(item)


# Texts


@pytest.mark.parametrize("path", VALID, ids=name)
def test_valid_messages_are_of_the_types_they_tell(path: Path, golden: Golden) -> None:
    found = check_messages(path.read_bytes().decode("utf-8-sig"), path.name)
    golden(path.with_suffix(".txt"), "".join(f"{each.mark} {each.kind}\n" for each in found))


@pytest.mark.parametrize("path", INVALID, ids=name)
def test_invalid_messages_are_refused_with_all_their_problems(path: Path, golden: Golden) -> None:
    with pytest.raises(MessageInvalid) as caught:
        check_messages(path.read_text(encoding="utf-8"), path.name)
    golden(
        path.with_suffix(".txt"), "".join(f"{spoken(str(problem))}\n" for problem in caught.value.problems)
    )
    assert all(problem.where and problem.where.line >= 1 for problem in caught.value.problems)


def test_every_golden_text_has_its_messages() -> None:
    texts = {path.stem for path in CASES.glob("*/*.txt")}
    assert texts == {path.stem for path in (*VALID, *INVALID)}


def test_a_type_that_is_given_is_the_type() -> None:
    """Whatever the message tells by itself."""
    assert check_messages(QUERY, "it", MessageKind.QUERY)[0].kind is MessageKind.QUERY
    assert refusal(QUERY, MessageKind.REPLY) == "it:1:1: the reply needs the key status"
    status = json.dumps(SCHEMAS[MessageKind.STATUS]["examples"][0])
    assert check_messages(status, "it", MessageKind.EVENT)[0].kind is MessageKind.EVENT


def test_a_message_has_what_was_written_and_where() -> None:
    (_, second) = check_messages(f"\n{QUERY}\n{QUERY}", "it")
    assert (dict(second.data), str(second.mark)) == (json.loads(QUERY), "it:3:1")


@pytest.mark.parametrize("opening", ["[", "{", '{"a":', '[{"a":', '{"a":[\n', '{"a":[\n{},\n'])
def test_no_depth_of_nesting_is_more_than_a_refusal(opening: str) -> None:
    assert refusal(opening * 20_000)


def test_the_depth_limit_itself_is_still_read() -> None:
    lists = json_source.MAX_DEPTH - 1
    assert check_messages(f'{{"status": "ok", "x": {"[" * lists}{"]" * lists}}}', "it")
    assert "levels of nesting" in refusal(f'{{"status": "ok", "x": {"[" * (lists + 1)}{"]" * (lists + 1)}}}')


def test_more_messages_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_MESSAGES", 2)
    assert len(check_messages(f"{QUERY}\n" * 2, "it")) == 2
    assert refusal(f"{QUERY}\n" * 4) == "it:3:1: more than 2 messages"


# Files


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": "\xff"}', "1:8: byte 0xff is not UTF-8 (save the file as UTF-8)"),
        (QUERY.encode("utf-16"), "1:1: byte 0xff is not UTF-8 (save the file as UTF-8)"),
        (b"{}" + b" " * MAX_BYTES, "1:1: the message is larger than 8 MiB"),
        (b"\x00\x01", "1:1: this is no valid JSON: expecting value"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "it"
    path.write_bytes(content)
    with pytest.raises(MessageInvalid, match=re.escape(expected)):
        load_message_file(str(path))


@pytest.mark.parametrize("path", ["nowhere.json", ".", "a\0b", "a" * 5000])
def test_a_file_that_cannot_be_read_is_refused(path: str) -> None:
    with pytest.raises(MessageInvalid, match="the message cannot be read: "):
        load_message_file(path)


# Schemas


@pytest.mark.parametrize("kind", MessageKind)
def test_a_schema_describes_every_member_with_a_type_and_an_example(kind: MessageKind) -> None:
    schema = SCHEMAS[kind]
    for node in nodes(schema):
        for member, told in node.get("properties", {}).items():
            if "description" in told:  # the if of an if-then-else describes nothing
                assert {"$ref", "type"} & told.keys(), member
                validator = Draft202012Validator({"$defs": schema.get("$defs", {}), **told})
                assert all(validator.is_valid(example) for example in told["examples"]), member
                assert told["examples"], member
            else:
                assert node is schema["if"], member


@pytest.mark.parametrize("kind", MessageKind)
def test_a_schema_is_open_to_members_it_does_not_know(kind: MessageKind) -> None:
    assert all(node.get("additionalProperties") is not False for node in nodes(SCHEMAS[kind]))
    assert SCHEMAS[kind]["$id"] == f"cyborg-infra/{schema_of(kind)}"


@pytest.mark.parametrize("kind", MessageKind)
def test_every_keyword_of_a_schema_has_a_sentence(kind: MessageKind) -> None:
    structure = {"$schema", "$id", "$ref", "$defs", "title", "description", "examples", "properties", "items"}
    structure |= {"patternErrorMessage", "additionalProperties", "if", "then", "else", "required"}
    sentences = {"type", "enum", "const", "pattern", "format", "minimum", "exclusiveMinimum", "minLength"}

    def keywords(node: Any) -> set[str]:
        inner = [node.get("items"), node.get("additionalProperties"), node.get("if"), node.get("then")]
        inner += [*node.get("properties", {}).values(), *node.get("$defs", {}).values()]
        return set(node).union(*(keywords(part) for part in inner if part))

    assert keywords(SCHEMAS[kind]) <= structure | sentences


@pytest.mark.parametrize(("kind", "example"), EXAMPLES)
def test_an_example_is_valid_and_tells_its_type(kind: MessageKind, example: dict[str, Any]) -> None:
    for indent in (None, 2):
        (found,) = check_messages(json.dumps(example, indent=indent), "it")
        assert (found.kind, found.data) == (kind, example)


@pytest.mark.parametrize(("kind", "example"), EXAMPLES)
def test_without_a_required_member_an_example_is_refused(kind: MessageKind, example: dict[str, Any]) -> None:
    for member in SCHEMAS[kind]["required"]:
        less = {key: value for key, value in example.items() if key != member}
        assert f"the {kind.words} needs the key {member}" in refusal(json.dumps(less), kind)


def test_the_schema_knows_the_statuses_of_the_lifecycle() -> None:
    assert SCHEMAS[MessageKind.STATUS]["$defs"]["status"]["enum"] == list(TaskStatus)


def test_every_example_in_the_reference_is_a_valid_message() -> None:
    document = (ROOT / "docs/reference/messages.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```json\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    assert [check_messages(text, "it")[0].data for text in shown] == [example for _, example in EXAMPLES]
