"""The product in one minute: plan, apply, break and repair an organisation on a server of its own.

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
from pathlib import Path

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
        with tempfile.TemporaryDirectory(prefix="cyborg-infra-demo-") as store:
            with provision.embedded_server(Path(store)) as server:
                say("A nats-server with JetStream is running on loopback; it is empty.")
                tell(server.url, environment(server.url, store))
            say("The server is stopped and its data is gone. All went as told.")
    except NotAsTold as fault:
        say(f"THE DEMO FAILED: {fault}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted. The server is stopped and its data is gone.")
        return INTERRUPTED
    return 0


def environment(url: str, home: str) -> dict[str, str]:
    """Ours, with this server and without anybody's NATS settings."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("NATS_")}
    return kept | {"NATS_URL": url, "XDG_CONFIG_HOME": home}


def tell(url: str, env: dict[str, str]) -> None:
    """The story. Raises NotAsTold where the product does something else."""
    print(f"\n$ export NATS_URL={url}")
    say(
        "1. org.yaml lists seven roles and four events. What would it make of the",
        "   server? This writes nothing.",
    )
    run("plan org.yaml --detailed-exitcode", env, expected=DIFFERENCES)
    say("2. Make it so.")
    run("apply org.yaml --yes", env, expected=DONE)
    say("3. Planned again, there is nothing left to do.")
    run("plan org.yaml --detailed-exitcode", env, expected=DONE)

    say(
        "4. Somebody changes one setting by hand: ack_wait of the CTO's worker goes",
        "   from 30m to the server's default of 30s. A task that takes longer than",
        "   half a minute is from now on handed out a second time, and paid twice.",
    )
    asyncio.run(set_ack_wait(url, seconds=30))
    run("drift org.yaml", env, expected=DIFFERENCES)
    say("   Exit code 2: a CI job that runs `drift` fails here.")

    say("5. Apply puts it right.")
    run("apply org.yaml --yes", env, expected=DONE)
    run("drift org.yaml", env, expected=DONE)


def say(*lines: str) -> None:
    """One paragraph of narration."""
    print("\n" + "\n".join(lines), flush=True)


def run(command: str, env: dict[str, str], *, expected: int) -> None:
    """Shows and runs the real command. Raises NotAsTold unless it exits with `expected`."""
    print(f"\n$ cyborg-infra {command}", flush=True)
    ended = subprocess.run(
        [sys.executable, "-m", "cyborg_infra", *shlex.split(command)],
        cwd=MANIFEST.parent,
        env=env,
        check=False,
    )
    if ended.returncode != expected:
        raise NotAsTold(f"`{command}` exited with {ended.returncode} instead of {expected}")


async def set_ack_wait(url: str, *, seconds: int) -> None:
    """Changes the worker as any NATS client can: read its configuration, write it back with another ack_wait."""
    import nats

    connection = await nats.connect(url)
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


if __name__ == "__main__":
    sys.exit(main())
