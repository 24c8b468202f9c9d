"""YAML that every reader takes for the same: whatever another one could take for a number or a truth has quotes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


def yaml_text(documents: Iterable[Any]) -> str:
    """Return the documents, each behind its `---`: mappings in the order that they have.

    PyYAML's C writer takes a tenth of the time of the other one. Both write the same bytes, which `export --check`
    compares, but for keys that are empty, have control characters or are longer than a line.
    """
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]
        """Knows no aliases: what is said twice is written twice."""

        def ignore_aliases(self, _: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        style = None if plain else "|" if _is_block(value) else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return yaml.dump_all(
        documents,
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        explicit_start=True,
        width=10**6,
    )


def _is_block(value: str) -> bool:
    """Return whether the text reads well as a YAML block: whole printable lines, none indented or empty at an end."""
    return (
        value.endswith("\n")
        and not value.endswith("\n\n")
        and not value.startswith((" ", "\n"))
        and all(line.isprintable() for line in value.split("\n"))
    )
