"""The migration of a stream as one table: what is true at each stage, how it goes on, and how it goes back.

Nothing is kept on the machine that applies: what has to be remembered is in T's metadata (`live.records.journal`), and
the stage follows from the two living streams alone (`stages`). `migration` goes through this table from wherever a
migration stands. Up to SOURCE_FENCED S has everything, and a fault undoes the migration; from TEMPORARY_OPEN on T has,
and the next apply goes on. Of a rename the old stream has everything until S is open, and a fault undoes it until then.
Publishers are refused, and know it, only between a fence and the opening that follows. DEAD_LETTERS, to which the server
sends a notice once, is fenced and its copy opened by one write, and what the copy lacks is carried over afterwards.

`tests/server/migrate/test_transitions.py` holds every column on real servers: a row that is added is tested as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum

from cyborg_infra.live.execute.migrate.stages import MigrationStage, StreamPair
from cyborg_infra.live.execute.migrate.steps import Migration
from cyborg_infra.model.valueclass import NamedTuple

Step = Callable[[Migration, StreamPair], Awaitable[None]]
Recheck = Callable[[Migration, StreamPair], Awaitable[bool]]


class MigratedStream(Enum):
    """Which of the two streams: S, or T."""

    STREAM = "S"
    TEMPORARY = "T"


class ConsumersAt(Enum):
    """Where the consumers are."""

    SERVED = "they are served on the source"
    HELD = "they stand still on the source, and their positions are in the journal"
    RECORDED = "their positions are in the journal, and nobody is served"


class Transition(NamedTuple):
    """One stage: what is true then, the step forward, and the step back or why there is none."""

    forward: Step
    leads_to: tuple[MigrationStage | None, ...]  # the stage after the step; None: the migration has ended
    undo: Step | str
    messages_in: MigratedStream  # who has every message that was acknowledged to a publisher
    # Who takes in what is published; None: publishers are refused, and know it.
    publishes_to: MigratedStream | None
    consumers: ConsumersAt
    # Before a run that finds the stage goes on from it; true: it is another one now.
    recheck: Recheck | None = None
    unneeded: Step | None = None  # instead of `forward`, if the stream need not be replaced any more
    # Where the migration stands if S is lost, where that is a stage of its own.
    without_stream: MigrationStage | None = None


NOTHING_CHANGED = "nothing has been changed"
SOURCE_GONE = "the source is gone"
TEMPORARY_AHEAD = "the temporary stream takes in what the source does not have"
TARGET_AHEAD = "the target takes in what the other stream does not have"

# fmt: off
TRANSITIONS: Mapping[MigrationStage, Transition] = {
    MigrationStage.NOT_STARTED: Transition(
        forward=Migration.create_temporary,
        leads_to=(MigrationStage.COPYING_OUT,),
        undo=Migration.restore_source,
        messages_in=MigratedStream.STREAM, publishes_to=MigratedStream.STREAM, consumers=ConsumersAt.SERVED,
    ),
    MigrationStage.COPYING_OUT: Transition(
        forward=Migration.drain_and_fence_source,
        leads_to=(MigrationStage.SOURCE_FENCED, MigrationStage.TEMPORARY_OPEN, MigrationStage.COPYING_OUT),
        undo=Migration.restore_source,
        messages_in=MigratedStream.STREAM, publishes_to=MigratedStream.STREAM, consumers=ConsumersAt.SERVED,
        recheck=Migration.discard_temporary_if_unusable,
        unneeded=Migration.restore_and_update_source,
    ),
    MigrationStage.SOURCE_FENCED: Transition(
        forward=Migration.open_temporary,
        leads_to=(MigrationStage.TEMPORARY_OPEN,),
        undo=Migration.restore_source,
        messages_in=MigratedStream.STREAM, publishes_to=None, consumers=ConsumersAt.HELD,
        unneeded=Migration.restore_and_update_source,
        without_stream=MigrationStage.SOURCE_LOST,
    ),
    MigrationStage.SOURCE_LOST: Transition(
        forward=Migration.continue_without_source,
        leads_to=(MigrationStage.SOURCE_DELETED,),
        undo=SOURCE_GONE,
        messages_in=MigratedStream.TEMPORARY, publishes_to=None, consumers=ConsumersAt.RECORDED,
    ),
    MigrationStage.TEMPORARY_OPEN: Transition(
        forward=Migration.delete_source,
        leads_to=(MigrationStage.SOURCE_DELETED,),
        undo=TEMPORARY_AHEAD,
        messages_in=MigratedStream.TEMPORARY, publishes_to=MigratedStream.TEMPORARY, consumers=ConsumersAt.RECORDED,
    ),
    MigrationStage.SOURCE_DELETED: Transition(
        forward=Migration.create_target,
        leads_to=(MigrationStage.COPYING_BACK,),
        undo=SOURCE_GONE,
        messages_in=MigratedStream.TEMPORARY, publishes_to=MigratedStream.TEMPORARY, consumers=ConsumersAt.RECORDED,
    ),
    MigrationStage.COPYING_BACK: Transition(
        forward=Migration.fence_temporary,
        leads_to=(MigrationStage.TEMPORARY_FENCED, MigrationStage.TARGET_OPEN, MigrationStage.SOURCE_DELETED),
        undo=SOURCE_GONE,
        messages_in=MigratedStream.TEMPORARY, publishes_to=MigratedStream.TEMPORARY, consumers=ConsumersAt.RECORDED,
        recheck=Migration.discard_target_if_unusable,
    ),
    MigrationStage.TEMPORARY_FENCED: Transition(
        forward=Migration.open_target,
        leads_to=(MigrationStage.TARGET_OPEN, MigrationStage.TARGET_LOST),
        undo=SOURCE_GONE,
        messages_in=MigratedStream.TEMPORARY, publishes_to=None, consumers=ConsumersAt.RECORDED,
        recheck=Migration.discard_target_if_unusable,
        without_stream=MigrationStage.TARGET_LOST,
    ),
    MigrationStage.TARGET_LOST: Transition(
        forward=Migration.reopen_temporary,
        leads_to=(MigrationStage.SOURCE_DELETED,),
        undo=SOURCE_GONE,
        messages_in=MigratedStream.TEMPORARY, publishes_to=None, consumers=ConsumersAt.RECORDED,
    ),
    MigrationStage.TARGET_OPEN: Transition(
        forward=Migration.finish,
        leads_to=(None,),
        undo=TARGET_AHEAD,
        messages_in=MigratedStream.STREAM, publishes_to=MigratedStream.STREAM, consumers=ConsumersAt.RECORDED,
    ),
    # A rename: T is the old stream.
    MigrationStage.NOT_ADOPTED: Transition(
        forward=Migration.adopt_old_stream,
        leads_to=(MigrationStage.RENAME_STARTED,),
        undo=NOTHING_CHANGED,
        messages_in=MigratedStream.TEMPORARY, publishes_to=MigratedStream.TEMPORARY, consumers=ConsumersAt.SERVED,
    ),
    MigrationStage.RENAME_STARTED: Transition(
        forward=Migration.stop_consumers_and_create_target,
        leads_to=(MigrationStage.RENAME_COPYING,),
        undo=Migration.restore_old_name,
        messages_in=MigratedStream.TEMPORARY, publishes_to=MigratedStream.TEMPORARY, consumers=ConsumersAt.SERVED,
    ),
    MigrationStage.RENAME_COPYING: Transition(
        forward=Migration.fence_temporary,
        leads_to=(MigrationStage.RENAME_FENCED, MigrationStage.TARGET_OPEN, MigrationStage.RENAME_STARTED),
        undo=Migration.restore_old_name,
        messages_in=MigratedStream.TEMPORARY, publishes_to=MigratedStream.TEMPORARY, consumers=ConsumersAt.HELD,
        recheck=Migration.discard_target_if_unusable,
    ),
    MigrationStage.RENAME_FENCED: Transition(
        forward=Migration.open_target,
        leads_to=(MigrationStage.TARGET_OPEN, MigrationStage.RENAME_TARGET_LOST),
        undo=Migration.restore_old_name,
        messages_in=MigratedStream.TEMPORARY, publishes_to=None, consumers=ConsumersAt.HELD,
        recheck=Migration.discard_target_if_unusable,
        without_stream=MigrationStage.RENAME_TARGET_LOST,
    ),
    MigrationStage.RENAME_TARGET_LOST: Transition(
        forward=Migration.reopen_temporary,
        leads_to=(MigrationStage.RENAME_STARTED,),
        undo=Migration.restore_old_name,
        messages_in=MigratedStream.TEMPORARY, publishes_to=None, consumers=ConsumersAt.HELD,
    ),
}
# fmt: on
