"""The steps of a stream's migration: each goes from one stage to the next, or back. When each is taken is in `transitions`.

The temporary stream T is a copy of S that is opened: it becomes a stream that takes messages in by itself. So is
the new S a copy of T. How streams are copied is the copy method (`live.api.copying`): a mirror, and before 2.12 sources.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from functools import partial
from typing import Any

from cyborg_infra.live.api import copying
from cyborg_infra.live.api.copying import CopyMethod, is_empty, require_stream
from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.fencing import delete_end_markers, fenced_config
from cyborg_infra.live.api.idempotent import (
    create_empty,
    delete,
    update_stream,
    update_streams_together,
    write_once,
)
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.execute import advisories, consumer_limits
from cyborg_infra.live.execute.consumer.options import ApplyOptions
from cyborg_infra.live.execute.consumer.strategies import strategy_for
from cyborg_infra.live.execute.migrate import consumers, message_ids
from cyborg_infra.live.execute.migrate.catch_up import (
    next_number_if_complete,
    wait_until_complete,
    wait_until_nearly_complete,
    wait_until_still,
)
from cyborg_infra.live.execute.migrate.stages import StreamPair
from cyborg_infra.live.records.journal import INGEST_FIELDS, LIMIT_FIELDS, Journal
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.consumer_position import ConsumerPositions
from cyborg_infra.model.fields import Config
from cyborg_infra.model.metadata_keys import APPLIED_KEY, KIND_KEY, OWNER_KEY
from cyborg_infra.model.problems import PlanStale, Problem, ServerFault
from cyborg_infra.model.ref import Ref, temporary_stream
from cyborg_infra.model.resources import LiveResource, Resource, copy_max_bytes, stream_counts
from cyborg_infra.model.stream_copies import FIXED_FIELDS, can_become, changed_meanwhile_problem

COPYABLE_FIELDS = (
    "num_replicas",
    "placement",
    "compression",
    "duplicate_window",
    "allow_direct",
    "allow_msg_ttl",
)
"""What says how a stream keeps messages, without any limit: a copy has to have all."""


@dataclass(frozen=True, slots=True)
class Migration:
    """The migration of one stream. A step takes what was just observed, or reads the server itself."""

    server: JetStream
    temporary: Ref
    desired: Resource
    consumers_after: Mapping[str, Resource]
    options: ApplyOptions
    required: bool
    notices: advisories.Notices | None = None  # that come while DEAD_LETTERS is migrated
    paused: dict[str, str] = field(default_factory=dict)  # by hand, as we found it
    # Consumers, as a journal knew them that is deleted.
    stopped: dict[str, Config] = field(default_factory=dict)

    @property
    def ref(self) -> Ref:
        """The stream that is migrated, S."""
        return self.desired.ref

    @property
    def is_rename(self) -> bool:
        """Whether T is the old stream under its old name."""
        return self.temporary != temporary_stream(self.ref)

    async def observe(self) -> StreamPair:
        """Read S and T; what a killed server has forgotten in the middle of an update is restored before."""
        stream, temporary = await asyncio.gather(
            *(self.options.stream_backups.read_or_restore(self.server, ref) for ref in self._both_streams)
        )
        return StreamPair(stream, temporary)

    def is_over(self, seen: StreamPair) -> bool:
        """Return whether there is nothing to migrate: S is as desired, or both are gone."""
        stream = seen.stream
        return seen.temporary is None and (stream is None or stream.normalised() == self.desired.normalised())

    async def release_backups(self) -> None:
        """Release the backups: nothing more is written to either stream."""
        await self.options.stream_backups.release(self.server, self._owner, self._both_streams)

    # What a run does that finds the stage, before it goes on.

    async def discard_temporary_if_unusable(self, seen: StreamPair) -> bool:
        """Delete T if it was begun by another run and may hold what S, which still has everything, does not.

        That is what workers have acknowledged since, where the copy could not wait until nobody worked any more. Returns
        whether it is deleted.
        """
        stream, temporary = seen.existing_stream, seen.existing_temporary
        if not self.required or not self._is_copy_out_unusable(stream, temporary):
            return False
        journal = seen.journal
        self.stopped.update(journal.consumers)
        await self._delete_temporary(journal)
        return True

    def _is_copy_out_unusable(self, stream: LiveResource, temporary: LiveResource) -> bool:
        if _is_copy_refused(stream, temporary):
            return True
        if self.is_rename:
            return False
        journal = Journal.from_stream(temporary)
        outdated = journal.deletes_on_ack and not journal.copy_method.can_defer
        return outdated or not journal.copy_method.holds_only_copies(stream, temporary)

    async def discard_target_if_unusable(self, seen: StreamPair) -> bool:
        """Delete S if it was begun by another run and may hold what T, which has everything, does not. Returns whether it is deleted."""
        stream, temporary = seen.existing_stream, seen.existing_temporary
        if not _is_copy_refused(temporary, stream) and seen.journal.copy_method.holds_only_copies(
            temporary, stream
        ):
            return False
        await self._delete(self.ref)
        return True

    # Back.

    async def restore_source(self, seen: StreamPair) -> None:
        """Open S again, resume its consumers, and delete T."""
        if seen.stream is not None:
            await self._restore(seen.stream, seen.journal if seen.temporary else None)
            await self._delete(self.temporary)

    async def restore_old_name(self, seen: StreamPair) -> None:
        """Delete S, if it was created; open the stream under its old name again and resume its consumers."""
        temporary, journal = seen.existing_temporary, seen.journal
        if seen.stream is not None:
            await self._delete(self.ref)
        await self._restore(temporary, journal)

    async def restore_and_update_source(self, seen: StreamPair) -> None:
        """Undo a migration that has only begun, and update S in its place: it need not be replaced any more."""
        await self.restore_source(seen)
        await self._update(self.ref, self.desired.config, "updating it")

    async def _restore(self, stream: LiveResource, journal: Journal | None) -> None:
        if journal is not None and stream.is_fenced:
            with contextlib.suppress(ApiError):  # deny_purge: then a mark stays
                await delete_end_markers(self.server, stream.ref)
        if journal is not None and (
            stream.is_fenced or consumer_limits.limits_differ(stream.config, journal.publish_config)
        ):
            await self._update(stream.ref, {**stream.config, **journal.publish_config}, "putting it back")
        noted = journal.consumer_positions if journal is not None else ConsumerPositions()
        noted = noted._replace(paused_until={**self.paused, **noted.paused_until})
        await consumers.resume_consumers(self.server, stream, noted, self.options)
        if journal is not None and journal.labels:  # the journal itself: last
            config = {**stream.config, **journal.publish_config, "metadata": journal.labels}
            await self._update(stream.ref, config, "putting it back")

    # Forward.

    async def adopt_old_stream(self, seen: StreamPair) -> None:
        """Make the old stream T: write the journal into its metadata."""
        temporary = seen.existing_temporary
        if await self.server.info(self.ref) is not None:
            raise PlanStale(Problem("stale", f"{self.ref} was created since the plan was made"))
        journal = Journal.create(temporary, self._copy_method, labels=temporary.metadata)
        config = {**temporary.config, "metadata": journal.metadata(self.desired, self.temporary)}
        await self._update(self.temporary, config, "noting what it was")

    async def create_temporary(self, seen: StreamPair) -> None:
        """Create T as a copy of S. Where acknowledging deletes, messages acknowledged meanwhile would come again: there, drain first.

        That is before T is created, or at least before it copies, where it can wait.
        """
        stream = seen.existing_stream
        await self._read_pauses(stream.ref)
        known = ConsumerPositions(configs=self.stopped, paused_until=self.paused)
        journal = Journal.create(stream, self._copy_method).with_positions(known)
        waits = journal.deletes_on_ack and journal.copy_method.can_defer
        if journal.deletes_on_ack and not waits:
            journal = journal.with_positions(
                await self._drain_consumers(self.ref, journal, stay_paused=False)
            )
        elif not journal.deletes_on_ack:  # S may be in memory, and die with its server while it is copied
            journal = replaced(journal, floors=await consumers.read_ack_floors(self.server, self.ref))
        config = stream.config_part(COPYABLE_FIELDS)
        config |= {
            "metadata": journal.metadata(self.desired, self.temporary),
            **journal.copy_method.source_config(self.ref, deferred=waits),
        }
        await self._lift_limits(stream)
        await self._create(
            self.temporary,
            config | self._size_limit(stream),
            # What is acknowledged meanwhile is missing anywhere in S, not at its beginning alone.
            is_empty if journal.deletes_on_ack else partial(journal.copy_method.holds_only_copies, stream),
        )

    async def drain_and_fence_source(self, seen: StreamPair) -> None:
        """Stop the consumers of S, record their positions and fence S; T is so near that this lasts milliseconds."""
        stream = seen.existing_stream
        noted = await self._save_pauses(stream.ref, seen.journal)
        if not noted.deletes_on_ack:
            await wait_until_nearly_complete(self.server, self.ref, self.temporary, noted.copy_method)
            await self._stop_consumers(stream, noted)
        elif copying.is_deferred(seen.existing_temporary):
            await self._stop_consumers(stream, noted)
            config = {**await self._temporary_config(), **noted.copy_method.source_config(self.ref)}
            await self._update(self.temporary, config, "beginning to copy")
        elif noted.with_positions(
            await self._drain_consumers(self.ref, noted, stay_paused=True)
        ) != noted and not self._may_redeliver(stream):
            await self._delete_temporary(noted)  # it has what was acknowledged since: once more
            self.stopped.update(noted.consumers)
            await self.create_temporary(seen)
            return
        elif stream.get("storage") == "memory":
            await self._save_journal(replaced(noted, still=True))
        if noted.deletes_on_ack:
            await wait_until_nearly_complete(self.server, self.ref, self.temporary, noted.copy_method)
        temporary = require_stream(await self.server.info(self.temporary))
        await self._fence_or_hand_over(stream, temporary, Journal.from_stream(temporary).ingest)

    async def open_temporary(self, seen: StreamPair) -> None:
        """Open T, once it has all that S has: it takes in what S did."""
        await wait_until_complete(self.server, self.ref, self.temporary, seen.journal.copy_method)
        await self._accept_publishes(seen.existing_temporary)

    async def continue_without_source(self, seen: StreamPair) -> None:
        """Open T after S has died with its server. A mirror has the sequences of S, and may have less than S had."""
        temporary, journal = seen.existing_temporary, seen.journal
        if journal.copy_method.keeps_numbers and journal.consumer_positions.positions:
            await self._save_journal(journal.capped_at(stream_counts(temporary).last_seq))
        await self.reopen_temporary(StreamPair(None, await self.server.info(self.temporary)))

    async def reopen_temporary(self, seen: StreamPair) -> None:
        """Let T take in again what S did: it has everything, and there is no S."""
        await self._accept_publishes(seen.existing_temporary)

    async def delete_source(self, seen: StreamPair) -> None:
        """Delete S. T is updated once more before: promoted on a full disk, it is still a mirror there (2.15.1)."""
        await self._carry_rest(seen.existing_stream, seen.existing_temporary, seen.journal)
        await self._update(self.temporary, seen.existing_temporary.config, "making sure of it")
        await self._delete(self.ref)

    async def create_target(self, seen: StreamPair) -> None:
        """Create the new S as a copy of T, as desired in all that cannot be changed later; purge from T what is acknowledged."""
        await self._lift_limits(seen.existing_temporary)
        await self._create_target(seen.existing_temporary, seen.journal)

    async def stop_consumers_and_create_target(self, seen: StreamPair) -> None:
        """Stop the consumers of the old stream, record their positions, and create S as a copy of it."""
        await self._lift_limits(seen.existing_temporary)
        journal = await self._stop_consumers(seen.existing_temporary, seen.journal)
        await self._create_target(seen.existing_temporary, journal)

    async def _create_target(self, temporary: LiveResource, journal: Journal) -> None:
        if self.desired.get("retention") == "workqueue" != journal.retention and journal.positions:
            lowest = min(position.first for position in journal.consumer_positions.positions.values())
            first = await self._position_in_temporary(journal, lowest)
            if first > 1:  # with 1 it is a purge of everything (measured 2.10.26 and 2.12.8, not 2.15.1)
                await self._purge_below(first)
                temporary = require_stream(await self.server.info(self.temporary))
        metadata = {OWNER_KEY: self.desired.owner, KIND_KEY: self.desired.metadata.get(KIND_KEY, "")}
        config = {
            **self._creation_config(journal.copy_method),
            "metadata": metadata,
            **journal.copy_method.source_config(self.temporary),
        }
        await self._create(
            self.ref,
            config | self._size_limit(temporary),
            partial(journal.copy_method.holds_only_copies, temporary),
        )

    async def fence_temporary(self, seen: StreamPair) -> None:
        """Fence T, once S has nearly all of it. An S that the manifest no longer wants is deleted, and created anew."""
        method = seen.journal.copy_method
        if not self._is_compatible(seen.existing_stream, method):
            await self._delete(self.ref)
            return
        await wait_until_nearly_complete(self.server, self.temporary, self.ref, method)
        await self._fence_or_hand_over(seen.existing_temporary, seen.existing_stream, self._target_ingest)

    async def open_target(self, seen: StreamPair) -> None:
        """Let S take messages in, still without limits, once it has all that T has. One that the manifest no longer wants is created anew."""
        stream, method = seen.existing_stream, seen.journal.copy_method
        if not self._is_compatible(stream, method):
            await self._delete(self.ref)
            return
        await wait_until_complete(self.server, self.temporary, self.ref, method)
        await self._accept_with_message_ids(stream, self._target_ingest)

    async def finish(self, seen: StreamPair) -> None:
        """Finish: create the placeholders, then set the limits of S, which deletes what nobody waits for."""
        stream, journal = seen.existing_stream, seen.journal
        if not self._is_compatible(stream, journal.copy_method):
            raise ServerFault(changed_meanwhile_problem(self.desired))
        await self._carry_rest(seen.existing_temporary, stream, journal)
        if APPLIED_KEY not in stream.metadata:
            await delete_end_markers(self.server, self.ref)
            last, noted = stream_counts(stream).last_seq, await self._consumer_positions(journal)
            await consumers.create_placeholders(
                self.server, self.desired, self.consumers_after, noted, last=last
            )
        await consumer_limits.fit_placeholders(self.server, stream, self.desired)
        await self._update(self.ref, self.desired.config, "completing it")
        await self._delete(self.temporary)

    # What steps are made of.

    async def _stop_consumers(self, stream: LiveResource, journal: Journal) -> Journal:
        """Stop all consumers, and record their positions in T's journal."""
        journal = await self._save_pauses(stream.ref, journal)
        paused = strategy_for(self.options.version).pauses
        if not paused:
            journal = await self._save_journal(
                journal.with_positions(await consumers.as_served(self.server, stream.ref, self.options))
            )
            await consumers.ensure_consumers_stoppable(self.server, stream.ref, self.options)
        # What is not paused goes on until it is stopped: work that ends by then ends after that.
        options = self.options if paused else replaced(self.options, drain_timeout=0)
        journal = journal.with_positions(
            await self._drain_consumers(stream.ref, journal, stay_paused=True, options=options)
        )
        journal = await self._save_journal(replaced(journal, still=paused))
        if not paused:
            await consumers.stop_consumers(self.server, stream.ref, self.options)
            journal = journal.with_positions(
                await self._drain_consumers(stream.ref, journal, stay_paused=True)
            )
            journal = await self._save_journal(replaced(journal, still=True))
        return journal

    async def _delete_temporary(self, journal: Journal) -> None:
        """Delete T. First write what only its journal knew back to the consumers: nobody else would know if we died now."""
        await consumers.restore_manual_pauses(self.server, self.ref, journal.paused)
        await self._delete(self.temporary)

    async def _save_pauses(self, stream: Ref, journal: Journal) -> Journal:
        """Record in T's journal which consumers somebody has paused, before we pause them."""
        await self._read_pauses(stream)
        noted = journal.with_positions(ConsumerPositions(paused_until=self.paused))
        return journal if noted == journal else await self._save_journal(noted)

    async def _read_pauses(self, stream: Ref) -> None:
        """Read which consumers somebody has paused, before we pause any; what was read first holds."""
        seen = await consumers.read_manual_pauses(self.server, stream)
        for name, until in seen.paused_until.items():
            self.paused.setdefault(name, until)

    def _may_redeliver(self, stream: LiveResource) -> bool:
        return any(
            self.options.allowed_redeliveries.get(Ref(stream.ref.stream, name))
            for name in self.consumers_after
        )

    async def _save_journal(self, journal: Journal) -> Journal:
        config = {
            **await self._temporary_config(),
            "metadata": journal.metadata(self.desired, self.temporary),
        }
        await self._update(self.temporary, config, "noting its consumers")
        return journal

    async def _temporary_config(self) -> Config:
        """Return T's configuration as it is now: it may have changed since it was read."""
        return copying.require_stream(await self.server.info(self.temporary)).config

    async def _accept_publishes(self, copy: LiveResource) -> None:
        """Let T take in what S did."""
        await self._accept_with_message_ids(copy, Journal.from_stream(copy).ingest)

    @property
    def _target_ingest(self) -> Config:
        return self.desired.config_part(INGEST_FIELDS)

    def _opened(self, copy: LiveResource, ingest: Config) -> Config:
        """Return the configuration of the copy as a stream that takes messages in like this."""
        rest = copying.without_copy_fields(copy.config)
        if copy.ref == self.temporary:  # which has nothing of its own
            rest = {name: value for name, value in rest.items() if name not in INGEST_FIELDS}
        return {**rest, **ingest}

    async def _accept_with_message_ids(self, copy: LiveResource, ingest: Config) -> None:
        """Let the copy take messages in, and store the message ids of those that T has, where that can be."""
        unknown = message_ids.are_ids_unknown(copy, ingest)
        admitted = message_ids.config_with_id_subjects(copy.ref, ingest) if unknown else ingest
        await self._update(copy.ref, self._opened(copy, admitted), "opening it")
        if unknown:
            try:
                await message_ids.store_message_ids(self.server, copy.ref, self.temporary, ingest)
            except ServerFault as fault:  # all that follows is the same
                why = fault.problems[0].message
                self.options.on_wait(f"{self.ref}: a message that is sent again may be stored twice: {why}")

    async def _consumer_positions(self, journal: Journal) -> ConsumerPositions:
        """Return where the consumers shall stand in the new S: two hops from where they stood in the old one, or one.

        Nothing is open behind those that stand where messages get other numbers.
        """
        noted, places = journal.consumer_positions, {}
        for following in {position.next for position in noted.positions.values()}:
            between = await self._position_in_temporary(journal, following)
            places[following] = await journal.copy_method.map_sequence(
                self.server, self.ref, self.temporary, between
            )
        return noted._replace(
            positions={
                name: position._replace(next=places[position.next])
                for name, position in noted.positions.items()
            }
        )

    async def _position_in_temporary(self, journal: Journal, position: int) -> int:
        """Return where a consumer of the old stream would stand in T."""
        if self.is_rename:
            return position
        return await journal.copy_method.map_sequence(self.server, self.temporary, self.ref, position)

    @property
    def _both_streams(self) -> tuple[Ref, Ref]:
        return self.ref, self.temporary

    @property
    def _owner(self) -> str:
        return self.desired.owner or ""

    async def _drain_consumers(
        self, stream: Ref, journal: Journal, *, stay_paused: bool, options: ApplyOptions | None = None
    ) -> ConsumerPositions:
        """Drain the consumers, and return their positions. What they gave up, which no position tells, is kept unless it stays where it is called."""
        await strategy_for(self.options.version).listen(self.server, stream, self.options)
        found = await consumers.drain_consumers(
            self.server,
            stream,
            self.consumers_after,
            options or self.options,
            stay_paused=stay_paused,
            renumbered=not journal.copy_method.keeps_numbers,
            target=self.desired.config,
        )
        is_told = journal.retention != "workqueue" and self.desired.get("retention") == "limits"
        stays = is_told and self._copy_method.keeps_numbers
        if self.is_rename or not stays:
            await self.options.archive_dead_letters(stream, self.ref)
        return found

    @property
    def _copy_method(self) -> CopyMethod:
        return copying.copy_method_for(self.options.version)

    async def _fence_or_hand_over(self, origin: LiveResource, copy: LiveResource, ingest: Config) -> None:
        """Fence the origin. Where nobody can send again what nobody takes in, open the copy with the same write.

        That is DEAD_LETTERS: the server sends a notice once. The copy may lack what the origin took in last; `_carry_rest` has it.
        """
        journal = Journal.from_stream(origin if origin.ref == self.temporary else copy)
        following = None
        if self._is_told_once(journal) and not message_ids.are_ids_unknown(copy, ingest):
            following = await next_number_if_complete(self.server, origin.ref, copy.ref, journal.copy_method)
        noted = replaced(journal, handed_over=following or 0).metadata(self.desired, self.temporary)
        fenced = self._with_journal(Resource(origin.ref, self._fenced(origin)), noted)
        if following is None:
            await self._update(origin.ref, fenced.config, "parking it")
            return
        opened = self._with_journal(Resource(copy.ref, self._opened(copy, ingest)), noted)
        for ref in self._both_streams:
            await self._save_backup(ref)
        doing = f"moving {self.ref}: handing over to {copy.ref}"
        await update_streams_together(self.server, [fenced, opened], doing)

    def _with_journal(self, stream: Resource, noted: Mapping[str, str]) -> Resource:
        """Return the stream with this journal, if it is T."""
        if stream.ref != self.temporary:
            return stream
        return Resource(stream.ref, {**stream.config, "metadata": noted})

    def _is_told_once(self, journal: Journal) -> bool:
        kind = self.desired.metadata.get(KIND_KEY)
        return (
            kind == StreamKind.DEAD_LETTERS and journal.retention == self.desired.get("retention") == "limits"
        )

    async def _carry_rest(self, origin: LiveResource, copy: LiveResource, journal: Journal) -> None:
        """Store in the open copy what its fenced origin took in after `_fence_or_hand_over` had looked."""
        if journal.handed_over:
            if self.notices is not None:
                await self.notices.store([copy.ref])
            await wait_until_still(self.server, origin.ref)
            keeps_numbers = journal.copy_method.keeps_numbers
            await advisories.store_rest(
                self.server, origin.ref, copy, journal.handed_over, keeps_numbers=keeps_numbers
            )

    def _fenced(self, stream: LiveResource) -> Config:
        """Return its configuration as it takes in nothing but end markers, which its limits do not count: else one would displace the oldest message."""
        unlimited = {
            name: -1 for name in LIMIT_FIELDS if name != "max_bytes" or not self.options.max_bytes_required
        }
        return {**fenced_config(stream), **unlimited}

    def _creation_config(self, method: CopyMethod) -> dict[str, Any]:
        names = (*COPYABLE_FIELDS, *FIXED_FIELDS, *method.creation_fields)
        config = self.desired.config_part(names)
        return config | ({"retention": "limits"} if config["retention"] == "interest" else {})

    def _size_limit(self, origin: LiveResource) -> dict[str, Any]:
        """Return the limit that a copy has where the account asks for one: beyond what it is going to hold. Full all the same, it forgets nothing: it stops."""
        if not self.options.max_bytes_required:
            return {}
        known = origin.get("max_bytes") if origin.ref == temporary_stream(self.ref) else -1
        return {"max_bytes": known if known > 0 else copy_max_bytes(origin, self.desired), "discard": "new"}

    def _is_compatible(self, stream: LiveResource, method: CopyMethod) -> bool:
        """Return whether S, as it was created, can become what the manifest wants now."""
        return can_become(stream, self.desired, method.name)

    async def _purge_below(self, first: int) -> None:
        """Purge from T the messages before `first`."""

        async def holds() -> bool:
            return stream_counts(require_stream(await self.server.info(self.temporary))).first_seq >= first

        verb, doing = f"STREAM.PURGE.{self.temporary}", f"leaving out what is worked in {self.ref}"
        await write_once(self.server, verb, {"seq": first}, doing=doing, holds=holds)

    async def _create(
        self, ref: Ref, config: Config, has_begun_empty: Callable[[LiveResource], bool]
    ) -> None:
        body = {"storage": "file", "retention": "limits", "allow_rollup_hdrs": True, **config}
        body |= {"name": ref.stream}
        wanted = Resource(ref, body)
        await create_empty(self.server, wanted, f"moving {self.ref}: creating {ref}", has_begun_empty)

    async def _update(self, ref: Ref, config: Config, what: str) -> None:
        await self._save_backup(ref)
        await update_stream(self.server, Resource(ref, config), f"moving {self.ref}: {what}")

    async def _save_backup(self, ref: Ref) -> None:
        """Save a backup of the stream: a server that is killed while it updates it forgets it."""
        await self.options.stream_backups.save(self.server, self._owner, ref)

    async def _lift_limits(self, origin: LiveResource) -> None:
        if consumer_limits.prevent_copying(origin):
            await self._save_backup(origin.ref)
            await consumer_limits.lift_limits(self.server, origin)

    async def _delete(self, ref: Ref) -> None:
        await self.options.stream_backups.discard(self.server, self._owner, ref)
        await delete(self.server, ref, f"moving {self.ref}: deleting {ref}")


def _is_copy_refused(origin: LiveResource, copy: LiveResource) -> bool:
    """Return whether the server has refused to copy the origin, because of its limits: the copy would ask again only after a while."""
    return consumer_limits.prevent_copying(origin) and is_empty(copy) and not is_empty(origin)
