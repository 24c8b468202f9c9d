"""Load a manifest: from its text to a validated organisation, or every problem at once."""

from __future__ import annotations

import os
from typing import Any

from cyborg_infra.manifest import channel_rules, rules, schema, yaml_source
from cyborg_infra.manifest.build import build
from cyborg_infra.manifest.suggest import nearest
from cyborg_infra.manifest.yaml_source import Source
from cyborg_infra.model.organisation import ManifestPath, Org
from cyborg_infra.model.problems import ManifestInvalid, Problem
from cyborg_infra.model.wording import Option, worded


def load(path: str | os.PathLike[str], env: str | None = None, *, offline: bool = False) -> Org:
    """Return the organisation in the manifest at `path`, with the settings of the environment `env` laid over.

    All environments are checked, whichever is chosen. Only `offline` is one not needed that the manifest requires.

    Raises:
        ManifestInvalid: with every problem found, in the order of their places.
    """
    return _load(yaml_source.read(path), env, offline=offline)


def loads(text: str, env: str | None = None, *, file: str = "org.yaml", offline: bool = False) -> Org:
    """Return the organisation in a manifest's text, as `load` does; `file` is the name that problems and marks carry. Raises as it does."""
    return _load(yaml_source.parse_yaml(text, file), env, offline=offline)


def load_naming(path: str | os.PathLike[str], org: str) -> Org:
    """Return an organisation of this name with the names, the channels and the groups that the file says, and without roles.

    The file is a manifest, in which neither `org` nor `roles` has to stand; whatever else stands in it is checked and not used.

    Raises:
        ManifestInvalid: with every problem found, in the order of their places.
    """
    return _load_naming(yaml_source.read(path), org)


def loads_naming(text: str, org: str, *, file: str = "naming.yaml") -> Org:
    """Return what `load_naming` returns, from the file's text. Raises as it does."""
    return _load_naming(yaml_source.parse_yaml(text, file), org)


def _load_naming(found: Source, org: str) -> Org:
    found.data = {"org": org, "roles": [org], **found.data}
    refused = schema.check_schema(found)
    for place, _problem in refused:
        _blank(found, place)
    found.data = {"org": org, **{key: found.data.get(key) for key in _NAMING}}
    orgs, misfits = build(found)
    problems = [*(problem for _path, problem in refused), *misfits, *check_names(orgs[None])]
    if not any(found.data[key] for key in _NAMING) and not problems:
        where, hint = found.mark(()), "write one of them, as in a manifest"
        problems.append(Problem("no-names", "the file says neither naming nor channels", where, hint))
    if found.problems or problems:
        raise ManifestInvalid(*_in_order(found, problems))
    return orgs[None]


def check_names(org: Org) -> list[Problem]:
    """Return what the rules of channels and names have against them, whichever roles there are."""
    every = (rules.prefix_is_part_of_a_name, *channel_rules.RULES)
    return list(dict.fromkeys(problem for rule in every for problem in rule(org)))


_NAMING = ("naming", "channels", "groups")


def _load(found: Source, env: str | None, *, offline: bool) -> Org:
    refused = schema.check_schema(found)
    for path, _problem in refused:
        _blank(found, path)
    orgs, misfits = build(found)
    problems = [*(problem for _path, problem in refused), *misfits, *rules.check_manifest(orgs.values())]
    if orgs[None].environment_required and len(orgs) == 1:
        problems.append(_no_environment_to_choose(found))
    if env not in orgs:
        problems.append(_no_environment(found, env, [name for name in orgs if name]))
    if found.problems or problems:
        raise ManifestInvalid(*_in_order(found, problems))
    if orgs[env].environment_required and env is None and not offline:
        raise ManifestInvalid(_no_environment_chosen(found))
    return orgs[env]


def _blank(found: Source, path: ManifestPath) -> None:
    """Take the value at `path` out of the data, so that the rest can still be checked."""
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
    """Return each problem once, by place. Where the text itself is in doubt, nothing else is said of it."""
    doubtful = {problem.where for problem in found.problems}
    said = [*found.problems, *(problem for problem in problems if problem.where not in doubtful)]
    return sorted(dict.fromkeys(said), key=lambda problem: problem.where or found.mark(()))


def _no_environment_to_choose(found: Source) -> Problem:
    where = found.key(("environment_required",))
    return Problem(
        "environment-required",
        "an environment is required, and the manifest has none",
        where,
        "add environments",
    )


def _no_environment_chosen(found: Source) -> Problem:
    return Problem(
        "environment-required",
        "no environment was chosen, and the manifest requires one",
        found.key(("environment_required",)),
        worded(
            "choose {} with {}, or with CYBORG_INFRA_ENV",
            " or ".join(found.data.get("environments") or ()),
            Option("env"),
        ),
    )


def _no_environment(found: Source, env: str | None, known: list[str]) -> Problem:
    meant = nearest(env or "", known)
    known_ones = f"the manifest has {', '.join(known)}" if known else "the manifest has none"
    return Problem(
        "unknown-environment",
        f"there is no environment {env}",
        found.key(("environments",)),
        f"did you mean {meant}?" if meant else known_ones,
    )
