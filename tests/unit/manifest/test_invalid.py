"""Every manifest in cases/invalid is refused with exactly the problems beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cyborg_infra.manifest.input import MAX_BYTES
from cyborg_infra.manifest.load import load, loads
from cyborg_infra.model.problems import ManifestInvalid

CASES = Path(__file__).parents[2] / "cases/invalid"


def refusal(path: Path, env: str | None = None) -> str:
    with pytest.raises(ManifestInvalid) as caught:
        load(path, env)
    return str(caught.value).replace(str(path), path.name)


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.yaml")))
def test_an_invalid_manifest_is_refused_with_all_its_problems(
    name: str, golden: Callable[[Path, str], None]
) -> None:
    path = CASES / f"{name}.yaml"
    with pytest.raises(ManifestInvalid) as caught:
        loads(path.read_text(encoding="utf-8"), file=path.name)
    golden(path.with_suffix(".txt"), "".join(f"{problem}\n" for problem in caught.value.problems))
    assert all(problem.where and problem.where.line >= 1 for problem in caught.value.problems)


def test_every_golden_text_has_its_manifest() -> None:
    assert {path.stem for path in CASES.glob("*.yaml")} == {path.stem for path in CASES.glob("*.txt")}


def test_a_file_of_50_mb_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "org.yaml"
    with path.open("wb") as stream:
        stream.truncate(50 * 1024**2)
    assert refusal(path) == "org.yaml:1:1: the manifest is larger than 8 MiB"


def test_the_size_limit_itself_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "org.yaml"
    smallest = b"org: a\nroles: [b]\n#"
    path.write_bytes(smallest + b"x" * (MAX_BYTES - len(smallest)))
    assert load(path).name == "a"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"org: gen\nroles: [\xff]\n", "org.yaml:2:9: byte 0xff is not UTF-8 (save the file as UTF-8)"),
        ("org: a".encode("utf-16"), "org.yaml:1:1: byte 0xff is not UTF-8 (save the file as UTF-8)"),
        (b"org: a\x00b\n", "org.yaml:1:7: character U+0000 is not allowed in YAML"),
        (b"org: a\n\x1b[31m\n", "org.yaml:2:1: character U+001B is not allowed in YAML"),
    ],
)
def test_bytes_that_are_no_text_are_refused_at_their_place(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "org.yaml"
    path.write_bytes(content)
    assert expected == refusal(path)


def test_a_byte_order_mark_is_no_part_of_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "org.yaml"
    path.write_bytes(b"\xef\xbb\xbforg: a\nroles: [b]\n")
    assert load(path).name == "a"


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in refusal(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: No such file or directory (`cyborg-infra init`" in refusal(tmp_path / "org.yaml")


def test_a_path_that_the_system_refuses_is_refused(tmp_path: Path) -> None:
    assert "embedded null byte" in refusal(tmp_path / "a\0b")
    assert "File name too long" in refusal(tmp_path / ("a" * 5000))


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because root may read everything."""

    def denied(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", denied)
    with pytest.raises(ManifestInvalid, match="cannot be read: Permission denied"):
        load(tmp_path / "org.yaml")


@pytest.mark.parametrize(
    ("env", "hint"),
    [("prod", "did you mean production?"), ("moon", "the manifest has production, staging")],
)
def test_an_unknown_environment_is_refused(env: str, hint: str) -> None:
    text = "org: a\nroles: [b]\nenvironments:\n  production:\n  staging:\n"
    with pytest.raises(ManifestInvalid) as caught:
        loads(text, env=env)
    assert str(caught.value) == f"org.yaml:3:1: there is no environment {env} ({hint})"


def test_an_environment_is_refused_where_there_is_none() -> None:
    with pytest.raises(
        ManifestInvalid, match=r"^org.yaml:1:1: there is no environment x \(the manifest has none\)$"
    ):
        loads("org: a\nroles: [b]\n", env="x")


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? ", "a: {", "- - a: "])
def test_no_depth_of_nesting_is_more_than_a_refusal(opening: str) -> None:
    with pytest.raises(ManifestInvalid):
        loads(opening * 100_000)


def test_a_problem_in_one_part_hides_none_in_another() -> None:
    with pytest.raises(ManifestInvalid) as caught:
        loads("org: a b\nroles: [cto, CTO, on]\nnonsense: 1\nstreams: {tasks: {max_age: 5, max_msgs: x}}\n")
    assert [problem.code for problem in caught.value.problems] == [
        "bad-name",
        "same-stream",
        "yaml-ambiguous",
        "unknown-key",
        "bad-value",
        "wrong-type",
    ]
