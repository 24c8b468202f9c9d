"""What is exported and read back is what was exported, for whichever organisation: its resources, and its manifest."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given
from hypothesis import strategies as st

from cyborg_infra.core.desired.expand import expand_unchecked
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.export.formats import FORMATS
from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.other_tools.readers import READERS
from cyborg_infra.operations.imports import import_files
from tests.properties import test_channels, test_import
from tests.properties.test_import import STREAM, chosen, meaning
from tests.support.draws import draws
from tests.support.exports import input_of

ENVIRONMENT = "production"
INAPPLICABLE = "this manifest cannot be applied as it stands"  # as little as the one that was exported


@st.composite
def environments(draw: st.DrawFn) -> dict[str, Any]:
    """Return an organisation with own channels, names and groups, and an environment over its settings."""
    over = chosen(defaults=st.just({"replicas": 3}), streams=chosen(tasks=STREAM, inboxes=STREAM))
    return draw(test_channels.manifests()) | {"environments": {ENVIRONMENT: draw(over)}}


@pytest.mark.parametrize("name", ["nats", "nack"])
@given(manifest=test_import.manifests() | environments())
@draws(25, ignoring=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_an_export_that_is_read_back_is_the_same_organisation(name: str, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, ensure_ascii=False)
    assume("environments" not in manifest or test_channels.loaded(manifest) is not None)
    org = loads(text, ENVIRONMENT if "environments" in manifest else None)
    exported = input_of(name, org)
    made = FORMATS[name].write(exported)
    assume(not made.gaps)
    event("with channels of its own" if "channels" in manifest else "with the built-in channels")
    with tempfile.TemporaryDirectory() as folder:
        for path, content in {**made.files, "org.yaml": text}.items():
            place = Path(folder) / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content, encoding="utf-8")
        files = [folder if name == "nats" else f"{folder}/nack.yaml"]
        found = READERS[name](files)
        (Path(folder) / "org.yaml").unlink()
        (Path(folder) / "names.yaml").write_text(text, encoding="utf-8")
        imported, notes = import_files(name, files, org.name, "", f"{folder}/names.yaml")
    assert found.notes == []
    assert meaning(found.live) == meaning(exported.state)
    # By the names of its own manifest, what is read is told again as a manifest that wants the same.
    again = expand_unchecked(loads(imported))
    assert [note for note in notes if not note.startswith(INAPPLICABLE)] == []
    assert meaning(again) == meaning(exported.state)
    assert not make_plan(found.live, again, owner=org.name)
