"""What is in other tools' files: configurations in wire form, and in sentences what was not taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cyborg_infra.model.buckets import DEFAULTS, bucket_stream, bucket_subject
from cyborg_infra.model.fields import FIELDS, Config
from cyborg_infra.model.json_shapes import config_of
from cyborg_infra.model.problems import Problem, SourcePosition, UsageInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, LiveState
from cyborg_infra.model.units import SECOND, parse_duration
from cyborg_infra.model.valueclass import NamedTuple

# Settings of every client's bucket but the one in which they disagree.
_BUCKET = {name: value for name, value in DEFAULTS.items() if name != "allow_msg_ttl"}

_NO_TIME = "0001-01-01T00:00:00Z"
"""How Go says that there is none: `nats consumer info --json` has it of a consumer that is not paused."""


class ToolFiles(NamedTuple):
    """What the files hold, as a server would; `notes` tell what of them was not taken."""

    live: LiveState
    notes: Sequence[str]


class Collector:
    """Collects what files hold, and says where something in them cannot be."""

    def __init__(self) -> None:
        self._resources: dict[Ref, LiveResource] = {}
        self.notes: list[str] = []

    def add(self, file: str, ref: Ref, config: Config) -> None:
        """Add a stream or consumer. Raises UsageInvalid for a configuration that is none, and for the same one twice."""
        said = {name: value for name, value in config.items() if value not in (None, _NO_TIME)}
        said["name"] = ref.name
        if ref.consumer:
            said["durable_name"] = ref.name
        if mismatch := config_of(ref.kind, ())(said):
            raise tool_file_error(file, f"{ref}: {mismatch}")
        if ref in self._resources:
            raise tool_file_error(file, f"{ref} is there twice")
        known = FIELDS[ref.kind].keys() | {"name", "durable_name"}
        if unknown := sorted(said.keys() - known):
            self.notes.append(f"{ref}: {', '.join(unknown)} is not read")
        self._resources[ref] = LiveResource(ref, {name: said[name] for name in said if name in known})

    def add_bucket(self, file: str, name: str, config: Config) -> None:
        """Add a bucket as its clients make one, with what is said of it."""
        stream = Ref(bucket_stream(name))
        self.add(file, stream, {"subjects": [bucket_subject(name)], **_BUCKET, **config})

    def found(self) -> ToolFiles:
        """Return all resources and notes that were added."""
        return ToolFiles(LiveState(dict(self._resources)), self.notes)


class ValueMismatch(ValueError):
    """Something in a file that cannot be what it should be."""


Read = Callable[[Sequence[str]], ToolFiles]
"""Reads files or a folder, by their paths. Raises UsageInvalid for what cannot be read."""


def tool_file_error(file: str, message: str) -> UsageInvalid:
    """Return the error about a file."""
    return UsageInvalid(Problem("import-file", message, SourcePosition(file, 1, 1)))


def as_object(value: Any, what: str) -> Mapping[str, Any]:
    """Return the value if it is an object; an empty one for none. Raises ValueMismatch."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueMismatch(f"{what} must be an object")
    return value


def as_list(value: Any, what: str) -> Sequence[Any]:
    """Return the value if it is a list; an empty one for none. Raises ValueMismatch."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueMismatch(f"{what} must be a list")
    return value


def go_duration(value: Any, what: str) -> int:
    """Return the nanoseconds of a Go duration such as `1h0m0s`. Raises ValueMismatch."""
    if not isinstance(value, str):
        raise ValueMismatch(f"{what} must be a duration, such as 30m")
    return parse_duration(value) if value else 0


def from_seconds(value: Any, what: str) -> int:
    """Return the nanoseconds of a number of seconds. Raises ValueMismatch."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueMismatch(f"{what} must be a number of seconds")
    return value * SECOND
