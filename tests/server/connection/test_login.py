"""Every way to log in, right and wrong: right answers for JetStream, wrong is one line that names the way."""

# ruff: noqa: S106 - passwords of the tests' own servers
from __future__ import annotations

from pathlib import Path

import pytest

from cyborg_infra.live.api.errors import ApiError, Retry, raise_for_error
from cyborg_infra.live.connection.target import Flags, Target, resolve
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.key_pairs import KeyKind
from cyborg_infra.operations.key_files import credentials, new_key
from tests.support.attempts import account_info, fault, refusal
from tests.support.operator_mode import Operator
from tests.support.servers import StartServer

PASSWORD = 'p@ss/w:rd, "100%"'


@pytest.fixture
def operator() -> Operator:
    return Operator()


def test_user_and_password(start_server: StartServer) -> None:
    users = "authorization { user: bob, password: 'p@ss/w:rd, \"100%\"' }"
    url = start_server(config=users).url
    assert account_info(Target(urls=(url,), user="bob", password=PASSWORD))["streams"] == 0
    assert refusal(Target(urls=(url,), user="bob", password="no")) == (
        f"cannot connect to {url}: login refused (user bob): Authorization Violation"
    )
    assert "login refused (no credentials)" in refusal(Target(urls=(url,)))


def test_a_password_in_the_url_may_hold_anything_percent_encoded(start_server: StartServer) -> None:
    server = start_server(config="authorization { user: bob, password: 'p@ss/w:rd, \"100%\"' }")
    url = f"nats://bob:p%40ss%2Fw%3Ard%2C%20%22100%25%22@127.0.0.1:{server.port}"
    target = resolve(Flags(server=url), {})
    assert target.password == PASSWORD
    assert account_info(target)["streams"] == 0


def test_token(start_server: StartServer) -> None:
    url = start_server(config="authorization { token: s3cr3t }").url
    assert account_info(Target(urls=(url,), token="s3cr3t"))["streams"] == 0
    assert "login refused (token): Authorization Violation" in refusal(Target(urls=(url,), token="no"))


def test_nkey(start_server: StartServer, tmp_path: Path) -> None:
    known, stranger = new_key(KeyKind.USER), new_key(KeyKind.USER)
    url = start_server(config=f"authorization {{ users: [ {{ nkey: {known.public} }} ] }}").url
    seed = tmp_path / "user.nk"
    seed.write_text(f"{known.seed}\n")
    assert account_info(Target(urls=(url,), nkey=seed))["streams"] == 0
    seed.write_text(stranger.seed)
    assert f"login refused (nkey file {seed})" in refusal(Target(urls=(url,), nkey=seed))


def test_credentials_file_in_operator_mode(
    start_server: StartServer, operator: Operator, tmp_path: Path
) -> None:
    url = start_server(config=operator.config).url
    creds = operator.creds(tmp_path / "agents.creds", "AGENTS")
    info = account_info(Target(urls=(url,), creds=creds))
    assert (info["limits"]["max_streams"], info["limits"]["max_consumers"]) == (7, 11)
    foreign = Operator().creds(tmp_path / "foreign.creds", "AGENTS")
    assert f"login refused (credentials file {foreign})" in refusal(Target(urls=(url,), creds=foreign))


def test_user_jwt_and_seed_in_operator_mode(start_server: StartServer, operator: Operator) -> None:
    url = start_server(config=operator.config).url
    jwt, seed = operator.user("AGENTS")
    assert account_info(Target(urls=(url,), jwt=jwt, seed=seed))["limits"]["max_streams"] == 7
    other = new_key(KeyKind.USER).seed
    assert "login refused (user JWT and seed)" in refusal(Target(urls=(url,), jwt=jwt, seed=other))


def test_an_account_without_jetstream_answers_with_an_error_that_helps(
    start_server: StartServer, operator: Operator, tmp_path: Path
) -> None:
    url = start_server(config=operator.config).url
    info = account_info(Target(urls=(url,), creds=operator.creds(tmp_path / "bare.creds", "BARE")))
    with pytest.raises(ApiError) as caught:
        raise_for_error(info, "reading the account")
    error = caught.value
    assert (error.code, error.err_code, error.retry) == (
        503,
        ErrorCode.JSNotEnabledForAccountErr,
        Retry.NEVER,
    )
    assert "reading the account: JetStream not enabled for account (err_code 10039)" in str(error)
    assert "nats errors lookup 10039" in str(error)


def test_permissions_of_a_user_jwt_are_named(
    start_server: StartServer, operator: Operator, tmp_path: Path
) -> None:
    url = start_server(config=operator.config).url
    creds = operator.creds(tmp_path / "ro.creds", "AGENTS", pub={"deny": ["$JS.API.STREAM.CREATE.>"]})
    assert "may not publish to $JS.API.STREAM.CREATE.X" in str(
        fault(Target(urls=(url,), creds=creds), "$JS.API.STREAM.CREATE.X")
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "there is no user JWT in it"),
        (
            "-----BEGIN NATS USER JWT-----\nx.y.z\n------END NATS USER JWT------\n",
            "there is no user seed in it",
        ),
        (credentials("x.y.z", "SUBROKEN"), "it holds no valid user seed"),
        (credentials("x.y.z", "SU" + "A" * 56), "it holds no valid user seed"),
    ],
)
def test_a_broken_credentials_file_is_found_before_connecting(
    tmp_path: Path, text: str, expected: str
) -> None:
    creds = tmp_path / "broken.creds"
    creds.write_text(text)
    assert expected in refusal(Target(urls=("nats://127.0.0.1:1",), creds=creds))


def test_a_broken_nkey_file_is_found_before_connecting(tmp_path: Path) -> None:
    seed = tmp_path / "user.nk"
    seed.write_bytes(b"\xff\xfe")
    assert "no UTF-8 text" in refusal(Target(urls=("nats://127.0.0.1:1",), nkey=seed))
    seed.write_text(Operator().key.seed)
    assert f"nkey file {seed}: it holds no valid user seed" in refusal(
        Target(urls=("nats://127.0.0.1:1",), nkey=seed)
    )
