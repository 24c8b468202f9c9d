"""The image of the Dockerfile, built by a real builder, does what the cluster's Jobs ask of it: as nobody, with a read-only root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.judges import registry
from tests.judges.conftest import RunJudge
from tests.judges.kubernetes import KUSTOMIZE, OPTIONS, container, documents, helm_template
from tests.judges.registry import AS_ROOT, ROOT
from tests.support.cli import CommandResult, run_process
from tests.support.nats_client import Api

BASE = "docker.io/library/python:3.13-slim"
"""What the Dockerfile begins with. No registry of images is asked here: a small Debian with its Python has the name."""

CONTAIN = """
root=$1 manifest=$2 secrets=$3; shift 3
mount --bind "$root" "$root"
for each in dev proc; do mount --rbind "/$each" "$root/$each"; done
mount --bind "$manifest" "$root/etc/cyborg-infra"
mount --bind "$secrets" "$root/run/secrets/cyborg-infra"
mount --options remount,bind,ro "$root"
if touch "$root/written" 2> /dev/null; then echo "the root can be written to" >&2; exit 99; fi
exec "$@"
"""
"""What a container runtime does, in mounts that only this process sees."""


@dataclass(frozen=True)
class Image:
    """What was built, where its files can be looked at."""

    root: Path
    config: Mapping[str, Any]

    def run(
        self, *arguments: str, manifest: Path, secrets: Path, environment: Mapping[str, str]
    ) -> CommandResult:
        """Run the image's command as its user. All that can be written to is its standard output."""
        values = dict(each.split("=", 1) for each in self.config["Env"]) | {"HOME": "/"} | dict(environment)
        command: list[str | Path] = [
            *(*AS_ROOT, "unshare", "--mount", "sh", "-ec", CONTAIN, "sh", self.root, manifest, secrets),
            *("chroot", f"--userspec={self.config['User']}", self.root),
            *("env", "-i", f"--chdir={self.config['WorkingDir']}"),
            *(f"{name}={value}" for name, value in values.items()),
            *self.config["Entrypoint"],
        ]
        ended = subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return CommandResult(ended.returncode, ended.stdout, ended.stderr)


