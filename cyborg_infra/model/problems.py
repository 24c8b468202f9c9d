"""Errors shown to users: location, message, hint; and the exit codes."""

from __future__ import annotations

from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import worded

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_DIFFERENCES = 2
EXIT_REFUSED = 3


class SourcePosition(NamedTuple):
    """A place in a file; line and column count from 1. Prints as `org.yaml:12:5`."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problem(NamedTuple):
    """One thing that is wrong: a stable `code`, a sentence, a place if there is one, and what to do."""

    code: str
    message: str
    where: SourcePosition | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = worded(" ({})", self.hint) if self.hint else ""
        return worded("{}{}{}", place, self.message, advice)


class CyborgError(Exception):
    """Anything the user should read instead of a traceback. `problems` has every one that was found, never only the first."""

    exit_code = EXIT_ERROR

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__(worded("\n".join("{}" for _ in problems), *problems))

    def __reduce__(self) -> tuple[object, ...]:
        """Return what makes a copy of it, whatever a subclass is made from: an error of a worker process comes back as it is."""
        return _copied, (type(self), self.args), self.__dict__


def _copied(cls: type[CyborgError], arguments: tuple[object, ...]) -> CyborgError:
    return cls.__new__(cls, *arguments)


class ManifestInvalid(CyborgError):
    """The manifest cannot be used; every problem has a place in a file."""


class MessageInvalid(CyborgError):
    """At least one message is not what its type asks for; every problem has a place in a file."""


class UsageInvalid(CyborgError):
    """An option or an environment variable cannot be used."""


class ConnectFailed(CyborgError):
    """No usable connection to a NATS server: unreachable, login refused, TLS, unreadable credentials."""


class ServerFault(CyborgError):
    """The server was reached and did not do what was asked: API error, denied subject, lost connection, timeout."""


class SnapshotIncomplete(CyborgError):
    """The live state could not be read to the end. Nothing may be planned from it."""


class PlanStale(CyborgError):
    """The live state is no longer the one that the plan was made from."""


class PlanRefused(CyborgError):
    """The plan could lose something that was not allowed by name, or cannot be done."""

    exit_code = EXIT_REFUSED


class ExportRefused(CyborgError):
    """The format cannot say all of the organisation, and all of it was asked for. Nothing was written."""

    exit_code = EXIT_REFUSED


class SendRefused(CyborgError):
    """The role has as much to do as it may have. Nothing was sent."""

    exit_code = EXIT_REFUSED
