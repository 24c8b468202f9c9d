"""What holds of every format, whichever organisation it is given."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.export.formats import FORMATS
from tests.properties import test_channels, test_import
from tests.support.draws import draws
from tests.support.exports import exported

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted({ROOT / "org.yaml", *(ROOT / "examples").rglob("*.yaml")})
GROUPS = """
org: acme
roles: [cto, backend, sales]
groups: {e: [cto, backend], s: [sales], all: [cto, backend, sales]}
channels:
  group_broadcasts: true
  huddle: {of: group, durable: false}
  replies: {of: role, durable: true}
  deadletter: {of: org, durable: false, subject: org.notes}
"""
SUBJECTS = {
    f"acme.{subject}"
    for group in ("e", "s", "all")
    for subject in (f"org.broadcasts.{group}", f"groups.{group}.huddle")
}


@st.composite
def with_groups(draw: st.DrawFn) -> dict[str, Any]:
    manifest = draw(test_import.manifests())
    members = st.lists(st.sampled_from([*manifest["roles"]]), unique=True, min_size=1)
    groups = st.dictionaries(st.sampled_from(["g1", "g2"]), members)
    own = st.fixed_dictionaries({"of": st.just("group"), "durable": st.booleans()})
    channels = {"group_broadcasts": draw(st.booleans()), "huddle": draw(own)}
    return manifest | {"groups": draw(groups), "channels": channels}


def written(name: str, manifest: str) -> dict[str, str]:
    """Return the files of a format, which come out the same twice."""
    made = exported(name, manifest)
    assert made.files
    assert exported(name, manifest) == made
    return dict(made.files)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_writes_every_example(name: str, path: Path) -> None:
    written(name, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_writes_whatever_organisation(name: str) -> None:
    @given(manifest=test_channels.manifests() | with_groups())
    @draws(20)
    def check(manifest: dict[str, Any]) -> None:
        if test_channels.loaded(manifest) is not None:
            written(name, json.dumps(manifest, ensure_ascii=False))

    check()


@pytest.mark.parametrize("name", ["python", "typescript"])
def test_a_module_has_the_subjects_of_each_group(name: str) -> None:
    (text,) = written(name, GROUPS).values()
    assert set(re.findall(r'"(acme\.[^"*]+)"', text)) >= SUBJECTS
    if name == "python":
        ast.parse(text)


def test_a_role_sends_to_every_group_and_hears_its_own() -> None:
    document = yaml.safe_load(written("asyncapi", GROUPS)["asyncapi.yaml"])
    found = document["operations"]
    assert document["channels"]["group_broadcasts"]["parameters"]["group"]["enum"] == ["e", "s", "all"]
    assert "x-groups" not in found["sales-sends-group_broadcasts"]
    heard = found["sales-receives-group_broadcasts"]
    assert heard["x-groups"] == ["s", "all"]
    assert heard["x-jetstream"]["consumer"] == "sales-group-broadcast-reader"
    assert found["cto-receives-huddle"]["x-groups"] == ["e", "all"]
    assert found["cto-sends-broadcasts"]["channel"] == {"$ref": "#/channels/broadcasts"}


def test_a_channel_called_like_something_else_of_the_document_is_itself() -> None:
    document = yaml.safe_load(written("asyncapi", GROUPS)["asyncapi.yaml"])
    assert document["channels"]["replies"]["address"] == "acme.agents.{role}.replies"
    assert {"cto-sends-deadletter", "cto-sends-dead_letters"} <= document["operations"].keys()
