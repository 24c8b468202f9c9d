"""For NACK, the JetStream controller of Kubernetes (0.23): Stream, Consumer and KeyValue of jetstream.nats.io/v1beta2.

Every field is written, as NACK's defaults are not the server's: memory, `ackPolicy: none`, `ackWait: 1ns`. With
`--control-loop` it writes its own configuration over each within a minute; the labels are in it, so that they stay
(tried with 0.23.0 on a real API server). It also writes each object anew, without what is empty and has no default: so
that is not written, else whoever compares, such as Argo CD, would find a difference for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cyborg_infra.export.exported import (
    Export,
    ExportInput,
    Setting,
    distinct_names,
    head,
    kubernetes_name,
    written_config,
)
from cyborg_infra.export.yaml_text import yaml_text
from cyborg_infra.model.buckets import STREAM_PREFIX
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.fields import FIELDS, Config, Field, Kind, Unit
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.tool_names import NACK_DELIVER_POLICIES, nack_name
from cyborg_infra.model.units import format_duration

SETTINGS: Mapping[str, Setting] = {
    "namespace": Setting("", "namespace of the objects; else that of whoever applies them"),
    "account": Setting("", "name of the Account object by which NACK connects"),
    "servers": Setting("", "URLs of the servers, with commas; else what NACK was started with"),
    "buckets": Setting("Stream", "what a bucket is: only a Stream keeps its labels", ("Stream", "KeyValue")),
}

FILE = "nack.yaml"
_API = "jetstream.nats.io/v1beta2"
_MAX_ANNOTATIONS_BYTES = 262_144


def write(given: ExportInput) -> Export:
    """Return one file with an object for each stream and consumer."""
    names = distinct_names(given.state.resources, lambda ref: kubernetes_name("-".join(filter(None, ref))))
    gaps: list[str] = []
    objects = []
    for ref, found in given.state.resources.items():
        if _is_bucket(found) and given.settings["buckets"] == "KeyValue":
            kind, spec = "KeyValue", _key_value(found, gaps)
        else:
            kind, spec = ref.kind.value.title(), _spec(found, gaps)
        said = {"name": names[ref]} | ({"namespace": space} if (space := given.settings["namespace"]) else {})
        spec |= _connection(given.settings)
        gaps.extend(f"{ref}: {what}" for what in _too_large(spec))
        objects.append({"apiVersion": _API, "kind": kind, "metadata": said, "spec": spec})
    return Export({FILE: head(given, gaps) + yaml_text(objects)}, gaps)


def _too_large(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence if the object's annotations could not, or might not, hold its configuration. Tried with NACK 0.23.0."""
    size = len(json.dumps(spec, separators=(",", ":")))
    if size > _MAX_ANNOTATIONS_BYTES:
        yield (
            f"{size:,} bytes, and NACK keeps them in the object's annotations, which may have {_MAX_ANNOTATIONS_BYTES:,}; "
            "it will not make this one: give each division a manifest of its own"
        )
    elif 2 * size > _MAX_ANNOTATIONS_BYTES:
        yield (
            f"{size:,} bytes, which NACK keeps in the object's annotations, and kubectl apply once more, and these may have "
            f"{_MAX_ANNOTATIONS_BYTES:,}; use kubectl apply --server-side"
        )


def _is_bucket(resource: Resource) -> bool:
    return not resource.ref.consumer and resource.metadata.get(KIND_KEY) == StreamKind.KEY_VALUE


def _connection(settings: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"preventDelete": True}
    if settings["account"]:
        found["account"] = settings["account"]
    if settings["servers"]:
        found["servers"] = settings["servers"].split(",")
    return found


def _spec(resource: Resource, gaps: list[str]) -> dict[str, Any]:
    kind, config = resource.ref.kind, written_config(resource)
    spec: dict[str, Any] = (
        {"durableName": resource.ref.consumer, "streamName": resource.ref.stream}
        if resource.ref.consumer
        else {"name": resource.ref.stream}
    )
    for name, field in FIELDS[kind].items():
        value = config.get(name)
        if value is None or (name == "sealed" and not value):
            continue
        if name == "sealed":
            gaps.append(f"{resource.ref}: sealed; servers refuse it of a new stream, so that it is left out")
        elif shape := _SHAPES.get((kind, name)):
            spec |= shape(resource.ref, value, gaps)
        else:
            spec[nack_name(kind, name)] = _value(field, value)
    return {name: value for name, value in spec.items() if not _is_dropped(kind, value)}


def _is_dropped(kind: Kind, value: Any) -> bool:
    """Return whether NACK drops this value: empty ones, and 0 in a consumer, which is the default there."""
    return value in ("", [], {}) or (kind is Kind.CONSUMER and value == 0 and not isinstance(value, bool))


