"""YAML that every reader takes for the same: whatever another one could take for a number or a truth has quotes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


def yaml_text(documents: Iterable[Any]) -> str:
    """Return the documents, each behind its `---`; mappings in the order that they have."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Indents lists below their key, and knows no aliases: what is said twice is written twice."""

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - PyYAML's
            super().increase_indent(flow, False)

        def ignore_aliases(self, _: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        style = None if plain else "|" if _is_block(value) else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return "".join(
        "---\n"
        + yaml.dump(
            each, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=10**6
        )
        for each in documents
    )


def _is_block(value: str) -> bool:
    """Return whether it is lines that are good to read as they are."""
    return value.endswith("\n") and all(line.isprintable() for line in value.split("\n"))
