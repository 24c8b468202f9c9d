"""Saved plans that somebody has changed by hand, their digests made anew: refused in one line, or planned again."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.metadata_keys import APPLIED_KEY
from cyborg_infra.model.problems import CyborgError
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource, digest_of
from cyborg_infra.operations import provision
from tests.robustness.false_replies import changed
from tests.support.cli import Cli
from tests.support.scenario import Scenario

MANIFEST = """
org: acme
roles: {cto: {}, cso: {tasks: {retention: workqueue, subject_transform: {src: ">", dest: "x.>"}}}}
events: [{name: ci.result, publishers: [cto], subscribers: [cso], durable: true}]
"""
DRAWN = 400


def _saved(cli: Cli, url: str, path: Path) -> dict[str, Any]:
    (path.parent / "org.yaml").write_text(MANIFEST, encoding="utf-8")
    ended = cli("plan", "--server", url, "--no-context", "--out", str(path), str(path.parent / "org.yaml"))
    assert ended.code == 0, ended.err
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def _write(path: Path, plan: dict[str, Any]) -> None:
    """With digests that fit: that of the file, and those of the configurations."""
    for row in plan["desired"] if isinstance(plan.get("desired"), list) else ():
        with contextlib.suppress(Exception):  # of what is no configuration
            row["config"]["metadata"][APPLIED_KEY] = Resource(_ref(row), row["config"]).digest()
    content = {key: value for key, value in plan.items() if key != "digest"}
    try:
        digest = digest_of(content)
    except TypeError:  # a number of more than 64 bits
        digest = ""
    path.write_text(json.dumps(content | {"digest": digest}), encoding="utf-8")


def _ref(row: dict[str, Any]) -> Ref:
    return Ref(row["stream"], row["consumer"] or "")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("server", "version"), "banana", "server/version: 'banana' is no version of a server"),
        (("server", "level"), "five", "server/level: 'five' is not of type 'integer'"),
        (("org",), "a.*", "org: 'a.*' is no organisation"),
        (("desired", 0, "stream"), "A.>", "'A.>' is no name of a stream or consumer"),
        (("desired", 0, "config", "max_age"), "72h", "text at max_age where a whole number was expected"),
        (("desired", 0, "config", "subjects"), ["a..b"], "subjects has what is no subject"),
        (("desired", 0, "config", "storage"), "tape", "storage is none of file, memory"),
        (("desired", 0, "config", "name"), "OTHER", "its configuration has another name"),
        (("desired", 0, "config", "metadata"), {}, "its configuration is not marked as one of acme"),
        (("desired", 0, "config", "newer"), 1, "'newer' is no field"),
        (("base",), {"A/*": "x"}, "'A/*' is no name of a stream or consumer"),
    ],
)
def test_what_no_plan_could_have_written_is_named(
    place: tuple[Any, ...], value: Any, said: str, server: EmbeddedServer, cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "saved.json"
    plan = _saved(cli, server.url, path)
    inside: Any = plan
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    _write(path, plan)
    ended = cli("apply", "--yes", "--server", server.url, "--no-context", str(path))
    assert (ended.code, ended.err.count("Error: "), ended.out) == (1, 1, "")
    assert said in " ".join(ended.err.split())


def test_whatever_is_changed_in_a_saved_plan_is_refused_or_planned_again(
    server: EmbeddedServer, cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "saved.json"
    plan = _saved(cli, server.url, path)
    planned = 0
    with Scenario(server.url, tmp_path) as scene:
        for seed in range(DRAWN):
            draw = Random(seed)  # noqa: S311 - to be drawn again
            found = json.loads(changed(json.dumps(plan).encode(), draw))
            if not isinstance(found, dict):
                continue
            _write(path, found)
            refused: CyborgError | None = None
            try:
                again = provision.plan(provision.load_request(str(path)), scene.target)
            except CyborgError as error:
                refused = error
            if refused is not None:
                assert refused.problems, seed
                assert "\n" not in refused.problems[0].message, seed
                continue
            planned += 1
            rows = {_ref(row): Resource(_ref(row), row["config"]).normalised() for row in found["desired"]}
            assert {ref: wanted.normalised() for ref, wanted in again.desired.resources.items()} == rows, seed
        assert scene.refs() == []
    assert planned > DRAWN / 20
