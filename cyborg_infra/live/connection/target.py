"""Resolve which server to connect to and how to log in, from options, environment and the `nats` CLI's contexts.

The precedence is the `nats` CLI's: a context is the base, the environment overrides it field by field, options
override both. Of several ways to log in, the one from the strongest source is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import IntEnum
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from cyborg_infra import files
from cyborg_infra.live.connection.context import Context, expand_path, read_context, selected_context
from cyborg_infra.model import units
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.subjects import is_pattern, is_token
from cyborg_infra.model.valueclass import NamedTuple, valueclass
from cyborg_infra.model.wording import Option, worded

DEFAULT = "default"
"""The source of what nobody has named."""

DEFAULT_URL = "nats://localhost:4222"
DEFAULT_PORT = 4222
DEFAULT_PREFIX = "$JS.API"
DEFAULT_TIMEOUT = "5s"


@valueclass(frozen=True, slots=True)
class Flags:
    """The connection options as typed; empty means not given."""

    server: str = field(default="", repr=False)  # may hold a password
    context: str = ""
    no_context: bool = False
    user: str = field(default="", repr=False)  # without a password it is a token
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    creds: str = ""
    nkey: str = ""
    jwt: str = field(default="", repr=False)
    seed: str = field(default="", repr=False)
    tlscert: str = ""
    tlskey: str = ""
    tlsca: str = ""
    tlsfirst: bool = False
    js_domain: str = ""
    js_api_prefix: str = ""
    inbox_prefix: str = ""
    timeout: str = ""


@valueclass(frozen=True, slots=True)
class Target:
    """A server and a login, complete and checked. At most one of the ways to log in is set, besides a token."""

    urls: tuple[str, ...] = (DEFAULT_URL,)  # without user and password
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    creds: Path | None = None
    nkey: Path | None = None
    jwt: str = field(default="", repr=False)
    seed: str = field(default="", repr=False)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    tls_first: bool = False
    domain: str = ""
    api_prefix: str = DEFAULT_PREFIX
    inbox_prefix: str = "_INBOX"
    timeout: float = 5.0  # seconds
    context: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)  # setting -> where it came from
    warnings: tuple[str, ...] = ()

    @property
    def tls_wanted(self) -> bool:
        """Whether nothing may be sent in plain text."""
        files = (self.tls_cert, self.tls_ca)
        return self.tls_first or any(files) or any(url.startswith("tls://") for url in self.urls)

    @property
    def login(self) -> str:
        """How we log in, for people; never a secret."""
        ways = [
            f"user {self.user}" if self.user else "",
            f"credentials file {self.creds}" if self.creds else "",
            f"nkey file {self.nkey}" if self.nkey else "",
            "user JWT and seed" if self.jwt else "",
            "token" if self.token else "",
            "client certificate" if self.tls_cert else "",
        ]
        return " and ".join(way for way in ways if way) or "no credentials"

    @property
    def source(self) -> str:
        """Where the URL came from: an option, a variable, a context or the default."""
        return self.sources.get("url", DEFAULT)

    @property
    def described(self) -> str:
        """The URLs and the login with where each came from, for the head of a plan; never a secret."""
        by = self.sources.get("login")
        by = worded(" ({})", by) if by else ""
        return worded("{} ({}), {}{}", ",".join(self.urls), self.source, self.login, by)


class _Rank(IntEnum):
    """How strong a source is."""

    DEFAULT = 0
    CONTEXT = 1
    ENVIRONMENT = 2
    FLAG = 3


class _Setting(NamedTuple):
    variable: str
    key: str  # in a context file


_SETTINGS = {
    "server": _Setting("NATS_URL", "url"),
    "user": _Setting("NATS_USER", "user"),
    "password": _Setting("NATS_PASSWORD", "password"),
    "token": _Setting("NATS_TOKEN", "token"),
    "creds": _Setting("NATS_CREDS", "creds"),
    "nkey": _Setting("NATS_NKEY", "nkey"),
    "jwt": _Setting("NATS_JWT", "user_jwt"),
    "seed": _Setting("NATS_SEED", "user_seed"),
    "tlscert": _Setting("NATS_CERT", "cert"),
    "tlskey": _Setting("NATS_KEY", "key"),
    "tlsca": _Setting("NATS_CA", "ca"),
    "tlsfirst": _Setting("", "tls_first"),
    "js_domain": _Setting("", "jetstream_domain"),
    "js_api_prefix": _Setting("", "jetstream_api_prefix"),
    "inbox_prefix": _Setting("CYBORG_INFRA_INBOX_PREFIX", "inbox_prefix"),
    "timeout": _Setting("NATS_TIMEOUT", ""),
}


class _Given(NamedTuple):
    value: Any
    rank: _Rank
    source: str


_Settings = dict[str, _Given]
_ABSENT = _Given("", _Rank.DEFAULT, DEFAULT)


def resolve(flags: Flags, environ: Mapping[str, str]) -> Target:
    """Return the target that options, environment and contexts describe; its files exist and can be read.

    Raises:
        UsageInvalid: something cannot be used; every problem found, none with a secret in it.
    """
    context = _context(flags, environ)
    given = _collect(flags, environ, context)
    problems: list[Problem] = []
    urls, url_user = _urls(given.get("server", _Given(DEFAULT_URL, _Rank.DEFAULT, DEFAULT)), problems)
    login, login_source, login_rank = _login(given, url_user, environ, problems)
    fields: dict[str, Any] = login | _tls(given, environ, problems) | _jetstream(given, problems)
    fields["timeout"] = _timeout(given.get("timeout", _ABSENT), problems)
    if problems:
        raise UsageInvalid(*problems)
    sources = {name: found.source for name, found in given.items() if name != "server"}
    server = given.get("server", _ABSENT)
    sources["url"] = server.source
    if login_source:
        sources["login"] = login_source
    warnings: tuple[str, ...] = ()
    if login_rank is _Rank.CONTEXT and server.rank is not _Rank.CONTEXT:
        said = "the credentials of {} are sent to {} ({})"
        warnings = (worded(said, login_source, ",".join(urls), server.source),)
    name = context.name if context else ""
    return Target(urls=urls, context=name, sources=sources, warnings=warnings, **fields)


def _context(flags: Flags, environ: Mapping[str, str]) -> Context | None:
    if flags.no_context and flags.context:
        raise UsageInvalid(
            Problem(
                "contradiction",
                worded("{} and {} exclude each other", Option("context"), Option("no_context")),
            )
        )
    if flags.no_context:
        return None
    name = flags.context or environ.get("NATS_CONTEXT") or selected_context(environ)
    return read_context(name, environ) if name else None


def _collect(flags: Flags, environ: Mapping[str, str], context: Context | None) -> _Settings:
    """Return every setting that is given anywhere, from its strongest source."""
    given: _Settings = {}
    for name, (variable, key) in _SETTINGS.items():
        candidates = [
            _Given(getattr(flags, name), _Rank.FLAG, worded("{}", Option(name))),
            _Given(environ.get(variable, "") if variable else "", _Rank.ENVIRONMENT, variable),
        ]
        if context:
            candidates.append(_Given(context.settings.get(key, ""), _Rank.CONTEXT, f"context {context.name}"))
        found = next((candidate for candidate in candidates if candidate.value), None)
        if found:
            given[name] = found
    return given


def _redacted(urls: str) -> str:
    """Return the URLs without anything that could be a user or a password, however odd the text."""
    return f"xxxxx@{urls.rpartition('@')[2]}" if "@" in urls else urls


def _split(url: str) -> SplitResult | None:
    """Return the parts of an URL, or None. The library's ValueError quotes what may be a password: it ends here."""
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        valid = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    rest = (parts.path.strip("/"), parts.query, parts.fragment)
    return parts if valid and not any(rest) and not any(char.isspace() for char in parts.netloc) else None


