"""Read a state file of Terraform or OpenTofu: the resources of the JetStream provider, with all their attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cyborg_infra import files
from cyborg_infra.manifest.input import read_input
from cyborg_infra.manifest.other_tools.tool_files import (
    Collector,
    ToolFiles,
    ValueMismatch,
    as_list,
    as_object,
    from_seconds,
    tool_file_error,
)
from cyborg_infra.model.fields import FIELDS, Kind, Unit
from cyborg_infra.model.problems import UsageInvalid
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.tool_names import TERRAFORM_CONSUMER_ID, TERRAFORM_NAMES, TERRAFORM_STREAM_ID

_PROVIDER = "jetstream_"
_VERSION = 4  # of the state; since Terraform 0.12


def read_terraform_state(paths: Sequence[str]) -> ToolFiles:
    """Return the provider's streams, consumers and buckets in these states."""
    collector = Collector()
    for path in paths:
        try:
            for kind, name, attributes in _instances(path):
                if take := _TAKEN.get(kind):
                    take(collector, path, attributes)
                elif kind.startswith(_PROVIDER):
                    collector.notes.append(f"{kind}.{name} is no stream, consumer or bucket, and is not read")
        except ValueError as error:
            raise tool_file_error(path, str(error)) from None
    return collector.found()


def _instances(path: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    try:
        state = as_object(files.parse_json(read_input(path, "file", UsageInvalid)), "a state")
    except files.Unreadable as error:
        raise ValueMismatch(str(error)) from None
    if state.get("version") != _VERSION:
        raise ValueMismatch(f"it is no state of Terraform: version {_VERSION} is read")
    for found in as_list(state.get("resources"), "resources"):
        resource = as_object(found, "a resource")
        for instance in as_list(resource.get("instances"), "instances"):
            attributes = as_object(as_object(instance, "an instance").get("attributes"), "attributes")
            yield str(resource.get("type")), str(resource.get("name")), attributes


def _take_stream(collector: Collector, path: str, said: Mapping[str, Any]) -> None:
    ref = Ref(_text(said, "name"))
    config = _config(Kind.STREAM, said)
    if "ack" in said:
        config["no_ack"] = said["ack"] is False
    if said.get("placement_cluster"):
        config["placement"] = {"cluster": said["placement_cluster"]}
        if said.get("placement_tags"):
            config["placement"]["tags"] = said["placement_tags"]
    if said.get("republish_destination"):
        config["republish"] = {
            "src": said.get("republish_source"),
            "dest": said["republish_destination"],
            "headers_only": bool(said.get("republish_headers_only")),
        }
    limits = {name: said[name] for name in ("inactive_threshold", "max_ack_pending") if said.get(name)}
    if "inactive_threshold" in limits:
        limits["inactive_threshold"] = from_seconds(limits["inactive_threshold"], "inactive_threshold")
    if limits:
        config["consumer_limits"] = limits
    for transform in as_list(said.get("subject_transform"), "subject_transform"):
        config["subject_transform"] = _transform(transform)
    for mirror in as_list(said.get("mirror"), "mirror"):
        config["mirror"] = _origin(mirror)
    if said.get("source"):
        config["sources"] = [_origin(each) for each in as_list(said["source"], "source")]
    collector.add(path, ref, config)


def _take_consumer(collector: Collector, path: str, said: Mapping[str, Any]) -> None:
    stream = _text(said, "stream_id").removeprefix(TERRAFORM_STREAM_ID).partition(TERRAFORM_CONSUMER_ID)[0]
    ref = Ref(stream, _text(said, "durable_name"))
    config = _config(Kind.CONSUMER, said)
    config["deliver_policy"] = next((policy for word, policy in _START.items() if said.get(word)), "all")
    if said.get("stream_sequence"):
        config["opt_start_seq"] = said["stream_sequence"]
    if said.get("start_time"):
        config["opt_start_time"] = said["start_time"]
    if "sample_freq" in said:
        config["sample_freq"] = str(said["sample_freq"] or "")
    if config.get("deliver_subject"):
        config.pop("max_waiting", None)
    collector.add(path, ref, config)


_START = {
    "deliver_all": "all",
    "deliver_last": "last",
    "deliver_new": "new",
    "deliver_last_per_subject": "last_per_subject",
    "stream_sequence": "by_start_sequence",
    "start_time": "by_start_time",
}
_SAID_OTHERWISE = {
    Kind.STREAM: {
        "consumer_limits",
        "max_ack_pending",
        "inactive_threshold",
        "subject_transform",
        "mirror",
        "sources",
    },
    Kind.CONSUMER: {"deliver_policy", "opt_start_seq", "opt_start_time", "sample_freq"},
}


def _config(kind: Kind, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that the provider only calls otherwise, or counts in seconds; what is empty is absent."""
    config: dict[str, Any] = {}
    for name, field in FIELDS[kind].items():
        value = said.get(TERRAFORM_NAMES[kind].get(name, name))
        if name in _SAID_OTHERWISE[kind] or value in (None, "", [], {}):
            continue
        match field.unit:
            case Unit.DURATION:
                value = from_seconds(value, name)
            case Unit.DURATIONS:
                value = [from_seconds(each, name) for each in as_list(value, name)]
        config[name] = value
    return config


def _transform(value: Any) -> dict[str, Any]:
    said = as_object(value, "subject_transform")
    return {"src": said.get("source"), "dest": said.get("destination")}


def _origin(value: Any) -> dict[str, Any]:
    said = as_object(value, "source")
    words = {
        "name": "name",
        "start_seq": "opt_start_seq",
        "start_time": "opt_start_time",
        "filter_subject": "filter_subject",
    }
    found: dict[str, Any] = {ours: said[theirs] for theirs, ours in words.items() if said.get(theirs)}
    for external in as_list(said.get("external"), "external"):
        found["external"] = {name: text for name, text in as_object(external, "external").items() if text}
    if said.get("subject_transform"):
        found["subject_transforms"] = [
            _transform(each) for each in as_list(said["subject_transform"], "subject_transform")
        ]
    return found


_BUCKET_WORDS = {
    "description": "description",
    "history": "max_msgs_per_subject",
    "max_value_size": "max_msg_size",
    "max_bucket_size": "max_bytes",
    "storage": "storage",
    "replicas": "num_replicas",
}


def _take_bucket(collector: Collector, path: str, said: Mapping[str, Any]) -> None:
    config = {
        ours: said[theirs] for theirs, ours in _BUCKET_WORDS.items() if said.get(theirs) not in (None, "")
    }
    if said.get("ttl"):
        config["max_age"] = from_seconds(said["ttl"], "ttl")
    if said.get("placement_cluster"):
        config["placement"] = {"cluster": said["placement_cluster"]}
    collector.add_bucket(path, _text(said, "name"), config)


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    if not isinstance(value, str) or not value:
        raise ValueMismatch(f"{key} must be a name")
    return value


_TAKEN: Mapping[str, Callable[[Collector, str, Mapping[str, Any]], None]] = {
    "jetstream_stream": _take_stream,
    "jetstream_consumer": _take_consumer,
    "jetstream_kv_bucket": _take_bucket,
}
