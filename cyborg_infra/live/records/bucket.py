"""Create, read and write the key-value buckets that the tool itself keeps in an account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from cyborg_infra.live.api.errors import (
    ApiError,
)
from cyborg_infra.live.api.idempotent import write_once
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.api.messages import decode_message
from cyborg_infra.model.buckets import bucket_stream, bucket_subject
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource
from cyborg_infra.model.stored_messages import StoredMessage

REPLICAS = 3  # where a cluster has as many servers


async def ensure_bucket(
    server: JetStream, bucket: str, settings: Mapping[str, Any], doing: str
) -> LiveResource | None:
    """Create the bucket if it is missing. Returns None if it is as it should be, or else what was there: scaled or changed by hand, it may serve.

    Raises ApiError if the account has no room for it.
    """
    config = {
        "name": bucket_stream(bucket),
        "subjects": [bucket_subject(bucket)],
        "max_msgs_per_subject": 1,
        "discard": "new",
        "storage": "file",
        "num_replicas": REPLICAS if server.is_clustered or server.is_remote else 1,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        **settings,
    }
    try:
        return await _create(server, config, doing)
    except ApiError as error:
        if error.err_code not in (ErrorCode.JSClusterNoPeersErrF, ErrorCode.JSStreamReplicasNotSupportedErr):
            raise
    # A cluster of two, or too many are down; or a single server behind a leaf node after all.
    return await _create(server, config | {"num_replicas": 1}, doing)


async def _create(server: JetStream, config: Mapping[str, Any], doing: str) -> LiveResource | None:
    ref = Ref(config["name"])

    async def exists() -> bool:
        return await server.info(ref) is not None

    answer = await write_once(server, f"STREAM.CREATE.{ref}", config, doing=doing, holds=exists)
    return await server.info(ref) if answer is None else None


async def latest_message(server: JetStream, bucket: str, key: str, doing: str) -> StoredMessage | None:
    """Return the last message of a key, which may say that it was deleted; None if there is none, or no such bucket."""
    body = {"last_by_subj": key_subject(bucket, key)}
    try:
        answer = await server.request_with_retry(f"STREAM.MSG.GET.{bucket_stream(bucket)}", body, doing=doing)
    except ApiError as error:
        if error.err_code in (ErrorCode.JSNoMessageFoundErr, ErrorCode.JSStreamNotFoundErr):
            return None
        raise
    return decode_message(answer["message"])


def is_deletion(message: StoredMessage) -> bool:
    """Return whether it says that its key has no value: a client's word (`nats kv del`), or the server's own."""
    return any(message.header(name) for name in ("KV-Operation", "Nats-Marker-Reason"))


def decode_json(message: StoredMessage) -> Any:
    """Return the value; None if it is no JSON, which somebody else must have put there."""
    try:
        return orjson.loads(message.data)
    except ValueError:
        return None


def key_subject(bucket: str, key: str) -> str:
    """Return `$KV.cyborg-infra.acme`."""
    return f"$KV.{bucket}.{key}"