def _urls(given: _Given, problems: list[Problem]) -> tuple[tuple[str, ...], _Given | None]:
    """Return the URLs without user info, and the user info, which is `user:password` or a token, still encoded."""
    urls: list[str] = []
    users: set[str] = set()
    for url in filter(None, (part.strip() for part in given.value.split(","))):
        parts = _split(url)
        if parts is None:
            message = worded("{}: {} is no NATS URL", given.source, _redacted(given.value))
            hint = "write nats://host:4222; special characters in user and password are percent-encoded"
            problems.append(Problem("bad-url", message, hint=hint))
            break
        if parts.scheme not in ("nats", "tls"):
            message = worded("{}: scheme {}:// is not supported", given.source, parts.scheme)
            problems.append(Problem("bad-url", message, hint="use nats:// or tls://"))
            break
        user, _, _ = parts.netloc.rpartition("@")
        users |= {user} if user else set()
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        urls.append(f"{parts.scheme}://{host}:{parts.port or DEFAULT_PORT}")
    if len(users) > 1:
        message = worded("{}: the URLs name different users; give one for all", given.source)
        problems.append(Problem("bad-url", message))
    if not urls and not problems:
        problems.append(Problem("bad-url", worded("{}: no URL in it", given.source)))
    return tuple(urls), _Given(users.pop(), given.rank, worded("URL of {}", given.source)) if users else None


