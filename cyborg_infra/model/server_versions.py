"""Versions of nats-server, and what it can do or does otherwise since which one, with the test that holds it."""

from __future__ import annotations

import re
from enum import Enum

from cyborg_infra.model.valueclass import NamedTuple

_VERSION = r"v?([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})(?:[-+].*)?"


class Version(NamedTuple):
    """A server version; compares as versions do."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @classmethod
    def parse(cls, text: str) -> Version:
        """Return `2.15.1`, also with a leading v or a pre-release suffix. Raises ValueError for anything else."""
        found = re.fullmatch(_VERSION, text)
        if found is None:
            raise ValueError(f"{text[:40]!r} is no version of a server, such as 2.15.1")
        return cls(int(found[1]), int(found[2]), int(found[3]))


# JetStream's API level (`$JS.API.INFO`, api.level) and the first version that answers with it.
LEVELS = {
    0: Version(2, 10, 0),
    1: Version(2, 11, 0),
    2: Version(2, 12, 0),
    3: Version(2, 12, 5),
    4: Version(2, 14, 0),
    5: Version(2, 15, 0),
}
OLDEST = LEVELS[0]
NEWEST_LEVEL = max(LEVELS)


def level_of(version: Version) -> int:
    """Return the API level that a server of this version answers with."""
    return max(level for level, first in LEVELS.items() if first <= version or level == 0)


def forgets_updated_streams(version: Version) -> bool:
    """Return whether a server of a cluster that is killed forgets streams that were updated within the last minute.

    Measured on 2.11.10, 2.11.11 and 2.12.2; not so on 2.10.26 and 2.12.8. The versions between by their source.
    """
    return Version(2, 11, 10) <= version < Version(2, 12, 0) or Version(2, 12, 1) <= version < Version(
        2, 12, 3
    )


_FIELDS = "tests/server/plan/test_fields.py::test_a_change_does_what_the_row_says"
_PREDICTIONS = "tests/predictions/test_predictions.py::test_what_is_called_applicable_is_taken_and_kept_and_what_is_refused_is_refused"


class Capability(Enum):
    """What servers can do, or do otherwise: since which version, and the test that holds it.

    What comes with a field of a configuration stands in the table of fields, what a rule forbids in that of constraints.
    """

    says: str
    since: Version
    measured_by: str  # a test, `path::name`; or the page that says how it was measured once

    # fmt: off
    PAUSE_CONSUMER = "pause a consumer", LEVELS[1], "tests/server/plan/test_hazard_counts.py::test_a_consumer_replaced_on_a_server_that_cannot_pause_it"
    PROMOTE_MIRROR = "turn a mirror into a stream, with its sequence numbers", LEVELS[2], _FIELDS
    RESET_CONSUMER = "move a consumer to a sequence number", LEVELS[4], "tests/server/plan/test_hazard_counts.py::test_a_later_start_by_time"
    PURGE_WHAT_NOBODY_WAITS_FOR = "purge a stream without consumers that turns to interest; before, it keeps all", Version(2, 15, 0), "tests/server/plan/test_hazard_counts.py::test_interest_without_any_consumer_keeps_nothing"
    KEEP_CONSUMER_STATE_WHEN_MOVED = "move a consumer to another server with what it knows; one of 2.10.26 may begin again", Version(2, 11, 0), "docs/decisions/0019-moves-before-2.11.md"
    ADVISE_OF_LOWERED_MAX_DELIVER = "send MAX_DELIVERIES when a lowered max_deliver drops a message", Version(2, 15, 1), "tests/server/dead_letters/test_dead_letters.py::test_the_plan_tells_whether_a_lowered_max_deliver_makes_dead_letters"
    # In clusters of three: 2.11.11 answers it with 10158, and 2.10.26 with `duplicate`, though it was never stored.
    FORGET_ID_OF_REFUSED_MESSAGE = "forget the id of a refused message also in a stream with replicas", Version(2, 12, 0), "tests/server/cluster/test_messages.py::test_what_a_full_role_refused_is_never_said_to_be_stored"
    TELL_CONSUMERS_OF_RETENTION = "tell consumers that the retention of their stream becomes limits", Version(2, 11, 0), "docs/decisions/0015-replacing-a-stream.md"
    ENABLE_MSG_TTL_LATER = "enable allow_msg_ttl of a living stream", Version(2, 11, 2), _FIELDS
    UPDATE_MAX_CONSUMERS = "change max_consumers of a living stream", Version(2, 12, 5), _FIELDS
    REFUSE_OTHER_MEM_STORAGE = "refuse another mem_storage of a living consumer", Version(2, 14, 4), "tests/server/plan/test_fields.py::test_mem_storage_of_a_living_consumer_changes_nothing"
    LIST_TRANSFORM_FUNCTIONS = "hold a stream's own and a mirror's transforms to the list of functions", Version(2, 11, 0), _PREDICTIONS
    NARROW_TRANSFORM_NUMBERS = "hold the second argument of a transform's function to 32 bits", Version(2, 11, 0), _PREDICTIONS
    SHORT_PARTITION = "take random(n), and partition(n) without positions; both also where src has no wildcard", Version(2, 12, 0), _PREDICTIONS
    LIST_LEFT_AND_RIGHT = "take left and right where transforms are held to the list", Version(2, 15, 0), _PREDICTIONS
    CHECK_EVERY_SOURCE = "hold the sources of another account to all rules as well", Version(2, 12, 0), _PREDICTIONS
    REFUSE_SLASHES_IN_ORIGIN = "refuse / and \\ in the name of an origin", Version(2, 12, 8), _PREDICTIONS
    # fmt: on

    def __init__(self, says: str, since: Version, measured_by: str) -> None:
        self.says = says
        self.since = since
        self.measured_by = measured_by
