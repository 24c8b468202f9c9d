"""Organisations of any size, by the product's own command and by the floor: what every part of the benchmark starts from."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import floor
from benchmarks.measure import Run, run

COMMAND = str(Path(sys.executable).with_name("cyborg-infra"))
"""The command as users run it: the script that was installed beside Python."""

NAME = "bench"
_ROLE = """  {name}:
    description: Answers for part {number} of the business
    worker: {{ack_wait: 45m, max_ack_pending: 10}}
"""

MANY = 1000
"""From so many roles on, DEAD_LETTERS takes the notices of the whole account: one pair of subjects for each stream is
compared with every other pair (docs/scale.md)."""

_WILDCARDS = f"""streams:
  dead_letters:
    subjects:
      - {NAME}.org.deadletter
      - $JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.*.*
      - $JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.*.*
"""

_LOAD = """
import gc, sys, time, yaml
gc.disable()
start = time.perf_counter()
with open(sys.argv[1], "rb") as file:
    yaml.load(file, yaml.CSafeLoader)
print(time.perf_counter() - start)
"""


@dataclass(frozen=True, slots=True)
class Organisation:
    """So many roles, each with a description and two settings of its own; the files are in `home`."""

    home: Path
    roles: int
    replicas: int = 1

    @property
    def manifest(self) -> Path:
        """The file, written when it is first asked for."""
        path = self.home / f"org{self.roles}x{self.replicas}.yaml"
        if not path.exists():
            text = f"org: {NAME}\ndefaults: {{replicas: {self.replicas}}}\nroles:\n"
            if self.roles >= MANY:
                text = text.replace("roles:", _WILDCARDS + "roles:")
            text += "".join(_ROLE.format(name=role(number), number=number) for number in range(self.roles))
            path.write_text(text, encoding="utf-8")
        return path

    @property
    def size(self) -> int:
        """How many streams and consumers: of each role a stream and three consumers, and what is there once."""
        return 4 * self.roles + 4

    @property
    def shown(self) -> Path:
        """What `show --format json` prints of it."""
        path = self.manifest.with_suffix(".json")
        if not path.exists():
            self.command("show", "--format", "json", output=path)
        return path

    def content(self) -> Any:
        """Return the same as data."""
        return json.loads(self.shown.read_bytes())

    def command(self, verb: str, *options: str, url: str = "", output: Path | None = None) -> Run:
        """Return the product's command on the manifest. Raises CommandFailed."""
        server = ("--server", url) if url else ()
        return run((COMMAND, verb, str(self.manifest), *server, *options), self.home, output=output)

    def floor(self, verb: str, url: str) -> Run:
        """Return the bare `create` or `read`, without the start of the process. Raises CommandFailed."""
        return self._told(floor.__file__, verb, url, str(self.shown))

    def loading(self) -> Run:
        """Return the manifest read by PyYAML's C loader and nothing else, without the start. Raises CommandFailed."""
        return self._told("-c", _LOAD, str(self.manifest))

    def python(self, code: str) -> Run:
        """Return nothing but Python with this code. Raises CommandFailed."""
        return run((sys.executable, "-c", code), self.home)

    def _told(self, *arguments: str) -> Run:
        """With the seconds that the program itself printed."""
        printed = self.home / "seconds"
        whole = run((sys.executable, *arguments), self.home, output=printed)
        return replace(whole, seconds=float(printed.read_text(encoding="ascii")))


def role(number: int) -> str:
    """Return the name of a role."""
    return f"role-{number:05d}"
