"""Shell completion: role, environment and context names.

Every command has these functions, and few starts call one: what they need is imported when they are called.
"""

from __future__ import annotations

import os

import typer
from typer import _completion_shared

from cyborg_infra.model.problems import CyborgError

_MANIFEST = "org.yaml"

_WHEN_LOADED = """
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  %(complete_func)s "$@"
fi
"""


def at_the_first_tab() -> None:
    """Let zsh complete at the first Tab of a shell.

    It loads the file of a completion then, and takes what that does for the answer. The one that typer installs defines its
    function and does not call it (0.28.0): the first Tab completes nothing. `make judges` asks a real shell.
    """
    scripts = _completion_shared._completion_scripts  # noqa: SLF001 - typer has no other way
    if not scripts["zsh"].endswith(_WHEN_LOADED):
        scripts["zsh"] += _WHEN_LOADED


def roles(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the roles of the manifest that has been typed, or of the usual one."""
    return _beginning(_named(ctx)[0], incomplete)


def environments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the environments of the manifest that has been typed."""
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
