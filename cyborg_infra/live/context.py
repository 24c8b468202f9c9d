"""Reads the `nats` CLI's context files; writes none, and asks no password store."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.valueclass import valueclass

_SECRETS = ("password", "token", "user_jwt", "user_seed")
_PATHS = ("creds", "nkey", "cert", "key", "ca")


@valueclass(frozen=True, slots=True)
class Context:
    """A context: its name, and its settings by the file's own keys. Secrets among them: never shown."""

    name: str
    settings: Mapping[str, Any] = field(repr=False)


def read_context(name: str, environ: Mapping[str, str]) -> Context:
    """The context called `name`, or the one in the file `name` if that ends in .json; references resolved.

    Raises:
        UsageInvalid: there is none, it cannot be read, or it needs something that we do not support.
    """
    if name.endswith(".json"):
        path = expand_path(name, environ)
    else:
        path = _folder(environ) / "context" / f"{name}.json"
        if "/" in name or not path.is_file():
            raise UsageInvalid(_unknown(name, environ))
    settings = _settings(path)
    return Context(path.stem, {key: _resolved(key, value, path, environ) for key, value in settings.items()})


def selected_context(environ: Mapping[str, str]) -> str:
    """The name that `nats context select` has written, or an empty string."""
    path = _folder(environ) / "context.txt"
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise UsageInvalid(_unreadable(path, error)) from None


def expand_path(text: str, environ: Mapping[str, str]) -> Path:
    """`text` as a path, with `~` and `$NAME` or `${NAME}` filled in; unknown names become empty, as in a shell."""
    filled = re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda match: environ.get(match[1] or match[2], ""), text)
    if filled == "~" or filled.startswith("~/"):
        return _home(environ) / filled[2:]
    return Path(filled)


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


def _folder(environ: Mapping[str, str]) -> Path:
    configured = environ.get("XDG_CONFIG_HOME")
    return (Path(configured) if configured else _home(environ) / ".config") / "nats"


def _unknown(name: str, environ: Mapping[str, str]) -> Problem:
    known = sorted(path.stem for path in (_folder(environ) / "context").glob("*.json"))
    close = difflib.get_close_matches(name, known, 1)
    have = (
        f"there are: {', '.join(known)}" if known else "there are none; leave out --context and give --server"
    )
    return Problem(
        "unknown-context",
        f"there is no NATS context {name!r}",
        hint=f"did you mean {close[0]}? {have}" if close else have,
    )


def _unreadable(path: Path, error: Exception) -> Problem:
    reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
    return Problem("bad-context", f"cannot read the NATS context file {path}: {reason}")


def _settings(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageInvalid(_unreadable(path, error)) from None
    problem = None
    try:
        found = json.loads(text)
    except (
        json.JSONDecodeError
    ) as error:  # holds the whole text, secrets included: keep it out of the traceback
        problem = f"it is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
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
    """`value`, or what it refers to: newer contexts may hold `env://NAME` or `file://path` for a secret."""
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
            hint="give the credentials with --creds, or as file:// or env:// in the context",
        )
    )


def _file_text(key: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageInvalid(Problem("bad-context", f"cannot read {key} from {path}: {reason}")) from None
