"""What has been told, and what has still to be told to whom: in a file, so that a monitor that was killed goes on where it was.

A message is written here before anybody is told, together with what it follows from, and leaves a receiver's queue once
that has taken it. So a kill loses nothing, and tells twice what a receiver took a moment before and nobody had written down yet.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cyborg_infra.model.notifications import Episode, Message, NotificationKind
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.status import Alarm, Condition

MAX_WAITING = 100
"""So many messages wait for one receiver. Beyond that the oldest goes which another receiver has, or which is no dead letter's."""
MAX_OVERTAKEN = 10
"""A message that so many later ones have overtaken is refused for what is in it, and goes in the same cases."""
MAX_LETTERS_REMEMBERED = 20_000
"""So many dead letters that were told are remembered, the newest."""

_FORMAT = 1
_TABLES = """
CREATE TABLE organisation (name TEXT NOT NULL);
CREATE TABLE episodes (code TEXT, role TEXT, about TEXT, state TEXT NOT NULL, PRIMARY KEY (code, role, about));
CREATE TABLE messages (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL,
  kind TEXT NOT NULL, letters TEXT NOT NULL, taken INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE waiting (
  receiver TEXT, number INTEGER, tries INTEGER NOT NULL DEFAULT 0, overtaken INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (receiver, number)
);
CREATE TABLE told (letter TEXT PRIMARY KEY, at REAL NOT NULL);
CREATE VIEW dispensable AS SELECT number FROM messages WHERE taken > 0 OR letters = '[]';
"""


