"""Whole processes beside their floors, in one run on one machine: only the ratios mean anything.

`plan` of an applied organisation of N roles, against starting Python alone and against reading the same
streams and consumers one by one with nats-py; `apply` to an empty server, against sending the same requests
over a bare socket. Asserts nothing: a number here is read by people.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyborg_infra import offline, pipeline

ROLES = 100
REPEATS = 5
COMMAND = (sys.executable, "-m", "cyborg_infra")


def main() -> None:
    """Prints the table. Takes about half a minute."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        manifest = home / "org.yaml"
        roles = ", ".join(f"role-{number}" for number in range(ROLES))
        manifest.write_text(f"org: bench\nroles: [{roles}]\n", encoding="utf-8")
        _, _, desired = offline.show(str(manifest))
        requests = [_create(ref, resource.config) for ref, resource in desired.resources.items()]
        print(f"{ROLES} roles: {len(desired.streams())} streams, {len(desired.consumers())} consumers")
        print(f"median of {REPEATS}, in milliseconds; beside it how many times its floor\n")
        _apply(home, manifest, requests)
        _plan(home, manifest)


def _apply(home: Path, manifest: Path, requests: list[tuple[str, bytes]]) -> None:
    def fresh(number: int, work: Callable[[pipeline.Flags], None]) -> float:
        with pipeline.embedded(home / f"apply{number}") as server:
            return _milliseconds(lambda: work(pipeline.Flags(server=server.url)))

    floor = [fresh(number, lambda flags: _send(flags.server, requests)) for number in range(REPEATS)]
    ours = [
        fresh(REPEATS + number, lambda flags: _cli("apply", str(manifest), "--yes", url=flags.server))
        for number in range(REPEATS)
    ]
    _row("apply to an empty server", ours, "the same requests, 32 in flight, on a bare socket", floor)


def _plan(home: Path, manifest: Path) -> None:
    with pipeline.embedded(home / "plan") as server:
        _cli("apply", str(manifest), "--yes", url=server.url)
        ours = [_milliseconds(lambda: _cli("plan", str(manifest), url=server.url)) for _ in range(REPEATS)]
        start = [_milliseconds(lambda: _python("pass")) for _ in range(REPEATS)]
        naive = [
            _milliseconds(
                lambda: _python(
                    f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]; "
                    f"import ratios; ratios.read_naively({server.url!r})"
                )
            )
            for _ in range(REPEATS)
        ]
    _row("plan without changes", ours, "python -c pass", start)
    _row("plan without changes", ours, "nats-py, one read after the other", naive)


def read_naively(url: str) -> None:
    """Every stream and consumer as the documentation of nats-py reads them: one after the other."""
    import nats

    async def read() -> None:
        connection = await nats.connect(url)
        js = connection.jetstream()
        names = [str(info.config.name) for info in await js.streams_info_iterator()]
        for name in names:
            for consumer in await js.consumers_info(name):
                await js.consumer_info(name, str(consumer.name))
        await connection.close()

    asyncio.run(read())


def _create(ref: Any, config: Any) -> tuple[str, bytes]:
    if not ref.consumer:
        return f"$JS.API.STREAM.CREATE.{ref.stream}", json.dumps(config).encode()
    body = {"stream_name": ref.stream, "config": config, "action": "create"}
    return f"$JS.API.CONSUMER.CREATE.{ref.stream}.{ref.consumer}", json.dumps(body).encode()


def _send(url: str, requests: list[tuple[str, bytes]]) -> None:
    """The requests over one socket, streams before consumers, 32 unanswered at any time."""
    host, _, port = url.removeprefix("nats://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        answers = connection.makefile("rb")
        answers.readline()
        connection.sendall(b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n')
        for consumers in (False, True):
            wave = [request for request in requests if (".CONSUMER." in request[0]) is consumers]
            for first in range(0, len(wave), 32):
                part = wave[first : first + 32]
                connection.sendall(
                    b"".join(
                        b"PUB %s answer %d\r\n%s\r\n" % (to.encode(), len(body), body) for to, body in part
                    )
                )
                for _ in part:
                    _answer(answers)


def _answer(answers: Any) -> None:
    """Reads one message, which is no error."""
    line = answers.readline()
    while not line.startswith(b"MSG"):
        line = answers.readline()
    body = answers.read(int(line.split()[-1]) + 2)
    if b'"error"' in body:
        raise RuntimeError(body.decode())


def _cli(*arguments: str, url: str) -> None:
    env = os.environ | {"NATS_URL": url}
    subprocess.run([*COMMAND, *arguments], env=env, check=True, capture_output=True)


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def _milliseconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def _row(what: str, ours: list[float], floor_is: str, floor: list[float]) -> None:
    mine, theirs = statistics.median(ours), statistics.median(floor)
    print(f"{what:<26} {mine:7.0f}   {floor_is:<50} {theirs:7.0f}   x {mine / theirs:.1f}")


if __name__ == "__main__":
    main()
