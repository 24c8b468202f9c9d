"""Which server, as whom: from options, environment and the `nats` CLI's contexts; connects to nothing.

The precedence is the `nats` CLI's: a context is the base, the environment overrides it field by field, options
override both. Of several ways to log in, the one from the strongest source is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from cyborg_infra.live.context import Context, expand_path, read_context, selected_context
from cyborg_infra.model import units
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.subjects import is_pattern, is_token
from cyborg_infra.model.valueclass import valueclass

DEFAULT_URL = "nats://localhost:4222"
DEFAULT_PORT = 4222
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
    api_prefix: str = "$JS.API"
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
        return self.sources.get("url", "default")

    @property
    def described(self) -> str:
        """The URLs and the login with where each came from, for the head of a plan; never a secret."""
        by = self.sources.get("login")
        return f"{','.join(self.urls)} ({self.source}), {self.login}" + (f" ({by})" if by else "")


class _Rank(IntEnum):
    """How strong a source is."""

    DEFAULT = 0
    CONTEXT = 1
    ENVIRONMENT = 2
    FLAG = 3


class _Setting(NamedTuple):
    flag: str
    variable: str
    key: str  # in a context file


_SETTINGS = {
    "server": _Setting("--server", "NATS_URL", "url"),
    "user": _Setting("--user", "NATS_USER", "user"),
    "password": _Setting("--password", "NATS_PASSWORD", "password"),
    "token": _Setting("--token", "NATS_TOKEN", "token"),
    "creds": _Setting("--creds", "NATS_CREDS", "creds"),
    "nkey": _Setting("--nkey", "NATS_NKEY", "nkey"),
    "jwt": _Setting("--jwt", "NATS_JWT", "user_jwt"),
    "seed": _Setting("--seed", "NATS_SEED", "user_seed"),
    "tlscert": _Setting("--tlscert", "NATS_CERT", "cert"),
    "tlskey": _Setting("--tlskey", "NATS_KEY", "key"),
    "tlsca": _Setting("--tlsca", "NATS_CA", "ca"),
    "tlsfirst": _Setting("--tlsfirst", "", "tls_first"),
    "js_domain": _Setting("--js-domain", "", "jetstream_domain"),
    "js_api_prefix": _Setting("--js-api-prefix", "", "jetstream_api_prefix"),
    "inbox_prefix": _Setting("--inbox-prefix", "", "inbox_prefix"),
    "timeout": _Setting("--timeout", "NATS_TIMEOUT", ""),
}


class _Given(NamedTuple):
    value: Any
    rank: _Rank
    source: str


_Settings = dict[str, _Given]
_ABSENT = _Given("", _Rank.DEFAULT, "default")


def resolve(flags: Flags, environ: Mapping[str, str]) -> Target:
    """The target that options, environment and contexts describe; its files exist and can be read.

    Raises:
        UsageInvalid: something cannot be used; every problem found, none with a secret in it.
    """
    context = _context(flags, environ)
    given = _collect(flags, environ, context)
    problems: list[Problem] = []
    urls, url_user = _urls(given.get("server", _Given(DEFAULT_URL, _Rank.DEFAULT, "default")), problems)
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
        warnings = (f"the credentials of {login_source} are sent to {','.join(urls)} ({server.source})",)
    name = context.name if context else ""
    return Target(urls=urls, context=name, sources=sources, warnings=warnings, **fields)


def _context(flags: Flags, environ: Mapping[str, str]) -> Context | None:
    if flags.no_context and flags.context:
        raise UsageInvalid(Problem("contradiction", "--context and --no-context exclude each other"))
    if flags.no_context:
        return None
    name = flags.context or environ.get("NATS_CONTEXT") or selected_context(environ)
    return read_context(name, environ) if name else None


def _collect(flags: Flags, environ: Mapping[str, str], context: Context | None) -> _Settings:
    """Every setting that is given anywhere, from its strongest source."""
    given: _Settings = {}
    for name, (flag, variable, key) in _SETTINGS.items():
        candidates = [
            _Given(getattr(flags, name), _Rank.FLAG, flag),
            _Given(environ.get(variable, "") if variable else "", _Rank.ENVIRONMENT, variable),
        ]
        if context:
            candidates.append(_Given(context.settings.get(key, ""), _Rank.CONTEXT, f"context {context.name}"))
        found = next((candidate for candidate in candidates if candidate.value), None)
        if found:
            given[name] = found
    return given


def _redacted(urls: str) -> str:
    """Without anything that could be a user or a password, however odd the text."""
    return f"xxxxx@{urls.rpartition('@')[2]}" if "@" in urls else urls


def _split(url: str) -> SplitResult | None:
    """The parts of an URL, or None. The library's ValueError quotes what may be a password: it ends here."""
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        valid = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    rest = (parts.path.strip("/"), parts.query, parts.fragment)
    return parts if valid and not any(rest) and not any(char.isspace() for char in parts.netloc) else None


