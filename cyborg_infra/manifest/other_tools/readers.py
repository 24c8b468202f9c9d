"""The table of tools whose files `import` reads."""

from __future__ import annotations

from collections.abc import Mapping

from cyborg_infra.manifest.other_tools import nack, nats_files, terraform_state
from cyborg_infra.manifest.other_tools.tool_files import Read

READERS: Mapping[str, Read] = {
    "nack": nack.read_nack,
    "terraform-state": terraform_state.read_terraform_state,
    "nats": nats_files.read_nats_files,
}
"""By the word that names it on the command line."""
