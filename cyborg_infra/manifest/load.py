"""`load(path, env) -> Org`: the whole way from a manifest's text to a validated organisation, every problem in one go."""

from __future__ import annotations

import os
from typing import Any

from cyborg_infra.manifest import rules, schema, source
from cyborg_infra.manifest.build import build
from cyborg_infra.manifest.source import Source
from cyborg_infra.model.org import Org, Path
from cyborg_infra.model.problems import ManifestInvalid, Problem


def load(path: str | os.PathLike[str], env: str | None = None) -> Org:
    """The organisation in the manifest at `path`, with the settings of the environment `env` laid over.

    All environments are checked, whichever is chosen.

    Raises:
        ManifestInvalid: with every problem found, in the order of their places.
    """
    return _load(source.read(path), env)


def loads(text: str, *, file: str = "org.yaml", env: str | None = None) -> Org:
    """The same from a manifest's text; `file` is the name that problems and marks carry."""
    return _load(source.parse(text, file), env)


def _load(found: Source, env: str | None) -> Org:
    refused = schema.check(found)
    for path, _problem in refused:
        _blank(found, path)
    orgs, misfits = build(found)
    problems = [*(problem for _path, problem in refused), *misfits, *rules.check(orgs.values())]
    if env not in orgs:
        problems.append(_no_environment(found, env, [name for name in orgs if name]))
    if found.problems or problems:
        raise ManifestInvalid(*_in_order(found, problems))
    return orgs[env]


def _blank(found: Source, path: Path) -> None:
    """Takes the value at `path` out of the data, so that the rest can still be checked."""
    value: Any = found.data
    last: Any
    *way, last = path
    for step in way:
        value = value[step]
        if value is None:  # something around it was refused as well
            return
    if isinstance(value, list) or last in value:
        value[last] = None


def _in_order(found: Source, problems: list[Problem]) -> list[Problem]:
    """Each problem once, by place. Where the text itself is in doubt, nothing else is said of it."""
    doubtful = {problem.where for problem in found.problems}
    said = [*found.problems, *(problem for problem in problems if problem.where not in doubtful)]
    return sorted(dict.fromkeys(said), key=lambda problem: problem.where or found.mark(()))


def _no_environment(found: Source, env: str | None, known: list[str]) -> Problem:
    meant = schema.nearest(env or "", known)
    known_ones = f"the manifest has {', '.join(known)}" if known else "the manifest has none"
    return Problem(
        "unknown-environment",
        f"there is no environment {env}",
        found.key(("environments",)),
        f"did you mean {meant}?" if meant else known_ones,
    )
