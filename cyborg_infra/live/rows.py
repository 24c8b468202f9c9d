"""What the JetStream API answers about one stream, consumer or account -> our values. Asks nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyborg_infra.model.fields import Config
from cyborg_infra.model.state import Activity, ConsumerCounts, Limits, Ref, Resource, StreamCounts
from cyborg_infra.model.units import age

_NONE: Mapping[str, Any] = {}


def resource(ref: Ref, row: Mapping[str, Any]) -> Resource:
    """One stream or consumer of a listing, or of its INFO."""
    config: Config = row["config"]
    counts = _consumer_counts(row) if ref.consumer else _stream_counts(row)
    return Resource(ref, config, None, counts, row.get("created", ""), activity=_activity(row))


def _stream_counts(row: Mapping[str, Any]) -> StreamCounts:
    state = row["state"]
    held = state["messages"] > 0
    return StreamCounts(
        messages=state["messages"],
        bytes=state["bytes"],
        first_seq=state["first_seq"],
        last_seq=state["last_seq"],
        first_ts=state["first_ts"] if held else "",
        last_ts=state["last_ts"] if held else "",
        oldest_age=(age(state["first_ts"], row.get("ts", "")) or 0) if held else 0,
        num_subjects=state.get("num_subjects", 0),
        consumers=state.get("consumer_count", 0),
    )


# By position and not by name, because a large account has tens of thousands of them.


def _consumer_counts(row: Mapping[str, Any]) -> ConsumerCounts:
    return ConsumerCounts(
        row["num_pending"],
        row["num_ack_pending"],
        row["num_redelivered"],
        row["num_waiting"],
        row["delivered"]["stream_seq"],
        row["ack_floor"]["stream_seq"],
    )


def _activity(row: Mapping[str, Any]) -> Activity:
    get = row.get
    return Activity(
        get("ts", ""),
        get("delivered", _NONE).get("last_active", ""),
        get("ack_floor", _NONE).get("last_active", ""),
        get("paused", False),
        get("push_bound", False),
    )


def limits(info: Mapping[str, Any]) -> Limits:
    """What `$JS.API.INFO` says that the account may have."""
    found = info.get("limits") or {}
    return Limits(
        max_streams=found.get("max_streams", -1),
        max_consumers=found.get("max_consumers", -1),
        max_storage=found.get("max_storage", -1),
        max_memory=found.get("max_memory", -1),
        max_ack_pending=found.get("max_ack_pending", -1),
        max_file_stream=found.get("storage_max_stream_bytes", -1),
        max_memory_stream=found.get("memory_max_stream_bytes", -1),
        max_bytes_required=found.get("max_bytes_required", False),
        streams=info.get("streams", 0),
        consumers=info.get("consumers", 0),
        storage=info.get("reserved_storage", 0),
        memory=info.get("reserved_memory", 0),
    )
