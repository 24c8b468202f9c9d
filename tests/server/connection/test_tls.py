"""TLS with server and client certificates: never less than was asked for, and one line where it fails."""

# ruff: noqa: S106 - passwords of the tests' own servers
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from cyborg_infra.live.connection.target import Target
from tests.support.attempts import account_info, refusal
from tests.support.servers import StartServer


@dataclass(frozen=True)
class Certificates:
    """A CA, a server's certificate for 127.0.0.1 and a client's, as files."""

    folder: Path

    def __post_init__(self) -> None:
        ca = trustme.CA()
        ca.cert_pem.write_to_path(self.ca)
        for name, host in (
            ("server", "127.0.0.1"),
            ("elsewhere", "elsewhere.example"),
            ("client", "a@b.example"),
        ):
            issued = ca.issue_cert(host)
            issued.private_key_pem.write_to_path(self.folder / f"{name}.key")
            issued.cert_chain_pems[0].write_to_path(self.folder / f"{name}.pem")
        other = trustme.CA().issue_cert("a@b.example")
        other.private_key_pem.write_to_path(self.folder / "stranger.key")
        other.cert_chain_pems[0].write_to_path(self.folder / "stranger.pem")

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def cert(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def config(self, name: str = "server", more: str = "") -> str:
        """Return a server that wants TLS."""
        return f"tls {{ cert_file: '{self.cert(name)}', key_file: '{self.key(name)}', ca_file: '{self.ca}', {more} }}"


@pytest.fixture
def files(tmp_path: Path) -> Certificates:
    folder = tmp_path / "tls"
    folder.mkdir()
    return Certificates(folder)


def test_with_the_right_ca_it_connects(start_server: StartServer, files: Certificates) -> None:
    url = start_server(config=files.config()).url
    assert account_info(Target(urls=(url,), tls_ca=files.ca))["streams"] == 0
    secure = url.replace("nats:", "tls:")
    assert account_info(Target(urls=(secure,), tls_ca=files.ca))["streams"] == 0


def test_the_end_of_a_connection_is_nothing_to_log(
    start_server: StartServer, files: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """Asyncio would warn of each: nats-py upgrades a plain stream without telling it."""
    url = start_server(config=files.config() + "\nauthorization { user: a, password: b }").url
    assert account_info(Target(urls=(url,), tls_ca=files.ca, user="a", password="b"))["streams"] == 0
    assert "login refused" in refusal(Target(urls=(url,), tls_ca=files.ca, user="a", password="c"))
    assert caplog.records == []


def test_an_unknown_ca_is_not_trusted(start_server: StartServer, files: Certificates) -> None:
    url = start_server(config=files.config()).url
    assert "certificate is not trusted" in refusal(Target(urls=(url,)))
    assert "--tlsca" in refusal(Target(urls=(url,)))


def test_a_certificate_for_another_name_is_refused(start_server: StartServer, files: Certificates) -> None:
    url = start_server(config=files.config("elsewhere")).url
    assert "certificate is for another name" in refusal(Target(urls=(url,), tls_ca=files.ca))


def test_client_certificates(start_server: StartServer, files: Certificates) -> None:
    url = start_server(config=files.config(more="verify: true")).url

    def target(name: str) -> Target:
        return Target(urls=(url,), tls_ca=files.ca, tls_cert=files.cert(name), tls_key=files.key(name))

    assert account_info(target("client"))["streams"] == 0
    assert "client certificate" in refusal(Target(urls=(url,), tls_ca=files.ca))
    assert "client certificate" in refusal(target("stranger"))


def test_tls_first(start_server: StartServer, files: Certificates) -> None:
    url = start_server(config=files.config(more="handshake_first: true")).url
    assert account_info(Target(urls=(url,), tls_ca=files.ca, tls_first=True))["streams"] == 0
    assert "does it want --tlsfirst?" in refusal(Target(urls=(url,), tls_ca=files.ca, timeout=0.3))


def test_tls_first_against_a_server_that_speaks_first(start_server: StartServer, files: Certificates) -> None:
    url = start_server(config=files.config()).url
    target = Target(urls=(url,), tls_ca=files.ca, tls_first=True, timeout=0.5)
    assert "without --tlsfirst?" in refusal(target)


def test_what_is_meant_for_tls_is_never_sent_in_plain_text(
    start_server: StartServer, files: Certificates
) -> None:
    server = start_server(config="authorization { user: bob, password: x }")
    secure = server.url.replace("nats:", "tls:")
    for target in (
        Target(urls=(secure,), user="bob", password="x"),
        Target(urls=(server.url,), user="bob", password="x", tls_ca=files.ca),
    ):
        assert "the server offers none; nothing was sent" in refusal(target)


def test_tls_is_taken_where_it_is_merely_offered(start_server: StartServer, files: Certificates) -> None:
    url = start_server(config=f"{files.config()}\nallow_non_tls: true").url
    assert account_info(Target(urls=(url,), tls_ca=files.ca))["streams"] == 0
    assert "certificate is not trusted" in refusal(Target(urls=(url.replace("nats:", "tls:"),)))


def test_unusable_files_are_found_before_connecting(files: Certificates) -> None:
    nowhere = ("nats://127.0.0.1:1",)
    broken = files.folder / "broken"
    broken.write_text("no PEM")
    assert f"cannot use CA file {broken}" in refusal(Target(urls=nowhere, tls_ca=broken))
    pair = Target(urls=nowhere, tls_ca=files.ca, tls_cert=files.cert("client"), tls_key=files.key("stranger"))
    assert "cannot use client certificate" in refusal(pair)
