"""Migrate a stream without loss: its messages are copied into a temporary stream, and from there into the new one.

What is to be done at which stage is one table: `live.execute.migrate.transitions`. Here it is gone through. A stream with a
new name needs no temporary stream: the old stream is what it is copied from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute.advisories import Notices
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.migrate.stages import StreamPair
from cyborg_infra.live.execute.migrate.steps import Migration
from cyborg_infra.live.execute.migrate.transitions import TRANSITIONS
from cyborg_infra.model.problems import ServerFault
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource


async def migrate_stream(
    server: JetStream,
    temporary: Ref,
    desired: Resource,
    consumers_after: Mapping[str, Resource],
    options: ApplyOptions,
    *,
    required: bool,
    notices: Notices | None = None,
) -> None:
    """Migrate the stream: make it as desired with every message, with placeholders of `consumers_after` at the old positions; delete T.

    T is `temporary`: a temporary stream, or the one whose name changes. `consumers_after` go by the names of the old consumers.
    If the stream need not be replaced any more (`required` is false), a migration that has only begun is undone instead.
    `notices` are heard meanwhile, and stored as soon as a stream takes them in. Raises ServerFault; then all is as it was, or the next apply goes on.
    """
    migration = Migration(server, temporary, desired, consumers_after, options, required, notices)

    async def run() -> None:
        await _run(migration)

    try:
        await server.retry(run)  # it begins by looking at what there is
    except ServerFault:
        with contextlib.suppress(ServerFault):  # the next apply finds the same, and goes on
            await _undo(migration)
            await migration.release_backups()
        raise
    await migration.release_backups()


async def _run(migration: Migration) -> None:
    """Go from wherever the migration stands to its end. Started again after the end, it does nothing."""
    seen = await migration.observe()
    recheck = TRANSITIONS[seen.stage].recheck
    if recheck is not None and await recheck(migration, seen):
        seen = await migration.observe()
    if migration.is_over(seen):
        return
    while True:
        await _advance(migration, seen)
        seen = await migration.observe()
        if seen.temporary is None:
            return


async def _advance(migration: Migration, seen: StreamPair) -> None:
    row = TRANSITIONS[seen.stage]
    if row.unneeded is not None and not migration.required and not seen.is_copy_ahead:
        await row.unneeded(migration, seen)
    else:
        await row.forward(migration, seen)


async def _undo(migration: Migration) -> None:
    """Go back to where the migration began, if that still has everything."""
    seen = await migration.observe()
    undo = TRANSITIONS[seen.stage].undo
    if not isinstance(undo, str) and not seen.is_copy_ahead:
        await undo(migration, seen)
