"""Terraform or OpenTofu with the JetStream provider agrees with us about what a manifest is, whoever made it first.

The provider is in no registry of packages: BENCH_PROVIDER_DIR names the directory with a built one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cyborg_infra.live.embedded import EmbeddedServer
from tests.judges.conftest import built
from tests.judges.test_exports import MANIFEST
from tests.support.cli import Cli

Terraform = Callable[..., str]
RICH = """
org: acme
roles:
  cto:
    tasks:
      description: 'a "quoted" ${name} and %{more}'
      republish: {src: acme.agents.cto.tasks, dest: "copy.tasks", headers_only: true}
      metadata: {"a b": "x\\ty", team: platform}
      deny_purge: true
      first_seq: 7
    worker: {backoff: [1m, 5m], max_deliver: 3, sample_freq: "100", max_batch: 9, max_expires: 30s, headers_only: true}
    inbox_reader: {deliver_policy: new, priority_groups: [one], priority_policy: pinned_client}
    broadcast_reader: {replay_policy: original, inactive_threshold: 900h, mem_storage: true, num_replicas: 1}
streams:
  tasks: {compression: s2, allow_msg_ttl: true, max_msg_size: 1MB, max_msgs_per_subject: 1000}
  inboxes: {storage: memory, discard: new, allow_rollup_hdrs: true, deny_delete: false}
key_value: {drafts: {history: 3, ttl: 3h, limit_marker_ttl: 1h, compression: s2}}
"""


@pytest.fixture
def terraform(tmp_path: Path) -> Terraform:
    """Return what runs a verb of it in a folder; it downloads nothing."""
    provider = built("terraform-provider-jetstream").parent
    tool = shutil.which("tofu") or str(built("terraform"))
    settings = tmp_path / "cli.tfrc"
    overrides = f'dev_overrides {{ "nats-io/jetstream" = "{provider}" }}'
    settings.write_text(f"provider_installation {{\n  {overrides}\n  direct {{}}\n}}\n", encoding="utf-8")

    def run(folder: Path, verb: str, *options: str) -> str:
        ended = subprocess.run(
            [tool, f"-chdir={folder}", verb, "-input=false", "-no-color", *options],
            env=os.environ | {"TF_CLI_CONFIG_FILE": str(settings), "CHECKPOINT_DISABLE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    return run


@pytest.mark.parametrize("manifest", [MANIFEST, RICH], ids=["channels", "settings"])
def test_what_terraform_makes_of_an_export_is_what_apply_would_have_made(
    terraform: Terraform, cli: Cli, project: Path, server: EmbeddedServer, manifest: str
) -> None:
    (project / "org.yaml").write_text(manifest, encoding="utf-8")
    to = ("--server", server.url)
    settings = ("--set", "import=no", "--set", f"server={server.url}")
    assert cli("export", "terraform", "--strict", "--out", "made", *settings).code == 0
    terraform(project / "made", "apply", "-auto-approve")
    assert "No changes." in cli("plan", *to).out
    assert cli("drift", *to).code == 0
    # Its state is read back as the same organisation.
    state = ("--from", "terraform-state", str(project / "made/terraform.tfstate"))
    naming = ("--naming", "org.yaml") if manifest is MANIFEST else ()
    imported = cli("import", *state, "--org", "acme", *naming, "--out", "again.yaml")
    assert (imported.code, "Note:" in imported.err) == (0, False), imported.err
    assert "No changes." in cli("plan", "again.yaml", *to).out


@pytest.mark.parametrize("manifest", [MANIFEST, RICH], ids=["channels", "settings"])
def test_what_apply_made_is_imported_and_nothing_changes(
    terraform: Terraform, cli: Cli, project: Path, server: EmbeddedServer, manifest: str
) -> None:
    (project / "org.yaml").write_text(manifest, encoding="utf-8")
    to = ("--server", server.url)
    assert cli("apply", "--yes", *to).code == 0
    assert cli("export", "terraform", "--out", "made", "--set", f"server={server.url}").code == 0
    assert "0 to add, 0 to change, 0 to destroy." in terraform(project / "made", "plan")
    terraform(project / "made", "apply", "-auto-approve")
    assert cli("drift", "--pending", *to).code == 0