def _value(field: Field, value: Any) -> Any:
    match field.unit:
        case Unit.DURATION:
            return _duration(value)
        case Unit.DURATIONS:
            return [_duration(each) for each in value]
        case Unit.SUBJECTS | Unit.NAMES:
            return list(value)
        case Unit.METADATA:
            return dict(value)
    return value


def _duration(nanoseconds: int) -> str:
    return format_duration(nanoseconds) if nanoseconds else "0s"


def _placement(_: Ref, value: Config, __: list[str]) -> dict[str, Any]:
    return {"placement": {name: value[name] for name in ("cluster", "tags") if value.get(name)}}


def _republish(ref: Ref, value: Config, gaps: list[str]) -> dict[str, Any]:
    if value.get("headers_only"):
        gaps.append(f"{ref}: republish.headers_only; NACK republishes the body as well")
    return {"republish": {"source": value.get("src") or ">", "destination": value["dest"]}}


def _transform(value: Config) -> dict[str, str]:
    return {"source": value.get("src") or ">", "dest": value["dest"]}


def _limits(_: Ref, value: Config, __: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if value.get("inactive_threshold"):
        found["inactiveThreshold"] = _duration(value["inactive_threshold"])
    if value.get("max_ack_pending"):
        found["maxAckPending"] = value["max_ack_pending"]
    return {"consumerLimits": found}


def _origin(value: Config) -> dict[str, Any]:
    found = {
        nack_name(Kind.CONSUMER, name): value[name]
        for name in ("name", "opt_start_seq", "opt_start_time", "filter_subject")
        if value.get(name)
    }
    external = value.get("external") or {}
    words = (("api", "externalApiPrefix"), ("deliver", "externalDeliverPrefix"))
    found |= {word: external[name] for name, word in words if external.get(name)}
    if value.get("subject_transforms"):
        found["subjectTransforms"] = [_transform(each) for each in value["subject_transforms"]]
    return found


def _max_ack_pending(ref: Ref, value: int, gaps: list[str]) -> dict[str, Any]:
    if value < 0:
        gaps.append(
            f"{ref}: max_ack_pending without a limit; NACK takes none, and the server's default holds"
        )
        return {}
    return {"maxAckPending": value}


_Shape = Callable[[Ref, Any, list[str]], dict[str, Any]]
_SHAPES: Mapping[tuple[Kind, str], _Shape] = {
    (Kind.STREAM, "placement"): _placement,
    (Kind.STREAM, "republish"): _republish,
    (Kind.STREAM, "subject_transform"): lambda _, value, __: {"subjectTransform": _transform(value)},
    (Kind.STREAM, "consumer_limits"): _limits,
    (Kind.STREAM, "mirror"): lambda _, value, __: {"mirror": _origin(value)},
    (Kind.STREAM, "sources"): lambda _, value, __: {"sources": [_origin(each) for each in value]},
    (Kind.CONSUMER, "deliver_policy"): lambda _, value, __: {
        "deliverPolicy": NACK_DELIVER_POLICIES.get(value, value)
    },
    (Kind.CONSUMER, "max_ack_pending"): _max_ack_pending,
}
"""What has another shape there."""

_BUCKET_FIELDS = {
    "description": "description",
    "max_msg_size": "maxValueSize",
    "max_msgs_per_subject": "history",
    "max_age": "ttl",
    "max_bytes": "maxBytes",
    "storage": "storage",
    "num_replicas": "replicas",
}


def _key_value(bucket: Resource, gaps: list[str]) -> dict[str, Any]:
    """Return a bucket in NACK's words, which know no labels and none of the newer settings."""
    spec: dict[str, Any] = {"bucket": bucket.ref.stream.removeprefix(STREAM_PREFIX)}
    config = written_config(bucket)
    for name, word in _BUCKET_FIELDS.items():
        if config.get(name) not in (None, ""):
            spec[word] = _value(FIELDS[Kind.STREAM][name], config[name])
    if config.get("compression") == "s2":
        spec["compression"] = True
    for name in ("placement", "republish"):
        if config.get(name):
            spec |= _SHAPES[Kind.STREAM, name](bucket.ref, config[name], gaps)
    gaps.extend(f"{bucket.ref}: {what}" for what in _unsaid(config))
    return spec


def _unsaid(config: Config) -> Iterator[str]:
    yield "a KeyValue has no labels, and drift will tell of it; buckets=Stream keeps them"
    for name in ("allow_msg_ttl", "subject_delete_marker_ttl"):
        if config.get(name):
            yield f"{name}; NACK does not set it"
    if not config.get("allow_direct"):
        yield "allow_direct is false; NACK makes buckets with it, whose reads may come from a copy that is behind"
