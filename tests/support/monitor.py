"""`cyborg-infra monitor` as a process, and what it serves."""

from __future__ import annotations

import base64
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from tests.support.agents import until
from tests.support.cli import CommandResult, spawn

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Name without the prefix, and labels without `org`, -> value."""


class Answer(NamedTuple):
    """What a path was answered with."""

    code: int
    content_type: str
    text: str


def get(url: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return the answer, also if it is an error. Raises OSError where nobody answers."""
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310 - a loopback URL of ours
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return Answer(answer.status, answer.headers.get("content-type", ""), answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers.get("content-type", ""), error.read().decode())


def basic(password: str) -> dict[str, str]:
    """Return the header that a browser sends."""
    return {"Authorization": f"Basic {base64.b64encode(f'anybody:{password}'.encode()).decode()}"}


def samples(answer: Answer) -> Samples:
    """Return what is in an exposition, by the parser of its own format."""
    openly = answer.content_type.startswith("application/openmetrics-text")
    families = open_metrics_families if openly else text_string_to_metric_families
    return {
        (
            sample.name.removeprefix("cyborg_infra_"),
            frozenset((name, value) for name, value in sample.labels.items() if name != "org"),
        ): sample.value
        for family in families(answer.text)
        for sample in family.samples
    }


class RunningMonitor:
    """Runs for the block, with these options; it reads as often as it may."""

    def __init__(self, *options: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        intervals = ("--interval", "1s", "--drift-interval", "1s")
        self._process: subprocess.Popen[str] = spawn(
            "monitor", "--listen", "127.0.0.1:0", *intervals, *options, cwd=cwd, env=env
        )
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        found = re.search(r"https?://\S+", line)
        assert found, line + self._process.communicate(timeout=60)[1]
        self.url = found[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.end()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return get(self.url + path, headers)

    def samples(self, accept: str = "") -> Samples:
        """Return what /metrics has."""
        return samples(self.get("/metrics", {"Accept": accept}))

    def sample(self, name: str, **labels: str) -> float | None:
        """Return one of them; None where there is none."""
        return self.samples().get((name, frozenset(labels.items())))

    def until(self, holds: Callable[[Samples], object]) -> Samples:
        """Return the metrics once this holds of them."""
        last: list[Samples] = []

        def look() -> object:
            last[:] = [self.samples()]
            return holds(last[0])

        until(look)
        return last[0]

    def end(self) -> CommandResult:
        """Return how it ends on SIGTERM."""
        self._process.terminate()
        out, err = self._process.communicate(timeout=60)
        return CommandResult(self._process.returncode, out, err)

    def kill(self) -> None:
        """Kill it: it does nothing any more."""
        self._process.kill()
        self._process.communicate(timeout=60)


def alarm(found: Samples, code: str) -> float | None:
    """Return how many alarms of this code there are; None where nobody can tell."""
    return found.get(("alarms", frozenset({("code", code)})))


def value(found: Samples, name: str, **labels: str) -> float | None:
    """Return one sample; None where there is none."""
    return found.get((name, frozenset(labels.items())))
