"""Other tools that can make the same streams and consumers, where they are installed. What is absent is said.

The `nats` CLI as people script it, one process for each object; terraform or tofu with the JetStream provider, whose
directory is in BENCH_PROVIDER_DIR or on PATH (it is used through dev_overrides, so nothing is downloaded).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.measure import Run, run
from benchmarks.organisation import Organisation

PROVIDER = "terraform-provider-jetstream"
PROVIDER_VARIABLE = "BENCH_PROVIDER_DIR"
_SECOND = 1_000_000_000


Work = Callable[[Organisation, str], Run]


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool. `create` makes the organisation on the empty server at a URL, `check` then looks whether it is as it was."""

    name: str
    version: str
    largest: int  # roles; beyond that it takes too long to be measured whole
    create: Work
    check: Work


def installed() -> tuple[list[Peer], list[str]]:
    """Return the peers that are there, and in words which are not."""
    peers, absent = [], []
    if shutil.which("nats"):
        version = _said("nats", "--version")
        peers.append(Peer("nats CLI, one process per object", version, 100, _nats_create, _nats_check))
    else:
        absent.append("the nats CLI: not on PATH")
    tool = next(filter(shutil.which, ("tofu", "terraform")), None)
    provider = shutil.which(PROVIDER, path=os.environ.get(PROVIDER_VARIABLE, os.environ.get("PATH")))
    if tool and provider:
        version = _said(tool, "version").partition("\n")[0]
        peers.append(
            Peer(
                f"{tool} with the JetStream provider", version, 1000, *_terraform(tool, Path(provider).parent)
            )
        )
    else:
        what = (
            "neither tofu nor terraform is on PATH"
            if not tool
            else f"no {PROVIDER} on PATH or in {PROVIDER_VARIABLE}"
        )
        absent.append(f"the JetStream provider: {what}")
    return peers, absent


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _nats_create(organisation: Organisation, url: str) -> Run:
    commands = []
    for number, row in enumerate(_rows(organisation)):
        config = organisation.home / f"nats{number}.json"
        config.write_text(json.dumps(row["config"]), encoding="utf-8")
        commands.append((*_nats(url, "add", row), "--config", str(config)))
    return _one_by_one(commands, organisation)


def _nats_check(organisation: Organisation, url: str) -> Run:
    return _one_by_one([(*_nats(url, "info", row), "--json") for row in _rows(organisation)], organisation)


def _rows(organisation: Organisation) -> list[dict[str, Any]]:
    """Return streams before consumers."""
    content = organisation.content()
    return [*content["streams"], *content["consumers"]]


def _nats(url: str, verb: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    consumer = row.get("consumer")
    names = (row["stream"], consumer) if consumer else (row["stream"],)
    return ("nats", "--no-context", "--server", url, "consumer" if consumer else "stream", verb, *names)


def _one_by_one(commands: Sequence[Sequence[str]], organisation: Organisation) -> Run:
    """Return all of them, and the time between them."""
    start = time.perf_counter()
    runs = [run(command, organisation.home) for command in commands]
    seconds = time.perf_counter() - start
    return Run(seconds, sum(each.cpu for each in runs), max(each.peak for each in runs))


def _terraform(tool: str, provider: Path) -> tuple[Work, Work]:
    """Creating and checking with a directory, and so a state file, for each server."""

    def create(organisation: Organisation, url: str) -> Run:
        home = _directory(organisation, url)
        home.mkdir()
        overrides = f'dev_overrides {{ "nats-io/jetstream" = "{provider}" }}'
        (home / "cli.tfrc").write_text(
            f"provider_installation {{\n  {overrides}\n  direct {{}}\n}}\n", encoding="utf-8"
        )
        content = _resources(organisation.content(), url)
        (home / "main.tf.json").write_text(json.dumps(content), encoding="utf-8")
        return do(organisation, url, "apply", "-auto-approve")

    def check(organisation: Organisation, url: str) -> Run:
        return do(organisation, url, "plan")

    def do(organisation: Organisation, url: str, verb: str, *options: str) -> Run:
        home = _directory(organisation, url)
        settings = {"TF_CLI_CONFIG_FILE": str(home / "cli.tfrc"), "CHECKPOINT_DISABLE": "1"}
        command = (tool, f"-chdir={home}", verb, "-input=false", "-no-color", *options)
        return run(command, organisation.home, settings=settings)

    return create, check


def _directory(organisation: Organisation, url: str) -> Path:
    return organisation.home / f"{organisation.roles}-{urlsplit(url).port}"


def _resources(content: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Return as somebody would write it by hand: what differs from the provider's own defaults."""
    return {
        "terraform": {"required_providers": {"jetstream": {"source": "nats-io/jetstream"}}},
        "provider": {"jetstream": {"servers": url}},
        "resource": {
            "jetstream_stream": dict(_streams(content)),
            "jetstream_consumer": dict(_consumers(content)),
        },
    }


def _streams(content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in content["streams"]:
        config = row["config"]
        kept = {name: config[name] for name in ("name", "subjects", "max_bytes", "max_msgs", "max_consumers")}
        age = {"max_age": config["max_age"] // _SECOND} if config["max_age"] else {}
        yield row["stream"], kept | age


def _consumers(content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in content["consumers"]:
        config = row["config"]
        yield (
            f"{row['stream']}_{row['consumer']}",
            {
                "stream_id": f"${{jetstream_stream.{row['stream']}.id}}",
                "durable_name": config["durable_name"],
                "deliver_all": True,
                "ack_wait": config["ack_wait"] // _SECOND,
                "max_delivery": config["max_deliver"],
                "max_ack_pending": config["max_ack_pending"],
            }
            | ({"filter_subject": config["filter_subject"]} if "filter_subject" in config else {}),
        )
