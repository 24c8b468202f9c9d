"""Read a folder of configurations in the API's own words, as `export nats` writes them and as `nats ... info --json` prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cyborg_infra import files
from cyborg_infra.manifest.input import read_input
from cyborg_infra.manifest.other_tools.tool_files import Collector, ToolFiles, as_object, tool_file_error
from cyborg_infra.model.problems import UsageInvalid
from cyborg_infra.model.ref import Ref


def read_nats_files(paths: Sequence[str]) -> ToolFiles:
    """Return the streams and consumers in every JSON file below these folders.

    A consumer's configuration does not say of which stream it is: if nothing else does, that is the name of its folder.
    """
    collector = Collector()
    for path in paths:
        if not Path(path).is_dir():
            raise tool_file_error(path, "it is no folder")
        for file in sorted(Path(path).rglob("*.json")):
            if not file.name.startswith("."):
                _take(collector, file)
    return collector.found()


def _take(collector: Collector, file: Path) -> None:
    path = str(file)
    try:
        content = as_object(files.parse_json(read_input(path, "file", UsageInvalid)), "it")
        config = _config(content)
    except (files.Unreadable, ValueError) as error:
        raise tool_file_error(path, str(error)) from None
    name = config.get("durable_name") or config.get("name")
    if "url" in content:
        return  # a context, which `export nats` writes beside them
    if not isinstance(name, str) or not (
        {"subjects", "retention", "ack_policy", "deliver_policy"} & config.keys()
    ):
        collector.notes.append(f"{path} is no configuration of a stream or consumer, and is not read")
    elif "ack_policy" in config or "deliver_policy" in config:
        collector.add(path, Ref(str(content.get("stream_name") or file.parent.name), name), config)
    else:
        collector.add(path, Ref(name), config)


def _config(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration, which an info has among other things."""
    inner = content.get("config")
    return as_object(inner, "config") if inner is not None else content
