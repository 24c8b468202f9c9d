"""Options beat environment, environment beats context, field by field; nothing unusable gets through."""

# ruff: noqa: S106 - passwords of nobody
from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.connection.target import DEFAULT_URL, Flags, Target, resolve
from cyborg_infra.model.problems import UsageInvalid
from cyborg_infra.render.command_line import spoken


class Home:
    """A home directory with NATS contexts in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {"HOME": str(path)}

    def file(self, name: str, text: str = "x") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def context(self, name: str, **settings: Any) -> None:
        self.file(f".config/nats/context/{name}.json", json.dumps(settings))

    def select(self, name: str) -> None:
        self.file(".config/nats/context.txt", f"{name}\n")

    def resolve(self, environ: dict[str, str] | None = None, **flags: Any) -> Target:
        return resolve(Flags(**flags), self.environ | (environ or {}))

    def problems(self, environ: dict[str, str] | None = None, **flags: Any) -> str:
        with pytest.raises(UsageInvalid) as caught:
            self.resolve(environ, **flags)
        return spoken(str(caught.value))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_nothing_given_is_the_default(home: Home) -> None:
    target = home.resolve()
    assert target == Target(sources={"url": "default"})
    assert target.urls == (DEFAULT_URL,)
    assert target.described == "nats://localhost:4222 (default), no credentials"
    assert not target.tls_wanted


def test_each_field_comes_from_its_strongest_source(home: Home) -> None:
    home.context("prod", url="nats://prod", user="alice", password="a", inbox_prefix="_I")
    home.select("prod")
    target = home.resolve({"NATS_PASSWORD": "b", "NATS_TIMEOUT": "9s"}, timeout="2s")
    assert (target.urls, target.context) == (("nats://prod:4222",), "prod")
    assert (target.user, target.password) == ("alice", "b")
    assert (target.inbox_prefix, target.timeout) == ("_I", 2)
    assert target.sources == {
        "url": "context prod",
        "user": "context prod",
        "password": "NATS_PASSWORD",
        "inbox_prefix": "context prod",
        "timeout": "`timeout`",
        "login": "context prod",
    }
    assert target.described == "nats://prod:4222 (context prod), user alice (context prod)"


def test_every_option_of_the_environment_is_heard(home: Home) -> None:
    files = {name: str(home.file(f"{name}.pem")) for name in ("cert", "key", "ca")}
    target = home.resolve(
        {
            "NATS_URL": "tls://a,b:7777",
            "NATS_USER": "bob",
            "NATS_PASSWORD": "x",
            "NATS_CERT": files["cert"],
            "NATS_KEY": files["key"],
            "NATS_CA": files["ca"],
            "NATS_TIMEOUT": "250ms",
            "CYBORG_INFRA_INBOX_PREFIX": "_INBOX.reader",
        }
    )
    assert target.inbox_prefix == "_INBOX.reader"
    assert target.urls == ("tls://a:4222", "nats://b:7777")
    assert (target.tls_cert, target.tls_key, target.tls_ca) == tuple(Path(path) for path in files.values())
    assert target.timeout == 0.25
    assert target.tls_wanted
    assert target.login == "user bob and client certificate"


@pytest.mark.parametrize(
    ("name", "variable", "flag"),
    [("token", "NATS_TOKEN", "token"), ("creds", "NATS_CREDS", "creds"), ("nkey", "NATS_NKEY", "nkey")],
)
def test_one_way_to_log_in_by_variable_and_by_option(home: Home, name: str, variable: str, flag: str) -> None:
    file = home.file("key")
    expected = str(file)
    assert str(getattr(home.resolve({variable: str(file)}), name)) == expected
    by_flag = home.resolve({variable: "/nowhere"}, **{flag: str(file)})
    assert str(getattr(by_flag, name)) == expected
    assert spoken(by_flag.sources["login"]) == f"--{flag}"


def test_jwt_and_seed(home: Home) -> None:
    target = home.resolve({"NATS_JWT": "j"}, seed="s")
    assert (target.jwt, target.seed) == ("j", "s")
    assert "needs its seed" in home.problems(jwt="j")


def test_a_user_without_a_password_is_a_token(home: Home) -> None:
    home.context("prod", user="alice", password="a")
    home.select("prod")
    target = home.resolve(user="t0ken")
    assert (target.user, target.password, target.token) == ("", "", "t0ken")


def test_the_login_of_the_strongest_source_is_the_only_one(home: Home) -> None:
    creds = home.file("x.creds")
    home.context("prod", user="alice", password="a", token="t")
    home.select("prod")
    target = home.resolve({"NATS_CREDS": str(creds)})
    assert (target.user, target.password, target.token, target.creds) == ("", "", "", creds)
    assert target.sources["login"] == "NATS_CREDS"
    assert home.resolve({"NATS_CREDS": str(creds)}, user="bob", password="x").creds is None


def test_a_login_in_the_url_is_decoded_and_taken_out(home: Home) -> None:
    target = home.resolve(server="nats://b%40b:p%3A%2Fw@host,other")
    assert (target.user, target.password) == ("b@b", "p:/w")
    assert target.urls == ("nats://host:4222", "nats://other:4222")
    assert home.resolve(server="t%20k@host").token == "t k"
    assert "different users" in home.problems(server="a:b@host,c:d@host")


def test_a_login_in_the_url_beats_options_as_in_every_client(home: Home) -> None:
    target = home.resolve({"NATS_URL": "a:b@host"}, user="bob", password="x")
    assert (target.user, target.password) == ("a", "b")
    assert target.sources["login"] == "URL of NATS_URL"


@pytest.mark.parametrize("url", ["nats://[::1]", "[::1]:4222", " nats://[::1]:4222/ , "])
def test_ipv6(home: Home, url: str) -> None:
    assert home.resolve(server=url).urls == ("nats://[::1]:4222",)


@pytest.mark.parametrize(
    "url", ["nats://", ":4222", "host:0", "host:99999", "host:x", "a b", "host/path", ","]
)
def test_what_is_no_url_is_refused(home: Home, url: str) -> None:
    assert "--server" in home.problems(server=url)


@pytest.mark.parametrize("url", ["ws://host", "wss://host", "http://host", "kafka://host"])
def test_other_schemes_are_refused(home: Home, url: str) -> None:
    assert f"scheme {url.partition(':')[0]}:// is not supported" in home.problems(server=url)


def test_a_context_by_option_variable_selection_and_path(home: Home) -> None:
    for name in ("flag", "variable", "selected"):
        home.context(name, url=f"nats://{name}")
    file = home.file("other.json", '{"url": "nats://file"}')
    assert home.resolve().context == ""
    home.select("selected")
    assert home.resolve().urls == ("nats://selected:4222",)
    variable = {"NATS_CONTEXT": "variable"}
    assert home.resolve(variable).urls == ("nats://variable:4222",)
    assert home.resolve(variable, context="flag").context == "flag"
    assert home.resolve(variable, context=str(file)).urls == ("nats://file:4222",)
    assert home.resolve(variable, context="~/other.json").context == "other"
    assert home.resolve(variable, no_context=True).urls == (DEFAULT_URL,)
    assert "exclude each other" in home.problems(context="flag", no_context=True)


def test_xdg_config_home_holds_the_contexts(home: Home) -> None:
    home.file("xdg/nats/context/a.json", '{"url": "nats://xdg"}')
    assert home.resolve({"XDG_CONFIG_HOME": str(home.path / "xdg")}, context="a").urls == ("nats://xdg:4222",)


def test_an_unknown_context_names_the_known_ones(home: Home) -> None:
    assert "there are none" in home.problems(context="prod")
    home.context("production")
    home.context("staging")
    text = home.problems(context="prodution")
    assert "there is no NATS context 'prodution'" in text
    assert "did you mean production?" in text
    assert "production, staging" in text
    assert "no NATS context '../a'" in home.problems(context="../a")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"url": "x"', "it is no JSON: unexpected end of data at line 1, column 12"),
        ("[]", "one JSON object"),
        ('{"user": 7}', "user must be a text"),
        ('{"tls_first": "yes"}', "tls_first must be true or false"),
        ('{"nsc": "nsc://o/a/u"}', "nsc is not supported"),
        ('{"socks_proxy": "socks5://x"}', "socks_proxy is not supported"),
        ('{"password": "op://vault/item"}', "password is a op: reference, which is not supported"),
        ('{"creds": "nsc://o/a/u"}', "creds is a nsc: reference, which is not supported"),
        ('{"user_seed": "data:;base64,eA=="}', "user_seed is a data: reference, which is not supported"),
        ('{"token": "env://UNSET"}', "token is taken from $UNSET, which is not set"),
        ('{"token": "file:///nowhere"}', "cannot read token from /nowhere: No such file"),
    ],
)
def test_a_context_that_cannot_be_used_says_why(home: Home, text: str, expected: str) -> None:
    file = home.file("bad.json", text)
    problems = home.problems(context=str(file))
    assert expected in problems
    assert str(file) in problems or "nowhere" in problems


def test_a_context_file_that_is_no_text_or_missing(home: Home) -> None:
    (home.path / "bad.json").write_bytes(b"\xff")
    assert "it is no UTF-8 text" in home.problems(context="~/bad.json")
    assert "No such file" in home.problems(context="~/missing.json")


def test_references_in_a_context_are_resolved(home: Home) -> None:
    home.file("secret", "from file\n")
    creds = home.file("x.creds")
    home.context("a", user="u", password="env://PASSWORD")
    home.context("b", token="file://~/secret")
    home.context("c", creds=f"file://{creds}")
    assert home.resolve({"PASSWORD": "from env"}, context="a").password == "from env"
    assert home.resolve(context="b").token == "from file"
    assert home.resolve(context="c").creds == creds


def test_paths_are_expanded(home: Home) -> None:
    creds = home.file("keys/x.creds")
    assert home.resolve(creds="~/keys/x.creds").creds == creds
    assert home.resolve({"KEYS": str(creds.parent)}, creds="$KEYS/x.creds").creds == creds
    assert home.resolve({"KEYS": str(creds.parent)}, creds="${KEYS}/x.creds").creds == creds


def test_missing_files_are_all_named(home: Home) -> None:
    text = home.problems({"NATS_CA": "/no/ca"}, creds="/no/creds", tlscert="/no/cert", tlskey="/no/key")
    for option, path in (
        ("NATS_CA", "/no/ca"),
        ("--creds", "/no/creds"),
        ("--tlscert", "/no/cert"),
        ("--tlskey", "/no/key"),
    ):
        assert f"{option}: cannot read {path}: No such file or directory" in text


def test_a_certificate_and_its_key_belong_together(home: Home) -> None:
    file = str(home.file("x"))
    assert "--tlscert needs --tlskey" in home.problems(tlscert=file)
    assert "NATS_KEY: --tlskey needs --tlscert" in home.problems({"NATS_KEY": file})


@pytest.mark.parametrize("text", ["5", "x", "0s", "0", "-1s"])
def test_a_bad_timeout_is_refused(home: Home, text: str) -> None:
    assert "--timeout: " in home.problems(timeout=text)
    assert "NATS_TIMEOUT: " in home.problems({"NATS_TIMEOUT": text})


def test_domain_and_api_prefix(home: Home) -> None:
    assert home.resolve().api_prefix == "$JS.API"
    assert home.resolve(js_domain="hub").api_prefix == "$JS.hub.API"
    assert home.resolve(js_api_prefix="JS.from.hub.").api_prefix == "JS.from.hub"
    assert "exclude each other" in home.problems(js_domain="hub", js_api_prefix="x")
    assert "no JetStream domain" in home.problems(js_domain="a.b")
    assert "no subject prefix" in home.problems(js_api_prefix="a.>")
    assert "no subject prefix" in home.problems(inbox_prefix="a b")
    home.context("prod", jetstream_domain="hub")
    assert home.resolve(context="prod").domain == "hub"
    assert home.resolve(context="prod", js_api_prefix="x").api_prefix == "x"


def test_credentials_of_a_context_sent_elsewhere_are_pointed_out(home: Home) -> None:
    home.context("prod", url="nats://prod", user="alice", password="a")
    home.select("prod")
    assert home.resolve().warnings == ()
    (warning,) = home.resolve({"NATS_URL": "staging"}).warnings
    assert warning == "the credentials of context prod are sent to nats://staging:4222 (NATS_URL)"
    assert home.resolve({"NATS_URL": "staging"}, user="bob", password="x").warnings == ()


def test_empty_means_not_given(home: Home) -> None:
    home.context("prod", url="nats://prod", token="")
    target = home.resolve({"NATS_URL": "", "NATS_TOKEN": "", "NATS_CONTEXT": ""}, context="prod", user="")
    assert target.urls == ("nats://prod:4222",)
    assert target.login == "no credentials"


def test_secrets_are_in_no_repr() -> None:
    secrets = {"password", "token", "jwt", "seed"}
    assert {field.name for field in fields(Target) if not field.repr} == secrets
    assert {field.name for field in fields(Flags) if not field.repr} == secrets | {"server", "user"}
