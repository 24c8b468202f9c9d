"""What a server's own limits make of fields that a manifest leaves open.

An administrator can limit what every stream and consumer may have (`jetstream { limits { ... } }` of a server, the limits
of an account), and no request tells of a server's. Where a configuration leaves such a field open, the server fills the
limit in; where it says more, the server refuses (10052, 10121, 10125). So what is left open is sent as left open, and
what came of it is noted on the resource, as that it is nobody's change (measured 2.10.26 and 2.15.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyborg_infra.model.fields import FIELDS, Config, Kind
from cyborg_infra.model.metadata_keys import SERVER_VALUES_KEY
from cyborg_infra.model.units import whole_number

LIMITED_FIELDS: Mapping[Kind, tuple[str, ...]] = {
    Kind.STREAM: ("duplicate_window",),
    Kind.CONSUMER: ("max_ack_pending", "max_batch"),
}
"""The fields that a server fills in by a limit of its own; 0 on the wire leaves one open."""


_DEFAULTS = {name: FIELDS[kind][name].default for kind, names in LIMITED_FIELDS.items() for name in names}


def with_server_values(config: Config, values: Mapping[str, int]) -> dict[str, Any]:
    """Return the configuration with these values, and a note that they are the server's; without a note if there are none."""
    open_config = as_open(config)
    labels = {key: text for key, text in (config.get("metadata") or {}).items() if key != SERVER_VALUES_KEY}
    if values:
        labels[SERVER_VALUES_KEY] = " ".join(f"{name}={value}" for name, value in sorted(values.items()))
    return {**open_config, **values, "metadata": labels}


def as_open(config: Config) -> Config:
    """Return the configuration without the values that the server's own limits made."""
    return as_requested(config, (config.get("metadata") or {}).get(SERVER_VALUES_KEY, ""))


def noted_values(config: Config) -> dict[str, int]:
    """Return the values that are noted as the server's, as far as they are what the configuration has."""
    return _values_held(config, (config.get("metadata") or {}).get(SERVER_VALUES_KEY, ""))


def as_requested(config: Config, note: str) -> Config:
    """Return the configuration with the noted server values left open. A value that somebody has changed since stays."""
    found = dict(config)
    for name in _values_held(config, note):
        found[name] = _DEFAULTS[name]
        if name == "duplicate_window":
            found[name] = min(found[name], config.get("max_age") or found[name])
    return found


def _values_held(config: Config, note: str) -> dict[str, int]:
    parts = [part.partition("=") for part in note.split()]
    return {
        name: value
        for name, _, text in parts
        if name in _DEFAULTS and (value := whole_number(text)) is not None and config.get(name) == value
    }
