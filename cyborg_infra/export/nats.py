"""For the `nats` CLI: a configuration file for each stream and consumer, a script that adds them, contexts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from cyborg_infra.export.exported import Export, ExportInput, Setting, head, written_config
from cyborg_infra.model.naming import inbox_prefix
from cyborg_infra.model.resources import Resource, State

SETTINGS: Mapping[str, Setting] = {
    "server": Setting("nats://127.0.0.1:4222", "URL of the server in the contexts"),
    "creds": Setting("", "folder of the credentials in the contexts: <folder>/<role>.creds"),
}

SCRIPT = "add.sh"


def write(given: ExportInput) -> Export:
    """Return one JSON for each stream and consumer, in the API's own words, and what uses them."""
    gaps = [
        f"{stream.ref}: sealed; servers refuse it of a new stream. Edit the stream when it is filled"
        for stream in given.state.streams()
        if stream.get("sealed")
    ]
    files = {_path(found): _json(_config(found)) for found in given.state.resources.values()}
    for role in given.org.roles:
        files[f"contexts/{given.org.name}-{role.name}.json"] = _json(_context(given, role.name))
    files[SCRIPT] = "#!/bin/sh\n" + head(given, gaps) + _script(given.state)
    return Export(files, gaps)


def _config(resource: Resource) -> dict[str, Any]:
    return {name: value for name, value in written_config(resource).items() if name != "sealed"}


def _path(resource: Resource) -> str:
    stream, consumer = resource.ref
    return f"consumers/{stream}/{consumer}.json" if consumer else f"streams/{stream}.json"


def _context(given: ExportInput, role: str) -> dict[str, str]:
    found = {
        "description": f"{role} of {given.org.name}",
        "url": given.settings["server"],
        "inbox_prefix": inbox_prefix(given.org.stream_prefix, role),
    }
    if folder := given.settings["creds"]:
        found["creds"] = f"{folder.rstrip('/')}/{role}.creds"
    return found


def _script(state: State[Resource]) -> str:
    """Return a shell script that creates everything in an empty account, and stops at the first refusal."""
    return "\n".join(["set -eu", 'cd "$(dirname "$0")"', *_commands(state), ""])


def _commands(state: State[Resource]) -> Iterator[str]:
    for stream in state.streams():
        yield shlex.join(["nats", "stream", "add", stream.ref.name, "--config", _path(stream)])
    for consumer in state.consumers():
        words = ["nats", "consumer", "add", consumer.ref.stream, consumer.ref.name, "--config"]
        yield shlex.join([*words, _path(consumer)])


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
