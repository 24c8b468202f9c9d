"""What has been told, and what has still to be told to whom: in a file, so that a monitor that was killed goes on where it was.

A message is written here before anybody is told, together with what it follows from, and leaves a receiver's queue once
that has taken it. So a kill loses nothing, and tells twice what a receiver took a moment before and nobody had written down yet.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cyborg_infra.model.notifications import Episode, Message, NotificationKind
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.status import Alarm, Condition

MAX_WAITING = 100
"""So many messages wait for one receiver. Beyond that the oldest goes which another receiver has, or which is no dead letter's."""
MAX_LETTERS_REMEMBERED = 20_000
"""So many dead letters that were told are remembered, the newest."""

_FORMAT = 1
_TABLES = """
CREATE TABLE organisation (name TEXT NOT NULL);
CREATE TABLE episodes (code TEXT, role TEXT, about TEXT, state TEXT NOT NULL, PRIMARY KEY (code, role, about));
CREATE TABLE messages (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL,
  severity TEXT NOT NULL, letters TEXT NOT NULL, taken INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE waiting (number INTEGER, receiver TEXT, PRIMARY KEY (receiver, number));
CREATE TABLE told (letter TEXT PRIMARY KEY, at REAL NOT NULL);
"""


class Outbox:
    """The messages that wait for each receiver, oldest first, and what is remembered of what was told."""

    def __init__(self, path: str, org: str, receivers: Sequence[str]) -> None:
        """Open the file, or make it; an empty path is memory. Raises UsageInvalid for a file that is in use, or of something else."""
        self._path = path
        self._receivers = tuple(receivers)
        try:
            self._db = sqlite3.connect(path or ":memory:", timeout=0, isolation_level=None)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA synchronous = FULL")
            with self._transaction():
                self._prepare(org)
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def close(self) -> None:
        """Leave the file to others."""
        self._db.close()

    def _prepare(self, org: str) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found == 0 and not self._db.execute("SELECT name FROM sqlite_master").fetchone():
            for statement in _TABLES.strip().split(";\n"):
                self._db.execute(statement.removesuffix(";"))
            self._db.execute("INSERT INTO organisation VALUES (?)", (org,))
            self._db.execute(f"PRAGMA user_version = {_FORMAT}")
        elif found != _FORMAT:
            raise sqlite3.DatabaseError(f"format {found}")
        (whose,) = self._db.execute("SELECT name FROM organisation").fetchone()
        if whose != org:
            hint = "give each organisation a file of its own"
            raise UsageInvalid(
                Problem("bad-state", f"{self._path} is of the organisation {whose}", None, hint)
            )
        # Whoever is told no more takes nothing more; what nobody else was told of is read again.
        self._db.execute(
            "DELETE FROM waiting WHERE receiver NOT IN (SELECT value FROM json_each(?))",
            (json.dumps(self._receivers),),
        )
        self._drop_finished()

    def _unusable(self, error: sqlite3.Error) -> UsageInvalid:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            hint = "each monitor needs a file of its own"
            return UsageInvalid(Problem("state-in-use", f"another monitor uses {self._path}", None, hint))
        hint = "name another file, or move this one away: alarms that last are told again then"
        reason = (
            "it is no state of a monitor"
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
            else str(error)
        )
        return UsageInvalid(Problem("bad-state", f"{self._path} cannot be used: {reason}", None, hint))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # What was told of alarms.

    def episodes(self) -> dict[tuple[Condition, str, str], Episode]:
        """Return what is remembered of the alarms."""
        rows = self._db.execute("SELECT code, role, about, state FROM episodes")
        return {
            (_CODES[code], role, about): _episode(Alarm(_CODES[code], "", role, about), json.loads(state))
            for code, role, about, state in rows
            if code in _CODES
        }

    def put(
        self,
        messages: Iterable[Message],
        episodes: Mapping[tuple[Condition, str, str], Episode] | None = None,
    ) -> None:
        """Write down the messages, for all receivers that they are for, and what they follow from."""
        with self._transaction():
            for message in messages:
                self._put(message)
            if episodes is not None:
                self._db.execute("DELETE FROM episodes")
                self._db.executemany(
                    "INSERT INTO episodes VALUES (?, ?, ?, ?)",
                    [(*map(str, key), json.dumps(_state(episode))) for key, episode in episodes.items()],
                )

    def _put(self, message: Message) -> None:
        if not (to := [name for name in self._receivers if name != message.about]):
            return
        row = (message.id, message.title, message.body, message.severity.value, json.dumps(message.letters))
        added = self._db.execute(
            "INSERT INTO messages (id, title, body, severity, letters) VALUES (?, ?, ?, ?, ?)", row
        )
        for name in to:
            self._db.execute("INSERT INTO waiting VALUES (?, ?)", (added.lastrowid, name))
            self._make_room(name)
        self._drop_finished()

    def _make_room(self, receiver: str) -> None:
        if self.waiting(receiver) > MAX_WAITING:
            self._db.execute(
                "DELETE FROM waiting WHERE receiver = ? AND number = (SELECT number FROM waiting JOIN messages USING (number) "
                "WHERE receiver = ? AND (taken > 0 OR letters = '[]') ORDER BY number LIMIT 1)",
                (receiver, receiver),
            )

    # What waits for whom.

    def waiting(self, receiver: str) -> int:
        """Return how many messages wait for this receiver."""
        (found,) = self._db.execute("SELECT count(*) FROM waiting WHERE receiver = ?", (receiver,)).fetchone()
        return int(found)

    def next(self, receiver: str) -> tuple[int, Message] | None:
        """Return the oldest message that waits for this receiver, and its number here."""
        row = self._db.execute(
            "SELECT number, id, title, body, severity, letters FROM waiting JOIN messages USING (number) "
            "WHERE receiver = ? ORDER BY number LIMIT 1",
            (receiver,),
        ).fetchone()
        if row is None:
            return None
        number, identity, title, body, severity, letters = row
        return number, Message(identity, title, body, NotificationKind(severity), tuple(json.loads(letters)))

    def taken(self, receiver: str, number: int, failing: Iterable[str]) -> None:
        """Write down that the receiver has taken it, and that its dead letters are told if they are; `failing` as in `settle`."""
        with self._transaction():
            self._db.execute("DELETE FROM waiting WHERE receiver = ? AND number = ?", (receiver, number))
            self._db.execute("UPDATE messages SET taken = taken + 1 WHERE number = ?", (number,))
            self._settle(failing)
            self._drop_finished()

    def settle(self, failing: Iterable[str]) -> None:
        """Write down which dead letters are told: one receiver has taken them, and each of the others has, or is `failing`."""
        with self._transaction():
            self._settle(failing)

    def _settle(self, failing: Iterable[str]) -> None:
        rows = self._db.execute(
            "SELECT letters FROM messages WHERE taken > 0 AND letters != '[]' AND number NOT IN "
            "(SELECT number FROM waiting WHERE receiver NOT IN (SELECT value FROM json_each(?)))",
            (json.dumps(list(failing)),),
        ).fetchall()
        now = time.time()
        for (letters,) in rows:
            told = [(key, now) for key in json.loads(letters)]
            self._db.executemany("INSERT OR IGNORE INTO told VALUES (?, ?)", told)
        if rows:
            self._db.execute(
                "DELETE FROM told WHERE rowid <= (SELECT max(rowid) FROM told) - ?", (MAX_LETTERS_REMEMBERED,)
            )

    def _drop_finished(self) -> None:
        self._db.execute("DELETE FROM messages WHERE number NOT IN (SELECT number FROM waiting)")

    # What was told of dead letters.

    def told(self, letters: Iterable[str]) -> set[str]:
        """Return those of these dead letters that were told."""
        return {
            key
            for key in letters
            if self._db.execute("SELECT 1 FROM told WHERE letter = ?", (key,)).fetchone()
        }

    def telling(self) -> set[str]:
        """Return the dead letters of which a message waits for somebody."""
        rows = self._db.execute("SELECT letters FROM messages WHERE letters != '[]'")
        return {key for (letters,) in rows for key in json.loads(letters)}


def _state(episode: Episode) -> dict[str, Any]:
    return {
        "message": str(episode.alarm.message),
        "since": episode.since,
        "told_at": episode.told_at,
        "gone_since": episode.gone_since,
        "over": episode.over,
        "returns": episode.returns,
    }


def _episode(alarm: Alarm, state: Mapping[str, Any]) -> Episode:
    rest = {name: value for name, value in state.items() if name != "message"}
    return replace(Episode(replace(alarm, message=state["message"]), 0), **rest)


_CODES = {code.value: code for code in Condition}
