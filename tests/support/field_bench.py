"""One server of one version, on which tests/server/plan/test_fields.py makes a stream or consumer and changes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.server_versions import Version, level_of
from tests.support.field_cases import ORIGIN, OTHER_ORIGIN
from tests.support.nats_client import Api, is_haunted
from tests.support.servers import server_binary

Config = dict[str, Any]

VALID_ONCE_MADE = ("sealed",)
"""A stream has to exist before it can be sealed."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A server of one version, with a stream HOME for consumers; what is made on it is gone after each test."""

    version: Version
    api: Api

    @property
    def level(self) -> int:
        """Its API level, as the table knows it."""
        return level_of(self.version)

    def create(self, kind: Kind, config: Config) -> Config:
        """Return the server's answer to a new stream CASE or consumer HOME/case."""
        if kind is Kind.STREAM:
            return self.api.request("$JS.API.STREAM.CREATE.CASE", {"name": "CASE", **config})
        return self._consumer("create", config)

    def update(self, kind: Kind, config: Config) -> Config:
        """Return the server's answer to a change of it."""
        if kind is Kind.STREAM:
            return self.api.request("$JS.API.STREAM.UPDATE.CASE", {"name": "CASE", **config})
        return self._consumer("update", config)

    def held(self, kind: Kind) -> Config:
        """Return its configuration, as INFO shows it."""
        place = "STREAM.INFO.CASE" if kind is Kind.STREAM else "CONSUMER.INFO.HOME.case"
        config: Config = self.api.request(f"$JS.API.{place}")["config"]
        return config

    def delete(self, kind: Kind) -> None:
        """It is gone, if it was there."""
        place = "STREAM.DELETE.CASE" if kind is Kind.STREAM else "CONSUMER.DELETE.HOME.case"
        self.api.request(f"$JS.API.{place}")

    def make(self, kind: Kind, config: Config) -> Config:
        """Return what the server holds of a fresh one with this configuration."""
        at_first = {name: value for name, value in config.items() if name not in VALID_ONCE_MADE}
        while True:
            self.delete(kind)
            answer = self.create(kind, at_first)
            assert "error" not in answer, (config, answer["error"])
            if not is_haunted(answer):
                break
        if at_first != config:
            answer = self.update(kind, {**answer["config"], **config})
            assert "error" not in answer, (config, answer["error"])
        return self.held(kind)

    def _consumer(self, action: str, config: Config) -> Config:
        named = {"name": "case", "durable_name": "case", **config}
        body = {"stream_name": "HOME", "action": action, "config": named}
        return self.api.request("$JS.API.CONSUMER.CREATE.HOME.case", body)


class Benches(dict[str, Bench]):
    """Version -> bench; its server is started when it is asked for first."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._servers: list[EmbeddedServer] = []

    def __missing__(self, version: str) -> Bench:
        server = EmbeddedServer(self._home / version, binary=server_binary(version)).start()
        self._servers.append(server)
        api = Api(server.url)
        for name, subject in ((ORIGIN, "origin.>"), (OTHER_ORIGIN, "other.>"), ("HOME", "home.>")):
            stream = {"name": name, "subjects": [subject], "allow_direct": name != "HOME"}
            assert "error" not in api.request(f"$JS.API.STREAM.CREATE.{name}", stream)
        self[version] = Bench(Version.parse(version), api)
        return self[version]

    def close(self) -> None:
        """No server of these runs any more."""
        for bench in self.values():
            bench.api.close()
        for server in self._servers:
            server.kill()
