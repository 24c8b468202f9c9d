"""The library: its names and their signatures are `cases/public_api.txt`; all else may change with any version."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import pickle
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import cyborg_infra
from cyborg_infra.live.connection.errors import ConnectionLost, NoReply
from cyborg_infra.model.wording import Option, worded
from tests.conftest import Golden

CASES = Path(__file__).parents[1] / "cases"
ADDRESS = re.compile(r" at 0x\w+")  # where a default that is a function lies in memory
MANIFEST = "org: acme\nroles: [cto]\nenvironment_required: true\nenvironments: {production: {}}\n"


def described(name: str) -> Iterator[str]:
    """Yield a line for a public name, and one for each of its own."""
    value = getattr(cyborg_infra, name)
    if isinstance(value, types.UnionType):
        yield f"{name} = {' | '.join(of.__name__ for of in value.__args__)}"
        return
    if not inspect.isclass(value):
        yield f"{name}{inspect.signature(value)}" if callable(value) else name
        return
    yield f"{name}({', '.join(base.__name__ for base in value.__bases__ if base is not object)})"
    if issubclass(value, enum.Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in value)
        return
    if dataclasses.is_dataclass(value):
        yield from (f"    {field.name}: {field.type}" for field in dataclasses.fields(value))
    yield from (f"    {field}" for field in getattr(value, "_fields", ()))  # of a named tuple
    for own, member in sorted(vars(value).items()):
        if not own.startswith("_") and inspect.isfunction(member):
            yield f"    {own}{inspect.signature(member)}"
        elif not own.startswith("_") and isinstance(member, property):
            yield f"    {own}: {inspect.signature(member.fget or described).return_annotation}"


def test_public_names_and_signatures_change_only_on_purpose(golden: Golden) -> None:
    """`make cases` writes them anew; the changelog then says what has changed."""
    text = "".join(f"{line}\n" for name in cyborg_infra.__all__ for line in described(name))
    golden(CASES / "public_api.txt", ADDRESS.sub("", text))


def test_every_public_name_is_there_and_no_other() -> None:
    assert sorted(cyborg_infra.__all__) == cyborg_infra.__all__
    assert set(cyborg_infra.__all__) <= set(dir(cyborg_infra))
    assert all(inspect.getdoc(getattr(cyborg_infra, name)) for name in cyborg_infra.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'aply'"):
        _ = cyborg_infra.aply  # type: ignore[attr-defined]


def test_the_library_costs_a_command_line_nothing_and_what_needs_no_server_no_event_loop() -> None:
    program = (
        "import sys; before = set(sys.modules); import cyborg_infra; "
        "print(sorted(set(sys.modules) - before - {'__future__'})); cyborg_infra.loads('org: a\\nroles: [b]\\n'); "
        "print({'asyncio', 'nats'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("['cyborg_infra']\nset()\n", "")


def test_a_manifest_of_text_and_one_of_a_file_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "org.yaml"
    path.write_text(MANIFEST, encoding="utf-8")
    assert cyborg_infra.loads(MANIFEST, "production", file=str(path)) == cyborg_infra.load(path, "production")
    with pytest.raises(cyborg_infra.ManifestInvalid, match="no environment was chosen"):
        cyborg_infra.load(path)
    with pytest.raises(cyborg_infra.ManifestInvalid, match="no environment was chosen"):
        cyborg_infra.loads(MANIFEST)


@pytest.mark.parametrize(
    "error",
    [
        cyborg_infra.PlanRefused(
            cyborg_infra.Problem("code", "what", None, worded("with {}", Option("prune")))
        ),
        NoReply("$JS.API.INFO", 5.0),
        ConnectionLost("nats://localhost", "closed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_back_from_another_process_as_it_is(error: cyborg_infra.CyborgError) -> None:
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - it is our own
    assert (type(copied), copied.problems, str(copied)) == (type(error), error.problems, str(error))
