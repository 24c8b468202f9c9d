"""`auth`: who may do what."""

from __future__ import annotations

from cyborg_infra.cli.auth import claims, credentials, permissions, server_config

HELP = "Show and manage who may publish and hear what."

COMMANDS = {
    **permissions.COMMANDS,
    **server_config.COMMANDS,
    **credentials.COMMANDS,
    **claims.COMMANDS,
}
