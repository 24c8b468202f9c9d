"""The product in one minute: plan, apply, break and repair an organisation on a server of its own, where everybody has a key.

Runs the real command line as anybody would. Touches nothing outside a temporary directory.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from cyborg_infra.operations import provision

MANIFEST = Path(__file__).resolve().parents[1] / "org.yaml"
DONE, DIFFERENCES = 0, 2
INTERRUPTED, TERMINATED = 130, 143


class NotAsTold(Exception):
    """A command did not end as the story says."""


def main() -> int:
    """Tell the story against a fresh server; 0 only if everything went as told. The server is gone afterwards."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # leaves every `with` on its way out
    try:
        with tempfile.TemporaryDirectory(prefix="cyborg-infra-demo-") as directory:
            home = Path(directory)
            say(
                "Every agent gets a key of its own, and so does whoever plans, and whoever applies.",
                "The server is told what each of them may do.",
            )
            env = environment(home)
            run(f"auth keys org.yaml --dir {home / 'keys'}", env, expected=DONE)
            config = home / "agents.conf"
            run(
                f"auth config org.yaml --keys {home / 'keys'} --out {config}", env, expected=DONE, shown=False
            )
            with provision.embedded_server(home, config=config.read_text(encoding="utf-8")) as server:
                say("A nats-server with JetStream is running on loopback; it is empty.")
                tell(Server(server.url, home))
            say("The server is stopped and its data is gone. All went as told.")
    except NotAsTold as fault:
        say(f"THE DEMO FAILED: {fault}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted. The server is stopped and its data is gone.")
        return INTERRUPTED
    return 0


class Server(NamedTuple):
    """Where the organisation is, and the directory with everybody's keys."""

    url: str
    home: Path

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment in which a command is run as somebody."""
        own = {
            "NATS_URL": self.url,
            "NATS_NKEY": str(self.seed(name)),
            "CYBORG_INFRA_INBOX_PREFIX": f"_INBOX.{name}",
        }
        return environment(self.home) | own

    def seed(self, name: str) -> Path:
        """Return the file with somebody's key."""
        return self.home / "keys" / f"{name}.nk"

    async def connect(
        self, name: str, on_error: Callable[[Exception], Awaitable[None]] | None = None
    ) -> Client:
        """Return a connection as somebody, as any NATS client makes it."""
        inbox = f"_INBOX.{name}".encode()
        return await nats.connect(
            self.url, nkeys_seed=str(self.seed(name)), inbox_prefix=inbox, error_cb=on_error
        )


def environment(home: Path) -> dict[str, str]:
    """Ours, without anybody's NATS settings."""
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("NATS_", "CYBORG_INFRA_"))
    }
    return kept | {"XDG_CONFIG_HOME": str(home)}


def tell(server: Server) -> None:
    """The story. Raises NotAsTold where the product does something else."""
    print(f"\n$ export NATS_URL={server.url}")
    reader, writer = server.environment("reader"), server.environment("writer")
    say(
        "1. org.yaml lists seven roles and four events. What would it make of the",
        "   server? This writes nothing, and whoever runs it may only read.",
    )
    run("plan org.yaml --detailed-exitcode", reader, expected=DIFFERENCES)
    say("2. Make it so.")
    run("apply org.yaml --yes", writer, expected=DONE)
    say("3. Planned again, there is nothing left to do.")
    run("plan org.yaml --detailed-exitcode", reader, expected=DONE)

    say(
        "4. Somebody changes one setting by hand: ack_wait of the CTO's worker goes",
        "   from 30m to the server's default of 30s. A task that takes longer than",
        "   half a minute is from now on handed out a second time, and paid twice.",
    )
    asyncio.run(set_ack_wait(server, seconds=30))
    run("drift org.yaml", reader, expected=DIFFERENCES)
    say("   Exit code 2: a CI job that runs `drift` fails here.")

    say("5. Apply puts it right.")
    run("apply org.yaml --yes", writer, expected=DONE)
    run("drift org.yaml", reader, expected=DONE)

    say("6. The CTO's agent reads its own queue, and then, by mistake, the CEO's.")
    for role in ("cto", "ceo"):
        print(f"   {role}-worker: {asyncio.run(pull_as_cto(server, role))}", flush=True)


def say(*lines: str) -> None:
    """One paragraph of narration."""
    print("\n" + "\n".join(lines), flush=True)


def run(command: str, env: dict[str, str], *, expected: int, shown: bool = True) -> None:
    """Runs the real command, and shows it, with what it prints if that is `shown`. Raises NotAsTold unless it exits with `expected`."""
    print(f"\n$ cyborg-infra {command}", flush=True)
    ended = subprocess.run(
        [sys.executable, "-m", "cyborg_infra", *shlex.split(command)],
        cwd=MANIFEST.parent,
        env=env,
        stdout=None if shown else subprocess.DEVNULL,
        check=False,
    )
    if ended.returncode != expected:
        raise NotAsTold(f"`{command}` exited with {ended.returncode} instead of {expected}")


async def set_ack_wait(server: Server, *, seconds: int) -> None:
    """Changes the worker as any NATS client can: read its configuration, write it back with another ack_wait."""
    connection = await server.connect("writer")
    try:
        path = "AGENT_CTO_TASKS.cto-worker"
        read = await connection.request(f"$JS.API.CONSUMER.INFO.{path}", timeout=5)
        config = json.loads(read.data)["config"] | {"ack_wait": seconds * 1_000_000_000}
        body = json.dumps({"stream_name": "AGENT_CTO_TASKS", "config": config}).encode()
        answer = json.loads(
            (await connection.request(f"$JS.API.CONSUMER.CREATE.{path}", body, timeout=5)).data
        )
    finally:
        await connection.close()
    if "error" in answer:
        raise NotAsTold(f"the server refused the change: {answer['error']}")


async def pull_as_cto(server: Server, role: str) -> str:
    """Return what the server says when the CTO's agent pulls from the queue of a role. Raises NotAsTold unless that is as it should be."""
    said = asyncio.Queue[str | Exception]()

    async def answered(message: Msg) -> None:
        await said.put((message.headers or {}).get("Description", "a task"))

    connection = await server.connect("cto", said.put)
    try:
        inbox = connection.new_inbox()
        await connection.subscribe(inbox, cb=answered)
        pull = f"$JS.API.CONSUMER.MSG.NEXT.AGENT_{role.upper()}_TASKS.{role}-worker"
        await connection.publish(pull, b'{"no_wait": true}', reply=inbox)
        answer = await asyncio.wait_for(said.get(), timeout=10)
    finally:
        await connection.close()
    is_refused = isinstance(answer, Exception)
    if is_refused != (role != "cto"):
        raise NotAsTold(f"the CTO's agent asked {role}-worker, and the server said: {answer}")
    return str(answer)


if __name__ == "__main__":
    sys.exit(main())