class Outbox:
    """The messages that wait for each receiver, and what is remembered of what was told.

    If the file cannot be written any more, `problem` says why, and all of it goes on in memory: who is told something
    again after a restart is better off than who is told nothing.
    """

    def __init__(self, path: str, org: str, receivers: Sequence[str]) -> None:
        """Open the file, or make it; an empty path is memory. Raises UsageInvalid for a file that is in use, or of something else."""
        self.problem = ""
        self._path = path
        self._receivers = tuple(receivers)
        try:
            if path:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path or ":memory:", timeout=0, isolation_level=None)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._transact(lambda: self._prepare(org))
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from None

    def close(self) -> None:
        """Leave the file to others."""
        self._db.close()

    def _prepare(self, org: str) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found == 0 and not self._db.execute("SELECT name FROM sqlite_master").fetchone():
            self._make_tables(org)
        elif found != _FORMAT:
            raise sqlite3.DatabaseError
        (whose,) = self._db.execute("SELECT name FROM organisation").fetchone()
        if whose != org:
            hint = "give each organisation a file of its own"
            raise UsageInvalid(
                Problem("bad-state", f"{self._path} is of the organisation {whose}", None, hint)
            )
        # Whoever is told no more takes nothing more. What nobody has taken then is read again.
        self._db.execute(
            "DELETE FROM waiting WHERE receiver NOT IN (SELECT value FROM json_each(?))",
            (json.dumps(self._receivers),),
        )
        self._settle(())

    def _make_tables(self, org: str) -> None:
        for statement in _TABLES.split(";\n")[:-1]:
            self._db.execute(statement)
        self._db.execute("INSERT INTO organisation VALUES (?)", (org,))
        self._db.execute(f"PRAGMA user_version = {_FORMAT}")

    def _unusable(self, error: sqlite3.Error | OSError) -> UsageInvalid:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
        elif isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            hint = "each monitor needs a file of its own"
            return UsageInvalid(Problem("state-in-use", f"another monitor uses {self._path}", None, hint))
        else:
            reason = (
                str(error) if isinstance(error, sqlite3.OperationalError) else "it is no state of a monitor"
            )
        hint = "name another file, or move this one away: alarms that last are told again then"
        return UsageInvalid(Problem("bad-state", f"{self._path} cannot be used: {reason}", None, hint))

    def _write(self, work: Callable[[], object]) -> None:
        """Do it in one transaction: all of it is written, or nothing. Where the file takes no more, go on in memory."""
        try:
            self._transact(work)
        except sqlite3.Error as error:
            if self.problem or not self._path:
                raise
            self.problem = f"{self._path} cannot be written ({error}): what is told from now on is told again after a restart"
            memory = sqlite3.connect(":memory:", isolation_level=None)
            self._db.backup(memory)
            self._db.close()
            self._db = memory
            self._transact(work)

    def _transact(self, work: Callable[[], object]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            work()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

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
        added = list(messages)

        def work() -> None:
            for message in added:
                self._put(message)
            if episodes is not None:
                self._db.execute("DELETE FROM episodes")
                self._db.executemany(
                    "INSERT INTO episodes VALUES (?, ?, ?, ?)",
                    [(*map(str, key), json.dumps(_state(episode))) for key, episode in episodes.items()],
                )

        self._write(work)

    def _put(self, message: Message) -> None:
        row = (message.id, message.title, message.body, message.kind.value, json.dumps(message.letters))
        added = self._db.execute(
            "INSERT INTO messages (id, title, body, kind, letters) VALUES (?, ?, ?, ?, ?)", row
        )
        for name in self._receivers:
            if name != message.about:
                self._db.execute(
                    "INSERT INTO waiting (receiver, number) VALUES (?, ?)", (name, added.lastrowid)
                )
                self._make_room(name)
        self._settle(())

    def _make_room(self, receiver: str) -> None:
        if self.waiting(receiver) > MAX_WAITING:
            self._db.execute(
                "DELETE FROM waiting WHERE receiver = ? AND number = "
                "(SELECT min(number) FROM waiting JOIN dispensable USING (number) WHERE receiver = ?)",
                (receiver, receiver),
            )

    # What waits for whom.

    def waiting(self, receiver: str) -> int:
        """Return how many messages wait for this receiver."""
        (found,) = self._db.execute("SELECT count(*) FROM waiting WHERE receiver = ?", (receiver,)).fetchone()
        return int(found)

    def next(self, receiver: str) -> tuple[int, Message] | None:
        """Return the message that this receiver is told next, and its number here: the oldest of those tried least often."""
        row = self._db.execute(
            "SELECT number, id, title, body, kind, letters FROM waiting JOIN messages USING (number) "
            "WHERE receiver = ? ORDER BY tries, number LIMIT 1",
            (receiver,),
        ).fetchone()
        if row is None:
            return None
        number, identity, title, body, kind, letters = row
        return number, Message(identity, title, body, NotificationKind(kind), tuple(json.loads(letters)))

    def taken(self, receiver: str, number: int, failing: Iterable[str]) -> None:
        """Write down that the receiver has taken it, and which dead letters are told then.

        A dead letter is told once one receiver has taken its message, and each of the others has, or is `failing`.
        """
        but = tuple(failing)

        def work() -> None:
            here = (receiver, number)
            self._db.execute("DELETE FROM waiting WHERE receiver = ? AND number = ?", here)
            self._db.execute("UPDATE messages SET taken = taken + 1 WHERE number = ?", (number,))
            self._db.execute(
                "UPDATE waiting SET overtaken = overtaken + 1 WHERE receiver = ? AND number < ?", here
            )
            self._db.execute(
                "DELETE FROM waiting WHERE receiver = ? AND overtaken >= ? AND number IN (SELECT number FROM dispensable)",
                (receiver, MAX_OVERTAKEN),
            )
            self._settle(but)

        self._write(work)

    def refused(self, receiver: str, number: int, failing: Iterable[str]) -> None:
        """Write down that a try has failed, and which dead letters are told; as in `taken`."""
        but = tuple(failing)

        def work() -> None:
            self._db.execute(
                "UPDATE waiting SET tries = tries + 1 WHERE receiver = ? AND number = ?", (receiver, number)
            )
            self._settle(but)

        self._write(work)

    def _settle(self, failing: Sequence[str]) -> None:
        rows = self._db.execute(
            "SELECT letters FROM messages WHERE taken > 0 AND letters != '[]' AND number NOT IN "
            "(SELECT number FROM waiting WHERE receiver NOT IN (SELECT value FROM json_each(?)))",
            (json.dumps(failing),),
        ).fetchall()
        now = time.time()
        for (letters,) in rows:
            told = [(key, now) for key in json.loads(letters)]
            self._db.executemany("INSERT OR IGNORE INTO told VALUES (?, ?)", told)
        if rows:
            self._db.execute(
                "DELETE FROM told WHERE rowid <= (SELECT max(rowid) FROM told) - ?", (MAX_LETTERS_REMEMBERED,)
            )
        self._drop_finished()

    def _drop_finished(self) -> None:
        self._db.execute("DELETE FROM messages WHERE number NOT IN (SELECT number FROM waiting)")

    # What was told of dead letters.

    def told(self, letters: Iterable[str]) -> set[str]:
        """Return those of these dead letters that were told."""
        rows = self._db.execute(
            "SELECT letter FROM told WHERE letter IN (SELECT value FROM json_each(?))",
            (json.dumps(list(letters)),),
        )
        return {letter for (letter,) in rows}

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
        "parts": sorted(episode.parts),
    }


def _episode(alarm: Alarm, state: Mapping[str, Any]) -> Episode:
    rest = {name: value for name, value in state.items() if name not in ("message", "parts")}
    parts = frozenset(state["parts"])
    return replace(Episode(replace(alarm, message=state["message"]), 0, parts=parts), **rest)


_CODES = {code.value: code for code in Condition}
