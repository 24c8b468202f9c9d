"""What is exported and read back is what was exported, for whichever organisation."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given

from cyborg_infra.manifest.other_tools.readers import READERS
from tests.properties.test_import import manifests, meaning
from tests.support.draws import draws
from tests.support.exports import export_input, exported


@pytest.mark.parametrize("name", ["nats", "nack"])
@given(manifest=manifests())
@draws(20, ignoring=[HealthCheck.too_slow])
def test_an_export_that_is_read_back_is_the_same_organisation(name: str, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, ensure_ascii=False)
    made = exported(name, text)
    assume(not made.gaps)
    with tempfile.TemporaryDirectory() as folder:
        for path, content in made.files.items():
            place = Path(folder) / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content, encoding="utf-8")
        found = READERS[name]([folder if name == "nats" else f"{folder}/nack.yaml"])
    assert found.notes == []
    assert meaning(found.live) == meaning(export_input(name, text).state)
