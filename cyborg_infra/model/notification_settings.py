"""Who is told of alarms, and when, as the manifest says it. Times are unix seconds by the clock of whoever tells."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, tzinfo
from typing import Any

from cyborg_infra.model.problems import SourcePosition
from cyborg_infra.model.units import HOUR, SECOND
from cyborg_infra.model.valueclass import NamedTuple


class ReceiverSource(NamedTuple):
    """A receiver of notifications, as the manifest or an option names it: where its URL is, and never a URL with a secret in it."""

    name: str
    env: str = ""  # the environment variable that has the URL
    file: str = ""  # the file that has it
    url: str = ""  # the URL itself: of a webhook without credentials
    mark: SourcePosition | None = None


class QuietHours(NamedTuple):
    """The part of each day, by the clock of `timezone`, in which only what is urgent is told; it may go over midnight."""

    begin: time
    end: time
    timezone: tzinfo
    urgent: frozenset[str] = frozenset()  # codes of alarms that are told all the same

    def holds_back(self, code: str, now: float) -> bool:
        """Return whether an alarm of this code has to wait until these hours are over."""
        at = datetime.fromtimestamp(now, self.timezone).time()
        night = self.begin > self.end
        inside = (at >= self.begin or at < self.end) if night else self.begin <= at < self.end
        return inside and code not in self.urgent


class NotificationSettings(NamedTuple):
    """Who is told, and when. `repeat` in seconds: an alarm that still holds is told again after it; 0 is never."""

    receivers: tuple[ReceiverSource, ...] = ()
    repeat: float = 4 * HOUR / SECOND
    quiet: QuietHours | None = None


NotificationOverrides = Mapping[str, Any]
"""What one layer says of it, by the names in NotificationSettings. Each of a later layer wins as a whole."""