def _login(
    given: _Settings, url_user: _Given | None, environ: Mapping[str, str], problems: list[Problem]
) -> tuple[dict[str, Any], str, _Rank]:
    """Return the one way to log in from the strongest source, where that is from, and how strong it is."""
    if url_user:  # as in every NATS client, what stands in the URL is what is used
        user, colon, password = url_user.value.partition(":")
        decoded = (
            {"user": unquote(user), "password": unquote(password)} if colon else {"token": unquote(user)}
        )
        return decoded, url_user.source, url_user.rank
    ways = [name for name in ("user", "creds", "nkey", "jwt") if name in given]
    token = given.get("token")
    if not ways:
        return ({"token": token.value}, token.source, token.rank) if token else ({}, "", _Rank.DEFAULT)
    way = max(ways, key=lambda name: given[name].rank)  # max keeps the first of equals: the CLI's order
    chosen = given[way]
    fields = _FIELDS_OF[way](given, environ, problems)
    if token and token.rank >= chosen.rank:
        fields = {"token": token.value} | fields
    return fields, chosen.source, chosen.rank


def _user_fields(given: _Settings, _environ: Mapping[str, str], _problems: list[Problem]) -> dict[str, Any]:
    user, password = given["user"], given.get("password", _ABSENT)
    if user.rank > _Rank.CONTEXT and password.rank <= _Rank.CONTEXT:
        return {"token": user.value}  # the CLI's rule: a user without a password is a token
    return {"user": user.value, "password": password.value}


def _file_fields(name: str) -> Any:
    def fields(given: _Settings, environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
        return {name: _file(given[name], environ, problems)}

    return fields


def _jwt_fields(given: _Settings, _environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    if "seed" not in given:
        said = "{}: a user JWT needs its seed as well ({} or NATS_SEED)"
        message = worded(said, given["jwt"].source, Option("seed"))
        problems.append(Problem("bad-login", message))
    return {"jwt": given["jwt"].value, "seed": given.get("seed", _ABSENT).value}


_FIELDS_OF = {
    "user": _user_fields,
    "creds": _file_fields("creds"),
    "nkey": _file_fields("nkey"),
    "jwt": _jwt_fields,
}


def _file(given: _Given, environ: Mapping[str, str], problems: list[Problem], *, pipe: bool = True) -> Path:
    path = expand_path(given.value, environ)
    try:
        files.require_readable(path, pipe=pipe)
    except files.Unreadable as error:
        problems.append(Problem("bad-file", worded("{}: cannot read {}: {}", given.source, path, error)))
    return path


def _tls(given: _Settings, environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    for one, other in (("tlscert", "tlskey"), ("tlskey", "tlscert")):
        if one in given and other not in given:
            message = worded("{}: {} needs {} as well", given[one].source, Option(one), Option(other))
            problems.append(Problem("bad-login", message))
    names = {"tlscert": "tls_cert", "tlskey": "tls_key", "tlsca": "tls_ca"}
    found = {
        name: _file(given[option], environ, problems, pipe=False)  # OpenSSL opens them by their names
        for option, name in names.items()
        if option in given
    }
    return found | {"tls_first": "tlsfirst" in given}


def _jetstream(given: _Settings, problems: list[Problem]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    domain, prefix = given.get("js_domain", _ABSENT), given.get("js_api_prefix", _ABSENT)
    if domain.value and prefix.rank == domain.rank:
        said = "{} and {} exclude each other: a domain is a prefix of its own"
        message = worded(said, Option("js_domain"), Option("js_api_prefix"))
        problems.append(Problem("contradiction", message))
    elif prefix.rank > domain.rank:
        fields["api_prefix"] = _subject(prefix, problems)
    elif domain.value:
        if not is_token(domain.value):
            problems.append(
                Problem(
                    "bad-domain", worded("{}: {} is no JetStream domain", domain.source, repr(domain.value))
                )
            )
        fields |= {"domain": domain.value, "api_prefix": f"$JS.{domain.value}.API"}
    if "inbox_prefix" in given:
        fields["inbox_prefix"] = _subject(given["inbox_prefix"], problems)
    return fields


def _subject(given: _Given, problems: list[Problem]) -> str:
    subject: str = given.value.removesuffix(".")
    if not is_pattern(subject) or {"*", ">"} & set(subject.split(".")):
        problems.append(
            Problem("bad-prefix", worded("{}: {} is no subject prefix", given.source, repr(given.value)))
        )
    return subject


def _timeout(given: _Given, problems: list[Problem]) -> float:
    try:
        seconds = units.parse_duration(given.value or DEFAULT_TIMEOUT) / units.SECOND
    except ValueError as error:
        problems.append(Problem("bad-timeout", worded("{}: {}", given.source, error)))
        return 0
    if not seconds:
        problems.append(Problem("bad-timeout", worded("{}: a timeout must be longer than 0", given.source)))
    return seconds
