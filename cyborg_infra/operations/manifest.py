"""Operations without a server: expand and lint a manifest, show a saved plan, check messages, write a template."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.desired.naming import list_subjects
from cyborg_infra.core.lint.lint import lint, notes
from cyborg_infra.manifest import schema, yaml_source
from cyborg_infra.manifest.load import load
from cyborg_infra.model.naming import MAX_PUBLISHERS, Subject
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.resources import DesiredState

if TYPE_CHECKING:  # `validate` needs neither
    from cyborg_infra.model.messages import MessageKind, OrgMessage
    from cyborg_infra.model.plan import Plan

__all__ = [
    "SCHEMA_FILE",
    "SCHEMA_LINE",
    "expand_manifest",
    "is_saved",
    "lint",
    "list_schemas",
    "load_messages",
    "load_saved_plan",
    "notes",
    "roles_and_environments",
    "schema_text",
    "show",
    "starter",
]


def expand_manifest(path: str, env: str | None = None) -> tuple[Org, DesiredState]:
    """Return the organisation, and its streams and consumers. Needs no server. Raises ManifestInvalid."""
    org = load(path, env, offline=True)
    return org, expand(org)


def show(path: str, env: str | None = None) -> tuple[Org, Sequence[Subject], DesiredState]:
    """Return the same with its namespace between them."""
    org, state = expand_manifest(path, env)
    return org, list_subjects(org, state, MAX_PUBLISHERS), state


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Return whether the file is a saved plan and not a manifest."""
    from cyborg_infra.manifest import saved_plan

    return saved_plan.is_saved(path)


def load_saved_plan(path: str) -> Plan:
    """Return the saved plan, with its changes as they were when it was made. Raises PlanStale for a damaged one."""
    from cyborg_infra.manifest import saved_plan

    return saved_plan.load_changes(path)


def load_messages(
    path: str, kind: MessageKind | None = None, manifest: str | None = None, env: str | None = None
) -> Sequence[OrgMessage]:
    """Return the messages in the file at `path`, or on standard input if it is `-`, checked. Needs no server.

    With a manifest, tasks are held to its chart. Raises MessageInvalid; ManifestInvalid.
    """
    from cyborg_infra.core.operate.assignment import check_senders
    from cyborg_infra.manifest.messages import load_message_file

    org = None if manifest is None else load(manifest, env, offline=True)
    found = load_message_file(path, kind)
    if org is not None:
        check_senders(org, found)
    return found


def roles_and_environments(path: str) -> tuple[list[str], list[str]]:
    """Return the roles and the environments that a manifest names, whether or not it holds. Raises ManifestInvalid if it is none."""
    found = yaml_source.read(path).data
    listed, laid_over = (found.get(key) or {} for key in ("roles", "environments"))
    roles = [name for each in listed for name in ([each] if isinstance(each, str) else each)]
    return [name for name in roles if isinstance(name, str)], list(laid_over)


def list_schemas() -> list[str]:
    """Return the names of the schemas of everything that is read or printed as data."""
    return schema.schema_names()


def schema_text(name: str) -> str:
    """Return the schema of this name, as JSON. Raises UsageInvalid where there is none."""
    if name not in schema.schema_names():
        hint = f"there are {', '.join(schema.schema_names())}"
        raise UsageInvalid(Problem("usage", f"there is no schema {name!r}", None, hint))
    return json.dumps(schema.read_schema(f"{name}{schema.ENDING}"), indent=2, ensure_ascii=False) + "\n"


SCHEMA_FILE = f"org{schema.ENDING}"
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
"""The first line of a manifest, by which an editor finds the schema beside it."""


def starter(org: str, roles: Sequence[str]) -> str:
    """Return the text of a commented manifest to start from. Raises ManifestInvalid for names that cannot be."""
    from cyborg_infra.manifest import template

    return SCHEMA_LINE + template.template_manifest(org, roles)
