"""Read objects of NACK: Stream, Consumer and KeyValue of jetstream.nats.io, with NACK's defaults where nothing is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra.manifest.input import read_input
from cyborg_infra.manifest.other_tools.tool_files import (
    Collector,
    ToolFiles,
    ValueMismatch,
    as_list,
    as_object,
    go_duration,
    tool_file_error,
)
from cyborg_infra.model.fields import FIELDS, Field, Kind, Unit
from cyborg_infra.model.problems import UsageInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.tool_names import NACK_DELIVER_POLICIES, nack_name

_GROUP = "jetstream.nats.io/"
_DEFAULTS: Mapping[Kind, Mapping[str, Any]] = {
    Kind.STREAM: {"storage": "memory"},
    Kind.CONSUMER: {"ackPolicy": "none", "ackWait": "1ns"},
}
"""What NACK makes of an absent field, where the server would make something else."""

_CONNECTION = {
    *("name", "durableName", "streamName", "bucket", "account", "creds", "nkey", "servers"),
    *("tls", "tlsFirst", "jsDomain", "preventDelete", "preventUpdate"),
}
"""What says how NACK works, or is a name."""


def read_nack(paths: Sequence[str]) -> ToolFiles:
    """Return the streams, consumers and buckets of all objects in these files, of all documents in a file."""
    collector = Collector()
    for path in paths:
        for found in _objects(path):
            try:
                _take(collector, path, found)
            except ValueError as error:
                raise tool_file_error(path, f"{_named(found)}: {error}") from None
    return collector.found()


def _objects(path: str) -> Iterator[Mapping[str, Any]]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads a time as the text that it is."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rows if tag != "tag:yaml.org,2002:timestamp"]
        for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        documents = list(yaml.load_all(read_input(path, "file", UsageInvalid), Loader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        raise tool_file_error(
            path, f"it is no YAML{place}: {getattr(error, 'problem', None) or error}"
        ) from None
    for each in documents:
        if isinstance(each, Mapping):
            items = each.get("items") if str(each.get("kind")).endswith("List") else None
            yield from (
                (item for item in items if isinstance(item, Mapping)) if isinstance(items, list) else (each,)
            )


def _named(found: Mapping[str, Any]) -> str:
    metadata = found.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return f"{found.get('kind')} {name or 'without a name'}"


def _take(collector: Collector, path: str, found: Mapping[str, Any]) -> None:
    kind, spec = found.get("kind"), as_object(found.get("spec"), "spec")
    if not str(found.get("apiVersion")).startswith(_GROUP) or kind not in _TAKEN:
        collector.notes.append(f"{_named(found)} is no stream, consumer or bucket, and is not read")
        return
    _TAKEN[kind](collector, path, spec)


def _take_stream(collector: Collector, path: str, spec: Mapping[str, Any]) -> None:
    _add(collector, path, Ref(_name(spec, "name")), spec)


def _take_consumer(collector: Collector, path: str, spec: Mapping[str, Any]) -> None:
    ref = Ref(_name(spec, "streamName"), _name(spec, "durableName"))
    if not spec.get("ackWait"):
        collector.notes.append(f"{ref}: without an ackWait NACK makes one nanosecond of it")
    _add(collector, path, ref, spec)


def _name(spec: Mapping[str, Any], key: str) -> str:
    name = spec.get(key)
    if not isinstance(name, str) or not name:
        raise ValueMismatch(f"spec.{key} must be a name")
    return name


def _add(collector: Collector, path: str, ref: Ref, spec: Mapping[str, Any]) -> None:
    said = {**_DEFAULTS[ref.kind], **{key: value for key, value in spec.items() if value not in (None, "")}}
    words = {nack_name(ref.kind, name): name for name in FIELDS[ref.kind]}
    config = {}
    for word, value in said.items():
        if word in words:
            config[words[word]] = _value(FIELDS[ref.kind][words[word]], word, value)
        elif word not in _CONNECTION:
            collector.notes.append(f"{ref}: {word} is not read")
    collector.add(path, ref, config)


def _value(field: Field, word: str, value: Any) -> Any:
    if shape := _SHAPES.get(field.name):
        return shape(value, word)
    match field.unit:
        case Unit.DURATION:
            return go_duration(value, word)
        case Unit.DURATIONS:
            return [go_duration(each, word) for each in as_list(value, word)]
    if field.name == "deliver_policy":
        return {theirs: ours for ours, theirs in NACK_DELIVER_POLICIES.items()}.get(value, value)
    return value


def _transform(value: Any, word: str) -> dict[str, Any]:
    said = as_object(value, word)
    return {"src": said.get("source"), "dest": said.get("dest")}


def _republish(value: Any, word: str) -> dict[str, Any]:
    said = as_object(value, word)
    return {"src": said.get("source"), "dest": said.get("destination")}


def _limits(value: Any, word: str) -> dict[str, Any]:
    said, found = as_object(value, word), dict[str, Any]()
    if said.get("inactiveThreshold"):
        found["inactive_threshold"] = go_duration(said["inactiveThreshold"], f"{word}.inactiveThreshold")
    if said.get("maxAckPending"):
        found["max_ack_pending"] = said["maxAckPending"]
    return found


def _origin(value: Any, word: str) -> dict[str, Any]:
    said = as_object(value, word)
    names = {"name": "name", "optStartSeq": "opt_start_seq", "optStartTime": "opt_start_time"}
    names |= {"filterSubject": "filter_subject"}
    found: dict[str, Any] = {ours: said[theirs] for theirs, ours in names.items() if said.get(theirs)}
    external = {"api": said.get("externalApiPrefix"), "deliver": said.get("externalDeliverPrefix")}
    if any(external.values()):
        found["external"] = {name: text for name, text in external.items() if text}
    if said.get("subjectTransforms"):
        found["subject_transforms"] = [
            _transform(each, word) for each in as_list(said["subjectTransforms"], word)
        ]
    return found


_SHAPES: Mapping[str, Callable[[Any, str], Any]] = {
    "subject_transform": _transform,
    "republish": _republish,
    "consumer_limits": _limits,
    "mirror": _origin,
    "sources": lambda value, word: [_origin(each, word) for each in as_list(value, word)],
}

_BUCKET_WORDS = {
    "description": "description",
    "maxValueSize": "max_msg_size",
    "history": "max_msgs_per_subject",
    "ttl": "max_age",
    "maxBytes": "max_bytes",
    "storage": "storage",
    "replicas": "num_replicas",
    "placement": "placement",
    "republish": "republish",
}


def _take_bucket(collector: Collector, path: str, spec: Mapping[str, Any]) -> None:
    name = _name(spec, "bucket")
    config: dict[str, Any] = {"compression": "s2"} if spec.get("compression") is True else {}
    for word, value in spec.items():
        if word in _BUCKET_WORDS and value is not None:
            config[_BUCKET_WORDS[word]] = _value(FIELDS[Kind.STREAM][_BUCKET_WORDS[word]], word, value)
        elif word not in _CONNECTION and word != "compression":
            collector.notes.append(f"bucket {name}: {word} is not read")
    collector.add_bucket(path, name, config)


_TAKEN: Mapping[Any, Callable[[Collector, str, Mapping[str, Any]], None]] = {
    "Stream": _take_stream,
    "Consumer": _take_consumer,
    "KeyValue": _take_bucket,
}
