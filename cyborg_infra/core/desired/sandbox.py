"""Derive the sandbox of `verify` from an organisation: other names, other subjects, times a thousandfold shorter.

Nothing of it can meet the organisation itself: not a stream, not a subject, not a dead-letter notice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cyborg_infra.core.desired import naming
from cyborg_infra.model.fields import FIELDS, since
from cyborg_infra.model.organisation import ExpectedServer, FieldValues, Org, Overrides
from cyborg_infra.model.resources import DesiredResource, DesiredState
from cyborg_infra.model.units import HOUR, MINUTE
from cyborg_infra.model.verification import TIME_SCALE

MAX_ACK_WAIT_NS = 2 * HOUR
"""A longer ack_wait is tried as this one: nothing is proved by waiting for it."""

MAX_RUN_NS = 10 * MINUTE
"""A copy that is younger may belong to a run that is still under way."""

_SUBJECTS = ("subjects", "filter_subject", "filter_subjects", "deliver_subject", "src", "dest")
_COPY_FIELDS = ("mirror", "mirror_direct", "sources")
_CLUSTERED = ("num_replicas", "placement")
_TOKEN = "[0-9a-f]{6}"


def sandbox_org(org: Org, token: str, *, alone: bool = False) -> Org:
    """Return the same organisation as `<org>-verify-<token>`; `token` is six hexadecimal digits.

    It copies no other stream, takes over from no former name, and has no buckets, which have one name in the whole
    account. `alone`, for a server of our own: without
    replicas and placement, and wherever it is.
    """
    copy = replace(
        org,
        name=f"{org.name}-verify-{token}",
        stream_prefix=f"VERIFY_{token.upper()}_",
        subject_prefix=_copied_prefix(org, f"{org.name}-verify-{token}"),
        roles=tuple(role._replace(renamed_from="") for role in org.roles),
        buckets=(),
        server=ExpectedServer() if alone else org.server,
    )
    dropped = (*_COPY_FIELDS, *_CLUSTERED) if alone else _COPY_FIELDS
    return replace(copy, layers=tuple(_layer(layer, org, copy, dropped) for layer in org.layers))


def _copied_prefix(org: Org, name: str) -> str:
    """Return the prefix of the copy's subjects: as many tokens, so that what stands for a token still does."""
    return ".".join([name, *_prefix(org)[1:]])


def _prefix(org: Org) -> list[str]:
    """Return the tokens that all of its subjects begin with."""
    return org.subject("").removesuffix(".").split(".")


def org_alone(org: Org) -> Org:
    """Return the organisation itself as it is on a server of our own: copying no other stream, without replicas and placement, wherever it is."""

    def kept(fields: FieldValues) -> FieldValues:
        return {name: value for name, value in fields.items() if name not in (*_COPY_FIELDS, *_CLUSTERED)}

    def layer(one: Overrides) -> Overrides:
        return one._replace(
            defaults=kept(one.defaults),
            streams={kind: kept(fields) for kind, fields in one.streams.items()},
            buckets={name: kept(fields) for name, fields in one.buckets.items()},
            roles={
                role: {kind: kept(fields) for kind, fields in kinds.items()}
                for role, kinds in one.roles.items()
            },
        )

    return replace(org, server=ExpectedServer(), layers=tuple(layer(one) for one in org.layers))


def is_sandbox_of(org: Org, owner: str | None) -> bool:
    """Return whether `owner` is the name of a copy of `org`."""
    return bool(re.fullmatch(f"{re.escape(org.name)}-verify-{_TOKEN}", owner or ""))


def supported_by(state: DesiredState, level: int) -> tuple[DesiredState, list[str]]:
    """Return what a server of this API level knows of it, and in clauses what it does not."""
    kept, unknown = {}, []
    for ref, resource in state.resources.items():
        new = {
            name: needed
            for name, value in resource.normalised().items()
            if (needed := since(FIELDS[ref.kind][name], value)) > level
        }
        unknown += [f"{ref}: {name} needs API level {needed}" for name, needed in new.items()]
        config = {name: value for name, value in resource.config.items() if name not in new}
        kept[ref] = replace(resource, config=config)
    return DesiredState(kept), unknown


def scale_times(state: DesiredState) -> DesiredState:
    """Return the state with every ack_wait and backoff TIME_SCALE times shorter. No other setting depends on how long work takes."""
    return DesiredState({ref: _scale_times(resource) for ref, resource in state.resources.items()})


def _scale_times(resource: DesiredResource) -> DesiredResource:
    config = dict(resource.config)
    if "ack_wait" in config:
        config["ack_wait"] = _shorten(config["ack_wait"])
    if "backoff" in config:
        config["backoff"] = [_shorten(step) for step in config["backoff"]]
    return replace(resource, config=config)


def _shorten(nanoseconds: int) -> int:
    return max(min(nanoseconds, MAX_ACK_WAIT_NS) // TIME_SCALE, 1)


def _layer(layer: Overrides, org: Org, copy: Org, dropped: tuple[str, ...]) -> Overrides:
    def of(fields: FieldValues) -> FieldValues:
        return {
            name: _translated(name, value, org, copy) for name, value in fields.items() if name not in dropped
        }

    return layer._replace(
        defaults=of(layer.defaults),
        streams={kind: of(fields) for kind, fields in layer.streams.items()},
        consumers={kind: of(fields) for kind, fields in layer.consumers.items()},
        roles={
            role: {kind: of(fields) for kind, fields in kinds.items()} for role, kinds in layer.roles.items()
        },
    )


def _translated(name: str, value: Any, org: Org, copy: Org) -> Any:
    """Return a field's value with every subject in it moved to the copy."""
    match value:
        case str() if name in _SUBJECTS:
            return _moved(value, org, copy, pattern=name != "src")
        case list() | tuple() if name in _SUBJECTS or name == "republish":
            return [_translated(name, item, org, copy) for item in value]
        case Mapping() if name in ("subject_transform", "republish"):
            return {part: _translated(part, item, org, copy) for part, item in value.items()}
    return value


def _moved(subject: str, org: Org, copy: Org, *, pattern: bool) -> str:
    """Return the subject under the copy's own first token; a dead-letter notice of its own streams.

    What a `src` matches is stored by the stream already, so that a wildcard in front may stay there.
    """
    head, dot, rest = subject.partition(".")
    (first, *_others) = _prefix(org)
    if head == first:
        return f"{copy.name}{dot}{rest}"
    if stream := naming.stream_of_advisory(subject):
        renamed = stream if stream == "*" else f"{copy.stream_prefix}{stream.removeprefix(org.stream_prefix)}"
        return subject.replace(f".{stream}.", f".{renamed}.")
    if not first and not head.startswith("$"):  # all subjects are its own
        return f"{copy.name}.{subject}"
    if head.startswith("$") or (head in ("*", ">") and not pattern):
        return subject
    if head == "*":
        return f"{copy.name}{dot}{rest}"
    return f"{copy.name}.{subject if head == '>' else f'elsewhere.{subject}'}"
