"""Read the `nats` CLI's context files."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from cyborg_infra import files
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.valueclass import valueclass
from cyborg_infra.model.wording import Option, worded

_SECRETS = ("password", "token", "user_jwt", "user_seed")
_PATHS = ("creds", "nkey", "cert", "key", "ca")


@valueclass(frozen=True, slots=True)
class Context:
    """A context: its name, and its settings by the file's own keys. Secrets among them: never shown."""

    name: str
    settings: Mapping[str, Any] = field(repr=False)


def read_context(name: str, environ: Mapping[str, str]) -> Context:
    """Return the context called `name`, or the one in the file `name` if that ends in .json; references resolved.

    Raises:
        UsageInvalid: there is none, it cannot be read, or it needs something that we do not support.
    """
    if name.endswith(".json"):
        path = expand_path(name, environ)
    else:
        path = _folder(environ) / "context" / f"{name}.json"
        if "/" in name or not _exists(path):
            raise UsageInvalid(_unknown(name, environ))
    settings = _settings(path)
    return Context(path.stem, {key: _resolved(key, value, path, environ) for key, value in settings.items()})


def selected_context(environ: Mapping[str, str]) -> str:
    """Return the name that `nats context select` has written, or an empty string."""
    path = _folder(environ) / "context.txt"
    try:
        return files.read_text(path).strip()
    except files.Unreadable as error:
        if error.missing:
            return ""
        raise UsageInvalid(_unreadable(path, error)) from None


def saved_contexts(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the contexts that the nats CLI has saved."""
    return sorted(path.stem for path in (_folder(environ) / "context").glob("*.json"))


def expand_path(text: str, environ: Mapping[str, str]) -> Path:
    """Return `text` as a path, with `~` and `$NAME` or `${NAME}` filled in; unknown names become empty, as in a shell."""
    filled = re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda match: environ.get(match[1] or match[2], ""), text)
    if filled == "~" or filled.startswith("~/"):
        return _home(environ) / filled[2:]
    return Path(filled)


def _home(environ: Mapping[str, str]) -> Path:
    if environ.get("HOME"):
        return Path(environ["HOME"])
    try:
        return Path.home()
    except RuntimeError:  # a user of whom the system knows nothing, as in a container
        return Path("/")


def _folder(environ: Mapping[str, str]) -> Path:
    configured = environ.get("XDG_CONFIG_HOME")
    return (Path(configured) if configured else _home(environ) / ".config") / "nats"


def _unknown(name: str, environ: Mapping[str, str]) -> Problem:
    known = saved_contexts(environ)
    close = difflib.get_close_matches(name, known, 1)
    have = (
        f"there are: {', '.join(known)}"
        if known
        else worded("there are none; leave out {} and give {}", Option("context"), Option("server"))
    )
    return Problem(
        "unknown-context",
        f"there is no NATS context {name!r}",
        hint=worded("did you mean {}? {}", close[0], have) if close else have,
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no name of a file
        return False


def _unreadable(path: Path, reason: object) -> Problem:
    return Problem("bad-context", f"cannot read the NATS context file {path}: {reason}")


def _settings(path: Path) -> dict[str, Any]:
    try:
        text = files.read_text(path)
    except files.Unreadable as error:
        raise UsageInvalid(_unreadable(path, error)) from None
    problem = None
    try:
        found = files.parse_json(text)
    except files.Unreadable as error:
        problem = str(error)
    else:
        problem = _misfit(found)
    if problem:
        raise UsageInvalid(Problem("bad-context", f"NATS context file {path}: {problem}"))
    return {key: value for key, value in found.items() if value}


def _misfit(found: object) -> str | None:
    if not isinstance(found, dict):
        return "it must hold one JSON object"
    if not isinstance(found.get("tls_first", False), bool):
        return "tls_first must be true or false"
    texts = ("url", "user", *_SECRETS, *_PATHS, "jetstream_domain", "jetstream_api_prefix", "inbox_prefix")
    wrong = [key for key in texts if not isinstance(found.get(key, ""), str)]
    if wrong:
        return f"{wrong[0]} must be a text"
    unsupported = [key for key in ("nsc", "socks_proxy", "windows_cert_store") if found.get(key)]
    if unsupported:
        return f"{unsupported[0]} is not supported; use creds and a direct URL instead"
    return None


def _resolved(key: str, value: Any, path: Path, environ: Mapping[str, str]) -> Any:
    """Return `value`, or what it refers to: newer contexts may hold `env://NAME` or `file://path` for a secret."""
    if key not in _SECRETS + _PATHS:
        return value
    scheme, separator, rest = value.partition("://")
    if value.startswith("data:") or (separator and scheme in ("op", "nsc")):
        scheme = value.partition(":")[0]
    elif separator and scheme == "file":
        return rest if key in _PATHS else _file_text(key, expand_path(rest, environ))
    elif separator and scheme == "env" and rest in environ:
        return environ[rest]
    elif separator and scheme == "env":
        raise UsageInvalid(
            Problem("bad-context", f"NATS context file {path}: {key} is taken from ${rest}, which is not set")
        )
    else:
        return value
    raise UsageInvalid(
        Problem(
            "bad-context",
            f"NATS context file {path}: {key} is a {scheme}: reference, which is not supported",
            hint=worded(
                "give the credentials with {}, or as file:// or env:// in the context", Option("creds")
            ),
        )
    )


def _file_text(key: str, path: Path) -> str:
    try:
        return files.read_text(path).strip()
    except files.Unreadable as error:
        raise UsageInvalid(Problem("bad-context", f"cannot read {key} from {path}: {error}")) from None