def test_hadolint_has_nothing_to_say(judge: RunJudge) -> None:
    ended = judge("hadolint", ROOT / "Dockerfile")
    assert (ended.returncode, ended.stdout) == (0, "")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build it from this checkout."""
    store = tmp_path_factory.mktemp("images")
    programs = registry.install(registry.named("buildah"))
    storage = ("--root", store / "root", "--runroot", store / "run", "--storage-driver", "overlay")

    def buildah(*arguments: str | Path) -> str:
        ended = subprocess.run(
            (*AS_ROOT, programs / "buildah", *storage, *arguments),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout.strip()

    # A gigabyte in many small files that nobody wants to keep.
    subprocess.run((*AS_ROOT, "mount", "-t", "tmpfs", "-o", "size=3g", "tmpfs", store), check=True)
    try:
        yield built(buildah)
    finally:
        buildah("rm", "--all")
        subprocess.run((*AS_ROOT, "umount", "--recursive", store), check=True)


def built(buildah: Callable[..., str]) -> Image:
    """Build the image, without a daemon."""
    base = buildah("from", "scratch")
    archive = registry.named("python-slim.tar")
    buildah("add", "--quiet", base, registry.install(archive) / archive.name, "/")
    buildah("run", "--isolation", "chroot", base, "ln", "-s", "/usr/bin/python3", "/usr/local/bin/python")
    buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", base)
    buildah("commit", "--quiet", "--rm", base, BASE)
    # Whom this machine trusts, and where it finds packages: behind a mirror the build has to know that as well.
    shared = [
        f"--volume={path}:{path}:ro" for path in ("/etc/ssl/certs", "/etc/pip.conf") if Path(path).exists()
    ]
    shared += [f"--env={name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
    tag = "cyborg-infra:judged"
    alone = ("--isolation", "chroot", "--network", "host", "--pull-never", "--layers=false")
    buildah("build", "--quiet", *alone, *shared, "--tag", tag, ROOT)
    config = json.loads(buildah("inspect", "--type", "image", tag))["OCIv1"]["config"]
    root = Path(buildah("mount", buildah("from", "--pull-never", tag)))
    # Where a pod's credentials are mounted: a runtime makes the directory.
    subprocess.run((*AS_ROOT, "mkdir", "-p", root / "run/secrets/cyborg-infra"), check=True)
    return Image(root, config)


def test_it_holds_the_command_and_no_way_to_install_more(image: Image) -> None:
    assert image.config["User"] == "65532:65532"
    assert (image.root / "opt/cyborg-infra/bin/cyborg-infra").exists()
    (packages,) = (image.root / "opt/cyborg-infra/lib").glob("python3*/site-packages")
    assert {"cyborg_infra", "uvicorn"} <= {path.name for path in packages.iterdir()}  # `monitor` as well
    for path in ("opt/cyborg-infra/bin/pip", "opt/build", "src", "root/.cache", "usr/bin/cc"):
        assert not (image.root / path).exists()


@pytest.mark.server
def test_the_jobs_of_the_chart_and_of_kustomize_do_what_they_are_there_for(
    judge: RunJudge, image: Image, server: EmbeddedServer, api: Api, tmp_path: Path
) -> None:
    """Arguments, environment and credentials are those of the rendered Jobs; the home cannot be written to."""
    for directory in (manifest := tmp_path / "manifest", secrets := tmp_path / "secrets"):
        directory.mkdir()
    (manifest / "org.yaml").write_text(
        "org: acme\nroles: [cto]\nenvironments: {production: {}}\n", encoding="utf-8"
    )
    credentials(tmp_path, secrets / "nats.creds")

    def run(*arguments: str, **environment: str) -> CommandResult:
        given = {"NATS_URL": server.url, "CYBORG_INFRA_ENV": "production"}
        return image.run(*arguments, manifest=manifest, secrets=secrets, environment=environment | given)

    for rendered in (
        helm_template(judge, manifest / "org.yaml", *OPTIONS),
        judge("kustomize", "build", KUSTOMIZE / "example").stdout,
    ):
        found = documents(rendered)
        for kind in ("Job", "CronJob"):
            pod = container(found[kind])
            values = {each["name"]: each["value"] for each in pod["env"]}
            assert values["NATS_CREDS"] == "/run/secrets/cyborg-infra/nats.creds"
            ended = run(*pod["args"], **values)
            assert ended.code == 0, ended.err
    ended = run("validate")
    assert (ended.code, ended.out.split(":")[0]) == (0, "org.yaml is valid"), ended.err
    assert "No changes." in run("plan").out
    config = api.request("$JS.API.STREAM.INFO.AGENT_CTO_TASKS")["config"]
    api.request("$JS.API.STREAM.UPDATE.AGENT_CTO_TASKS", config | {"max_msgs": 9})
    ended = run("drift")
    assert (ended.code, "max_msgs" in ended.out) == (2, True), ended.err


def credentials(directory: Path, file: Path) -> None:
    """Make credentials, with the rights that a Secret's file has in a pod: of root, and of its group."""
    (directory / "org.yaml").write_text("org: acme\nroles: [cto]\n", encoding="utf-8")
    for words in (
        ("operator", "--dir", "trust"),
        (
            *("creds", "org.yaml", "--keys", "keys"),
            *("--account", "trust/account.jwt", "--agents-account", "trust/agents.jwt"),
        ),
    ):
        ended = run_process("auth", *words, cwd=directory)
        assert ended.code == 0, ended.err
    shutil.copy(directory / "keys" / "writer.creds", file)
    file.chmod(0o440)
    subprocess.run((*AS_ROOT, "chown", "0:65532", file), check=True)
