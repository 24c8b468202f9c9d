"""The stages of a stream's migration, each told from the two living streams alone.

S is the stream that is migrated: the source, and later the target, which has the same name. T is the temporary
stream; of a rename it is the source under its old name, and S the target under its new one.
"""

from __future__ import annotations

from enum import Enum, auto

from cyborg_infra.live.api.copying import require_stream
from cyborg_infra.live.records.journal import Journal, has_begun
from cyborg_infra.model.ref import TEMPORARY_PREFIX
from cyborg_infra.model.resources import LiveResource, stream_counts
from cyborg_infra.model.valueclass import NamedTuple


class MigrationStage(Enum):
    """How far a migration has come; what is to be done next is in `live.execute.migrate.transitions`."""

    NOT_STARTED = auto()  # there is no T
    COPYING_OUT = auto()  # T is a copy of S
    SOURCE_FENCED = auto()  # S takes nothing in; T is a copy of it
    SOURCE_LOST = auto()  # S is gone, as with its server; T is a copy of it still
    TEMPORARY_OPEN = auto()  # T takes in what S did; S is fenced
    SOURCE_DELETED = auto()  # T takes in what S did; there is no S
    COPYING_BACK = auto()  # T takes in what S did; S is new, and a copy of it
    TEMPORARY_FENCED = auto()  # T takes nothing in; S is a copy of it
    TARGET_LOST = auto()  # T takes nothing in; there is no S
    TARGET_OPEN = auto()  # S takes messages in; T takes nothing in any more

    NOT_ADOPTED = auto()  # T is the old stream, and has no journal
    RENAME_STARTED = auto()  # T is the old stream, with a journal; there is no S
    RENAME_COPYING = auto()  # S is a copy of T
    RENAME_FENCED = auto()  # T takes nothing in; S is a copy of it
    RENAME_TARGET_LOST = auto()  # T takes nothing in; there is no S


class StreamPair(NamedTuple):
    """S and T as they are now, or None where there is none."""

    stream: LiveResource | None
    temporary: LiveResource | None

    @property
    def existing_stream(self) -> LiveResource:
        """S, which has to be there. Raises ServerFault."""
        return require_stream(self.stream)

    @property
    def existing_temporary(self) -> LiveResource:
        """T, which has to be there. Raises ServerFault."""
        return require_stream(self.temporary)

    @property
    def journal(self) -> Journal:
        """What T remembers of the migration. Raises ServerFault if nobody can go on from it."""
        return Journal.from_stream(self.existing_temporary)

    @property
    def stage(self) -> MigrationStage:
        """How far the migration has come."""
        stream, temporary = self.stream, self.temporary
        if temporary is None:
            return MigrationStage.NOT_STARTED
        if not has_begun(temporary):
            return MigrationStage.NOT_ADOPTED
        if temporary.is_copy:
            return _stage_out(stream)
        if stream is None or stream.is_copy:
            return _stage_back(stream, temporary)
        return MigrationStage.TEMPORARY_OPEN if stream.is_fenced else MigrationStage.TARGET_OPEN

    @property
    def is_copy_ahead(self) -> bool:
        """Whether the mirror has more than its fenced origin. Promoted on a full disk, it took messages in until a restart (2.15.1)."""
        stream, temporary = self.stream, self.temporary
        if stream is None or temporary is None:
            return False
        if ("mirror" in stream.config) == ("mirror" in temporary.config):
            return False
        mirror, origin = (temporary, stream) if "mirror" in temporary.config else (stream, temporary)
        return origin.is_fenced and stream_counts(mirror).last_seq > stream_counts(origin).last_seq


def _stage_out(source: LiveResource | None) -> MigrationStage:
    """Return the stage while T is a copy."""
    if source is None:
        return MigrationStage.SOURCE_LOST
    return MigrationStage.SOURCE_FENCED if source.is_fenced else MigrationStage.COPYING_OUT


def _stage_back(target: LiveResource | None, temporary: LiveResource) -> MigrationStage:
    """Return the stage while T has everything, and S is a copy of it or does not exist."""
    is_rename = not temporary.ref.stream.startswith(TEMPORARY_PREFIX)
    if target is None and temporary.is_fenced:
        return MigrationStage.RENAME_TARGET_LOST if is_rename else MigrationStage.TARGET_LOST
    if target is None:
        return MigrationStage.RENAME_STARTED if is_rename else MigrationStage.SOURCE_DELETED
    if temporary.is_fenced:
        return MigrationStage.RENAME_FENCED if is_rename else MigrationStage.TEMPORARY_FENCED
    return MigrationStage.RENAME_COPYING if is_rename else MigrationStage.COPYING_BACK
