"""A saved plan, read back: JSON to the Plan that it was, without the changes, which are made anew and compared."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cyborg_infra.manifest.schema import find
from cyborg_infra.model.fields import Version
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.problems import Mark, PlanStale, Problem
from cyborg_infra.model.state import Facts, Ref, Resource, State, digest_of

MARKER = b'"type": "saved-plan"'
"""The first member of the file, so that it is known by its first bytes whatever it is called."""


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a saved plan and not a manifest, by its first bytes."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MARKER) + 64).lstrip().removeprefix(b"{").lstrip().startswith(MARKER)
    except OSError:
        return False  # reading it as a manifest will say what is wrong


def load_saved(path: str | os.PathLike[str]) -> Plan:
    """The plan's wish (`desired`, `targets`, `prune`) and the state it holds for (`base`, `facts`).

    Raises PlanStale for a file that is damaged, edited, or of another version of cyborg-infra.
    """
    where = Mark(str(path), 1, 1)
    try:
        data = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise PlanStale(
            Problem(
                "saved-plan",
                f"the saved plan cannot be read: {error}",
                where,
                "make a new one with plan --out",
            )
        ) from None
    _refuse_unless_valid(data, where)
    content = {name: value for name, value in data.items() if name != "digest"}
    if digest_of(content) != data["digest"]:
        raise PlanStale(
            Problem(
                "saved-plan",
                "the saved plan is not what was written: it was edited or is damaged",
                where,
                "make a new one with plan --out",
            )
        )
    return Plan(
        org=data["org"],
        base={_parse(ref): digest for ref, digest in data["base"].items()},
        desired=State({_ref(row): Resource(_ref(row), row["config"]) for row in data["desired"]}),
        facts=_facts(data["server"]),
        environment=data["environment"],
        targets=tuple(data["targets"]),
        prune=data["prune"],
    )


def _refuse_unless_valid(data: Any, where: Mark) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(find("saved-plan.schema.json")).iter_errors(data))
    if error is not None:
        place = "/".join(str(part) for part in error.absolute_path)
        raise PlanStale(
            Problem(
                "saved-plan",
                f"this is no plan that this version of cyborg-infra can apply ({place or 'the file'}: {error.message[:200]})",
                where,
                "make a new one with plan --out",
            )
        )


def _ref(row: dict[str, Any]) -> Ref:
    return Ref(row["stream"], row["consumer"] or "")


def _parse(text: str) -> Ref:
    stream, _, consumer = text.partition("/")
    return Ref(stream, consumer)


def _facts(server: dict[str, Any] | None) -> Facts | None:
    if server is None:
        return None
    return Facts(
        Version.parse(server["version"]),
        server["level"],
        account=server["account"],
        cluster=server["cluster"],
        domain=server["domain"],
    )
