"""The schema is complete, true to the field table, and what an editor shows of it is itself valid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cyborg_infra.manifest import rules, schema
from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.schema import read_schema
from cyborg_infra.manifest.template import template_manifest
from cyborg_infra.model.buckets import BUCKET_SETTINGS
from cyborg_infra.model.channels import BUILT_IN, consumer_kinds, kinds_for_one_role, stream_kinds
from cyborg_infra.model.fields import FIELDS, Kind
from cyborg_infra.model.organisation import ADMISSION
from cyborg_infra.model.problems import ManifestInvalid

ROOT = Path(__file__).parents[3]
SCHEMA = read_schema("org.schema.json")
DEFINITIONS = SCHEMA["$defs"]


def properties(node: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every described property in the schema, with the path that leads to it."""
    if isinstance(node, dict):
        for name, item in node.get("properties", {}).items():
            yield f"{path}/{name}", item
        for key, item in node.items():
            yield from properties(item, f"{path}/{key}")


def resolved(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `node` with what its $ref says below it."""
    if "$ref" not in node:
        return node
    target: Any = SCHEMA
    for step in node["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    return {**resolved(target), **node}


def test_the_schema_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", Kind)
def test_every_field_of_the_table_may_be_set(kind: Kind) -> None:
    assert list(DEFINITIONS[kind.value]["properties"]) == list(FIELDS[kind])


def test_every_kind_of_stream_and_consumer_may_be_set() -> None:
    assert set(DEFINITIONS["streams"]["properties"]) == {*stream_kinds(BUILT_IN)}
    assert set(DEFINITIONS["consumers"]["properties"]) == {*consumer_kinds(BUILT_IN)}
    assert set(DEFINITIONS["role_overrides"]["properties"]) == {
        *kinds_for_one_role(BUILT_IN),
        "alerts",
        "lint",
    }


def test_every_setting_of_a_bucket_may_be_set_in_either_form() -> None:
    item = SCHEMA["properties"]["key_value"]["items"]["properties"]
    assert list(DEFINITIONS["bucket_overrides"]["properties"]) == list(BUCKET_SETTINGS)
    assert list(DEFINITIONS["bucket"]["properties"]) == ["readers", "writers", "watchers", *BUCKET_SETTINGS]
    assert list(item) == ["name", "readers", "writers", "watchers", *BUCKET_SETTINGS]


def test_tasks_take_every_field_of_a_stream_and_admission() -> None:
    assert list(DEFINITIONS["tasks"]["properties"]) == [ADMISSION, *FIELDS[Kind.STREAM]]


def test_no_mapping_takes_keys_that_nothing_describes() -> None:
    def check(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("properties"), dict) and "type" in node:
                assert "additionalProperties" in node, node
            for item in node.values():
                check(item)

    check(SCHEMA)


def test_an_editor_can_explain_every_key() -> None:
    assert not [path for path, node in properties(SCHEMA) if not resolved(node).get("description")]


def test_an_editor_can_complete_every_value_by_example() -> None:
    described = ((path, resolved(node)) for path, node in properties(SCHEMA))
    assert not [path for path, node in described if not node.get("examples") and "default" not in node]


def test_every_example_and_default_is_valid() -> None:
    for path, node in properties(SCHEMA):
        validator = Draft202012Validator({"$defs": DEFINITIONS, **node})
        defaults = [node["default"]] if "default" in node else []
        for example in [*node.get("examples", ()), *defaults]:
            assert not list(validator.iter_errors(example)), (path, example)


def test_own_channels_are_known_to_the_quick_library() -> None:
    data = {
        "org": "x",
        "roles": {"a": {"outbox_reader": {"ack_wait": "1h"}}},
        "groups": {"all": ["a"]},
        "channels": {"outbox": {"of": "role", "durable": True}, "minutes": {"of": "group", "durable": True}},
        "streams": {"minutes": {"max_msgs": 9}},
    }
    assert schema.accepts("org.schema.json", data)
    assert not schema.accepts("org.schema.json", {**data, "streams": {"hours": {}}})


def test_every_spelling_of_the_cli_leads_to_a_key_that_exists() -> None:
    known = {path.rsplit("/", 1)[1] for path, _node in properties(SCHEMA)}
    assert {meant for row in schema._SPELLINGS.values() for meant in row} <= known  # noqa: SLF001


def test_a_schema_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(FileNotFoundError):
        read_schema("no.schema.json")


def test_every_rule_is_listed_and_says_what_it_holds() -> None:
    named = [
        name for name, rule in vars(rules).items() if getattr(rule, "__annotations__", {}).get("org") == "Org"
    ]
    public = [name for name in named if not name.startswith("_")]
    assert [rule.__name__ for rule in rules.RULES] == public
    assert all(rule.__doc__ for rule in rules.RULES)


def test_a_starter_loads_as_it_is_and_says_what_was_asked() -> None:
    org = loads(template_manifest("genbrain", ["ceo", "on", "data-eng"]))
    assert org.name == "genbrain"
    assert [role.name for role in org.roles] == ["ceo", "on", "data-eng"]
    assert not org.events


@pytest.mark.parametrize(
    ("names", "chart"), [(["ceo", "cto"], ["roles", "groups"]), (["ceo"], [])], ids=["two roles", "one role"]
)
def test_every_example_in_a_starter_is_valid_once_uncommented(names: list[str], chart: list[str]) -> None:
    """With one role there is none of a chart, in which it would report to itself."""
    lines = template_manifest("genbrain", names).splitlines()
    blocks: list[list[str]] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if (
            line.startswith("# ")
            and line[2:].strip()
            and before.strip() == "#"
            and not line[2:].startswith(" ")
        ):
            blocks.append([line[2:]])
        elif blocks and line.startswith("#  "):
            blocks[-1].append(line[2:])
    sections = [block[0].split(":")[0] for block in blocks]
    assert sections == [
        *chart, "events", "channels", "defaults", "streams", "consumers", "task_state", "key_value", "roles", "environments",
        "naming", "server",
    ]  # fmt: skip
    for block in blocks:
        roles = "" if block[0] == "roles:" else f"roles: [{', '.join(names)}]\n"
        assert loads("\n".join(["org: genbrain", *block, roles]))


@pytest.mark.parametrize(
    ("org", "roles"), [("a b", ["cto"]), ("a", []), ("a", ["x", "x"]), ("a\nb: c", ["d"])]
)
def test_a_starter_is_refused_for_names_that_cannot_be_used(org: str, roles: list[str]) -> None:
    with pytest.raises(ManifestInvalid):
        template_manifest(org, roles)
