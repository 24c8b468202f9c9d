"""Shell completion: role, environment and context names.

Every command has these functions, and few starts call one: what they need is imported when they are called.
"""

from __future__ import annotations

import os

import typer

from cyborg_infra.model.problems import CyborgError

_MANIFEST = "org.yaml"


def roles(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the roles of the manifest that has been typed, or of the usual one."""
    return _beginning(_named(ctx)[0], incomplete)


def environments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return its environments."""
    return _beginning(_named(ctx)[1], incomplete)


def contexts(incomplete: str) -> list[str]:
    """Return the contexts that the nats CLI has saved."""
    from cyborg_infra.operations import targets

    return _beginning(targets.context_names(os.environ), incomplete)


def _named(ctx: typer.Context) -> tuple[list[str], list[str]]:
    from cyborg_infra.operations import manifest

    try:
        return manifest.roles_and_environments(_manifest(ctx))
    except CyborgError:
        return [], []


def _manifest(ctx: typer.Context) -> str:
    """Return the manifest's path as it has been typed: while a line is not finished, arguments are not yet told from one another. It is the last."""
    before = sum(each.param_type_name == "argument" for each in ctx.command.params) - 1
    return next((word for word in reversed(ctx.args[before:]) if not word.isdecimal()), _MANIFEST)


def _beginning(found: list[str], incomplete: str) -> list[str]:
    return [name for name in found if name.startswith(incomplete)]
