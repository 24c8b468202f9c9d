"""What every format is made of: what it is given, what it returns, and how a text says what it could not."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from cyborg_infra.model.fields import FIELDS
from cyborg_infra.model.naming import Subject
from cyborg_infra.model.normalise import without_server_labels
from cyborg_infra.model.organisation import Alerts, Org
from cyborg_infra.model.resources import Resource, State
from cyborg_infra.model.valueclass import NamedTuple

_MAX_KUBERNETES_NAME = 240
"""Characters of a name, with room for a number behind it."""


class ExportInput(NamedTuple):
    """What is exported: the organisation, its namespace, and its streams and consumers.

    `alerts` are its thresholds, `schemas` the JSON Schemas of the messages by their type, `settings` what the format may
    be told, all of them.
    """

    org: Org
    subjects: Sequence[Subject]
    state: State[Resource]
    alerts: Alerts
    schemas: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, str]

    @property
    def headline(self) -> str:
        """The first line of whatever is written. The name of an environment may have line ends."""
        env = f", environment {_in_one_line(self.org.environment)}" if self.org.environment else ""
        return f"Organisation {self.org.name}{env}. Written by cyborg-infra: change the manifest, and export again."


class Export(NamedTuple):
    """The files of a format, by their path below the directory that they are written to; `gaps` in sentences.

    A gap is something of the organisation that the format cannot say, or what it is used with would not do.
    """

    files: Mapping[str, str]
    gaps: Sequence[str] = ()


class Setting(NamedTuple):
    """Something that a format may be told; of `choices` if there are any."""

    default: str
    doc: str
    choices: tuple[str, ...] = ()


class Format(NamedTuple):
    """A row of FORMATS. `configures` if it has the settings of streams and consumers: these can be those of the server."""

    about: str
    write: Callable[[ExportInput], Export]
    settings: Mapping[str, Setting] = {}
    configures: bool = False


def head(given: ExportInput, gaps: Sequence[str]) -> str:
    """Return the first comment of a text: whose it is, and what it does not say."""
    lines = ["", "Not in here:", *(f"- {gap}" for gap in gaps)] if gaps else []
    return "".join(f"# {_in_one_line(line)}".rstrip() + "\n" for line in (given.headline, *lines))


Key = TypeVar("Key", bound=Hashable)


def distinct_names(
    keys: Iterable[Key], plain: Callable[[Key], str], separator: str = "-"
) -> Mapping[Key, str]:
    """Return the name that `plain` makes of each key, with a number behind it where another one has it already."""
    found: dict[Key, str] = {}
    taken = set[str]()
    for key in keys:
        name = begin = plain(key)
        number = 1
        while name in taken:
            number += 1
            name = f"{begin}{separator}{number}"
        taken.add(name)
        found[key] = name
    return found


def kubernetes_name(words: str) -> str:
    """Return the words as Kubernetes takes a name: lower case, digits and `-`."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower())[:_MAX_KUBERNETES_NAME].strip("-") or "unnamed"


def written_config(resource: Resource) -> dict[str, Any]:
    """Return the configuration without server labels, and without defaults of fields that older servers do not know."""
    table = FIELDS[resource.ref.kind]
    return {
        name: value
        for name, value in without_server_labels(resource.config).items()
        if name not in table or not table[name].since or value != table[name].default
    }


def promql_string(text: str) -> str:
    """Return the text as a quoted string of PromQL."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _in_one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
