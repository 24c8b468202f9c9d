"""The table of what servers can do since when is the only place that knows versions, and each row names who measured it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from cyborg_infra.model.server_versions import Capability, Version

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "cyborg_infra"
TABLE = PACKAGE / "model" / "server_versions.py"


def is_version(node: ast.AST) -> bool:
    """Return whether this is a version in numbers: `Version(2, 11, 0)` or a tuple that one is compared with."""
    if isinstance(node, ast.Call):
        parts = node.args if isinstance(node.func, ast.Name) and node.func.id == "Version" else []
        return len(parts) == 3 and all(isinstance(part, ast.Constant) for part in parts)
    if isinstance(node, ast.Compare):
        return any(
            isinstance(side, ast.Tuple)
            and len(side.elts) in (2, 3)
            and isinstance(first := side.elts[0], ast.Constant)
            and first.value == 2
            for side in (node.left, *node.comparators)
        )
    return False


@pytest.mark.parametrize("capability", Capability)
def test_the_test_that_measured_it_exists(capability: Capability) -> None:
    path, _, name = capability.measured_by.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.startswith("tests/"):
        assert f"def {name}(" in text
    else:
        assert str(capability.since)[: -len(".0")] in text


def test_no_other_module_has_a_version_in_numbers() -> None:
    written = [ast.parse("Version(2, 11, 0)"), ast.parse("version >= (2, 11)")]
    assert all(any(map(is_version, ast.walk(tree))) for tree in written)
    found = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(map(is_version, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert found == {TABLE.relative_to(ROOT).as_posix()}


def test_rows_are_distinct_and_none_is_before_the_oldest_server() -> None:
    assert len(Capability.__members__) == len(list(Capability))
    assert all(capability.since > Version(2, 10, 0) for capability in Capability)
