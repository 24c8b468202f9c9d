"""Decode what the JetStream API says of one stream, consumer or account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyborg_infra.model.fields import Config
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Activity, ConsumerCounts, Copy, LiveResource, StreamCounts
from cyborg_infra.model.server import Limits
from cyborg_infra.model.units import age

_EMPTY: Mapping[str, Any] = {}
_HALF = 2**63


def decode_resource(ref: Ref, row: Mapping[str, Any], incarnation: str = "") -> LiveResource:
    """Return one stream or consumer of a listing, or of its INFO, as this run of a server told it.

    Where it is not known which that was, the last delivery stands for it: a server that ends forgets when that was.
    """
    config: Config = row["config"]
    counts = _decode_consumer_counts(row) if ref.consumer else _decode_stream_counts(row)
    return LiveResource(
        ref, config, counts, row.get("created", ""), activity=_decode_activity(row, incarnation)
    )


def _decode_stream_counts(row: Mapping[str, Any]) -> StreamCounts:
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


def _decode_consumer_counts(row: Mapping[str, Any]) -> ConsumerCounts:
    return ConsumerCounts(
        row["num_pending"],
        row["num_ack_pending"],
        row["num_redelivered"],
        row["num_waiting"],
        row["delivered"]["stream_seq"],
        row["ack_floor"]["stream_seq"],
    )


def _decode_activity(row: Mapping[str, Any], incarnation: str) -> Activity:
    get = row.get
    delivered = get("delivered", _EMPTY)
    delivered_at = delivered.get("last_active", "")
    return Activity(
        get("ts", ""),
        delivered_at,
        get("ack_floor", _EMPTY).get("last_active", ""),
        get("paused", False),
        get("push_bound", False),
        incarnation or delivered_at,
        delivered.get("consumer_seq", 0),
        _behind(row, cluster) if (cluster := get("cluster")) else (),
    )


def _behind(row: Mapping[str, Any], cluster: Mapping[str, Any]) -> tuple[Copy, ...]:
    if not cluster.get("leader"):
        return ()
    replicas = cluster.get("replicas") or ()
    lacking = (
        row["config"].get("num_replicas", 0) - 1 - len(replicas)
    )  # of a consumer 0 is as many as its stream's
    return (
        *(
            Copy(found["name"], found.get("offline", False), found.get("active", 0))
            for found in replicas
            if found.get("offline") or not found.get("current")
        ),
        *(Copy("") for _ in range(lacking)),
    )


def decode_limits(info: Mapping[str, Any]) -> Limits:
    """Return what `$JS.API.INFO` says that the account may have. Limits by replicas (`tiers`) are not known as such: none then."""
    found = {} if info.get("tiers") else info.get("limits") or {}
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
        storage=_reserved_bytes(info.get("reserved_storage", 0)),
        memory=_reserved_bytes(info.get("reserved_memory", 0)),
    )


def _reserved_bytes(size: int) -> int:
    """Return the reserved bytes: 2.10 takes a byte away for each stream without max_bytes, and below 0 it says nearly 2**64."""
    return size if size < _HALF else 0