def _urls(given: _Given, problems: list[Problem]) -> tuple[tuple[str, ...], _Given | None]:
    """The URLs without user info, and the user info, which is `user:password` or a token, still encoded."""
    urls: list[str] = []
    users: set[str] = set()
    for url in filter(None, (part.strip() for part in given.value.split(","))):
        parts = _split(url)
        if parts is None:
            message = f"{given.source}: {_redacted(given.value)} is no NATS URL"
            hint = "write nats://host:4222; special characters in user and password are percent-encoded"
            problems.append(Problem("bad-url", message, hint=hint))
            break
        if parts.scheme not in ("nats", "tls"):
            message = f"{given.source}: scheme {parts.scheme}:// is not supported"
            problems.append(Problem("bad-url", message, hint="use nats:// or tls://"))
            break
        user, _, _ = parts.netloc.rpartition("@")
        users |= {user} if user else set()
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        urls.append(f"{parts.scheme}://{host}:{parts.port or DEFAULT_PORT}")
    if len(users) > 1:
        message = f"{given.source}: the URLs name different users; give one for all"
        problems.append(Problem("bad-url", message))
    if not urls and not problems:
        problems.append(Problem("bad-url", f"{given.source}: no URL in it"))
    return tuple(urls), _Given(users.pop(), given.rank, f"URL of {given.source}") if users else None


def _login(
    given: _Settings, url_user: _Given | None, environ: Mapping[str, str], problems: list[Problem]
) -> tuple[dict[str, Any], str, _Rank]:
    """The one way to log in from the strongest source, where that is from, and how strong it is."""
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
        return {"token": user.value}  # the CLI's rule: --user without --password is a token
    return {"user": user.value, "password": password.value}


def _file_fields(name: str) -> Any:
    def fields(given: _Settings, environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
        return {name: _file(given[name], environ, problems)}

    return fields


def _jwt_fields(given: _Settings, _environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    if "seed" not in given:
        message = f"{given['jwt'].source}: a user JWT needs its seed as well (--seed or NATS_SEED)"
        problems.append(Problem("bad-login", message))
    return {"jwt": given["jwt"].value, "seed": given.get("seed", _ABSENT).value}


_FIELDS_OF = {
    "user": _user_fields,
    "creds": _file_fields("creds"),
    "nkey": _file_fields("nkey"),
    "jwt": _jwt_fields,
}


def _file(given: _Given, environ: Mapping[str, str], problems: list[Problem]) -> Path:
    path = expand_path(given.value, environ)
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        problems.append(Problem("bad-file", f"{given.source}: cannot read {path}: {error.strerror}"))
    except ValueError:
        problems.append(Problem("bad-file", f"{given.source}: {path!r} is no path"))
    return path


def _tls(given: _Settings, environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    for one, other in (("tlscert", "tlskey"), ("tlskey", "tlscert")):
        if one in given and other not in given:
            message = f"{given[one].source}: {_SETTINGS[one].flag} needs {_SETTINGS[other].flag} as well"
            problems.append(Problem("bad-login", message))
    names = {"tlscert": "tls_cert", "tlskey": "tls_key", "tlsca": "tls_ca"}
    found = {
        name: _file(given[option], environ, problems) for option, name in names.items() if option in given
    }
    return found | {"tls_first": "tlsfirst" in given}


def _jetstream(given: _Settings, problems: list[Problem]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    domain, prefix = given.get("js_domain", _ABSENT), given.get("js_api_prefix", _ABSENT)
    if domain.value and prefix.rank == domain.rank:
        message = "--js-domain and --js-api-prefix exclude each other: a domain is a prefix of its own"
        problems.append(Problem("contradiction", message))
    elif prefix.rank > domain.rank:
        fields["api_prefix"] = _subject(prefix, problems)
    elif domain.value:
        if not is_token(domain.value):
            problems.append(
                Problem("bad-domain", f"{domain.source}: {domain.value!r} is no JetStream domain")
            )
        fields |= {"domain": domain.value, "api_prefix": f"$JS.{domain.value}.API"}
    if "inbox_prefix" in given:
        fields["inbox_prefix"] = _subject(given["inbox_prefix"], problems)
    return fields


def _subject(given: _Given, problems: list[Problem]) -> str:
    subject: str = given.value.removesuffix(".")
    if not is_pattern(subject) or {"*", ">"} & set(subject.split(".")):
        problems.append(Problem("bad-prefix", f"{given.source}: {given.value!r} is no subject prefix"))
    return subject


def _timeout(given: _Given, problems: list[Problem]) -> float:
    try:
        seconds = units.parse_duration(given.value or DEFAULT_TIMEOUT) / units.SECOND
    except ValueError as error:
        problems.append(Problem("bad-timeout", f"{given.source}: {error}"))
        return 0
    if not seconds:
        problems.append(Problem("bad-timeout", f"{given.source}: a timeout must be longer than 0"))
    return seconds
