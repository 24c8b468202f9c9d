"""Back up a stream's configuration before updating it, and restore a stream that a killed server has forgotten.

A server writes a configuration over the one before, and its checksum behind it. Killed in between, it passes the stream
and its consumers over when it starts, and leaves all their files: of 240 streams that were updated all the time, a kill
cost 54 (2.10.26) and 15 (2.15.1). The next stream of that name has the messages again, and the next consumer of that
name stands where the old one stood. So the account remembers how a stream was before a migration updates it. A cluster
tells its servers what there is, and forgets nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.fencing import fenced_config
from cyborg_infra.live.api.idempotent import (
    begins_with_files,
    create_consumer,
    create_stream,
    delete,
    update_stream,
)
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.api.messages import decode_message
from cyborg_infra.live.connection.errors import PermissionDenied
from cyborg_infra.live.records.bucket import decode_json, is_deletion, key_subject
from cyborg_infra.model.buckets import APPLIED_BUCKET, bucket_stream
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import Config
from cyborg_infra.model.json_shapes import map_of, object_of, printable
from cyborg_infra.model.problems import CyborgError
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import LiveResource, Resource
from cyborg_infra.model.valueclass import NamedTuple

SCHEMA_VERSION = 1
_CONFIGURATION = object_of({})
_NOTE = object_of({"stream": printable, "config": _CONFIGURATION, "consumers": map_of(_CONFIGURATION)})
_DELETED = {"KV-Operation": "DEL"}


class _StreamBackup(NamedTuple):
    """A stream as it was before it was updated, and its durable consumers by name."""

    config: Config
    consumers: Mapping[str, Config]


@dataclass(slots=True)
class StreamBackups:
    """What the account remembers of the streams that one apply is updating."""

    _backups: dict[Ref, _StreamBackup] = field(default_factory=dict)
    # Which are used again: a deleted value leaves a mark.
    _slots: dict[Ref, int] = field(default_factory=dict)
    _refused: bool = False  # the account remembers nothing: then it goes without

    async def save(self, server: JetStream, org: str, ref: Ref) -> None:
        """Save the stream's configuration in the account before it is updated."""
        live = None if server.is_clustered or self._refused else await server.info(ref)
        if live is None:
            return
        durable = {
            old.ref.consumer: old.config for old in await server.consumers(ref) if not old.is_ephemeral
        }
        note = _StreamBackup(live.config, durable)
        if self._backups.get(ref) == note:
            return
        place = self._slots.setdefault(ref, _first_free(self._slots))
        value = {"schema_version": SCHEMA_VERSION, "stream": ref.stream, **note._asdict()}
        try:
            await _put(server, _key(org, place), value)
        except CyborgError:
            self._refused = True
            if ref not in self._backups:  # else the earlier note is still there, and is dropped in the end
                self._slots.pop(ref)
        else:
            self._backups[ref] = note

    async def discard(self, server: JetStream, org: str, ref: Ref) -> None:
        """Discard the backup of a stream that is going to be deleted or not written to any more."""
        if ref in self._backups:
            await _put(server, _key(org, self._slots[ref]), {}, _DELETED)
            del self._backups[ref], self._slots[ref]

    async def release(self, server: JetStream, org: str, refs: Sequence[Ref]) -> None:
        """Discard the backups of streams that are there and not written to any more. What cannot be discarded now is by the next apply."""
        for ref in refs:
            with contextlib.suppress(CyborgError):
                await self.discard(server, org, ref)

    async def read_or_restore(self, server: JetStream, ref: Ref) -> LiveResource | None:
        """Return the stream as it is now; brought back, if it was forgotten."""
        live = await server.info(ref)
        if live is not None or ref not in self._backups:
            return live
        await _restore_stream(server, ref, self._backups[ref])
        return await server.info(ref)


async def restore_forgotten_streams(server: JetStream, org: str) -> None:
    """Restore every stream that was forgotten while an earlier apply, which died as well, updated it. Raises as `live.api.idempotent` does."""
    number = 0
    while not server.is_clustered:
        body = {"seq": number + 1, "next_by_subj": _key(org, "*")}
        verb = f"STREAM.MSG.GET.{bucket_stream(APPLIED_BUCKET)}"
        try:
            row = await server.request_with_retry(verb, body, doing="recalling what was being written")
        except PermissionDenied:
            return
        except ApiError as error:
            if error.err_code in (ErrorCode.JSNoMessageFoundErr, ErrorCode.JSStreamNotFoundErr):
                return
            raise
        found, number = decode_message(row["message"]), row["message"]["seq"]
        noted = decode_json(found)
        if is_deletion(found) or _NOTE(noted) is not None:
            continue
        ref = Ref(noted["stream"])
        if await server.info(ref) is None:
            await _restore_stream(server, ref, _StreamBackup(noted["config"], noted["consumers"]))
        await _put(server, row["message"]["subject"], {}, _DELETED)


async def _restore_stream(server: JetStream, ref: Ref, note: _StreamBackup) -> None:
    """Restore the stream from its backup if its files are there; else it was deleted. It stores nothing before its consumers are there."""
    doing = f"bringing back {ref}, which its server forgot when it was killed"
    whole = Resource(ref, note.config)
    closed = Resource(ref, fenced_config(whole)) if whole.get("subjects") else whole
    answer = await create_stream(server, closed, doing)
    if answer is None:
        answer = await server.request_with_retry(f"STREAM.INFO.{ref}", doing=doing)
    if not begins_with_files(answer):
        await delete(server, ref, doing)
        return
    for name, config in note.consumers.items():
        await create_consumer(server, Resource(Ref(ref.stream, name), config), doing)
    if closed is not whole:
        await update_stream(server, whole, doing)


async def _put(
    server: JetStream, key: str, value: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> None:
    await server.publish(key, value, headers or {}, doing="remembering what is being written")


def _key(org: str, place: int | str) -> str:
    return key_subject(APPLIED_BUCKET, f"{org}.writing.{place}")


def _first_free(places: Mapping[Ref, int]) -> int:
    """Return the first place that is free."""
    return min(set(range(len(places) + 1)).difference(places.values()))
