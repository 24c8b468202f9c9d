"""`auth keys` and `auth config`: credentials for a server that has its users in a configuration file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra.cli.auth.permissions import Domain
from cyborg_infra.cli.files import replace_generated
from cyborg_infra.cli.options import MANIFEST, Env, Manifest
from cyborg_infra.cli.output import json_text
from cyborg_infra.model.identities import Identity
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.standing import Standing
from cyborg_infra.operations import identities as operation

Directory = Annotated[
    Path,
    typer.Option("--dir", help="Where the seeds are, one file each; made if it is not there.", metavar="DIR"),
]
Keys = Annotated[
    Path, typer.Option("--keys", help="The directory that `auth keys` has filled.", metavar="DIR")
]
Out = Annotated[Path, typer.Option("--out", help="The file for nats-server's `include`.", metavar="FILE")]
Account = Annotated[
    str | None,
    typer.Option(
        "--account",
        help="Name of the account with JetStream [default: the manifest's server.account, else the organisation's name].",
        metavar="NAME",
        show_default=False,
    ),
]
AgentsAccount = Annotated[
    str | None,
    typer.Option(
        "--agents-account",
        help="Name of the roles' account, which has no JetStream [default: that of the other account with -agents].",
        metavar="NAME",
        show_default=False,
    ),
]
Url = Annotated[
    str, typer.Option("--url", help="Where clients connect, for the contexts of the nats CLI.", metavar="URL")
]
CONTEXTS = Path("nats", "context")
"""Where the `nats` CLI looks for contexts, below XDG_CONFIG_HOME."""


def keys(manifest: Manifest = MANIFEST, *, directory: Directory, env: Env = None) -> None:
    """Make an nkey for every identity that has none. Seeds are for their owner's eyes (0600), never printed, never overwritten."""
    found = operation.load_identities(manifest, env).found
    made = operation.make_keys(found, directory)
    there = f"; {len(made.kept)} were there and stay" if made.kept else ""
    typer.echo(f"Made {len(made.made)} keys in {directory}{there}.")


def config(
    manifest: Manifest = MANIFEST,
    *,
    key_directory: Keys,
    out: Out,
    account: Account = None,
    agents_account: AgentsAccount = None,
    url: Url = "nats://127.0.0.1:4222",
    env: Env = None,
    domain: Domain = None,
) -> None:
    """Write the users of a nats-server, and a context for each.

    Two accounts, with each identity's public key and permissions: roles are in the one without JetStream. The contexts are for the nats CLI and for cyborg-infra, with XDG_CONFIG_HOME set to the directory of the keys.
    """
    from cyborg_infra.render import server_config as render

    org, _, found, crossings = operation.load_identities(manifest, env, domain)
    public = operation.public_keys(found, key_directory)
    names = operation.account_names(org, account, agents_account)
    replace_generated(out, render.accounts(org, found, public, names, crossings), render.FIRST_LINE)
    contexts = write_contexts(org, found, key_directory, url)
    typer.echo(
        f"Wrote {out} with {len(found)} users of accounts {names.jetstream} and {names.agents}, and a context for each in {contexts}.\n"
        f"Next: put `include {out}` into nats-server's configuration, at its top level, and reload it.\n"
        f"Then connect as one of them: cyborg-infra plan --context {contexts / org.auth.name_of(Standing.READER)}.json"
    )


def write_contexts(org: Org, found: Sequence[Identity], keys: Path, url: str) -> Path:
    """Write a context of the `nats` CLI for each identity, and return the directory that they are in. Raises UsageInvalid."""
    from cyborg_infra.render import server_config as render

    contexts = keys / CONTEXTS
    contexts.mkdir(parents=True, exist_ok=True)
    for identity in found:
        seed = str(operation.key_file(keys, identity).resolve())
        text = json_text(render.context(org, identity, url, seed))
        replace_generated(contexts / f"{identity.name}.json", text, '{\n  "description": "')
    return contexts


COMMANDS = {
    "keys": (keys, "Example: cyborg-infra auth keys org.yaml --dir keys"),
    "config": (config, "Example: cyborg-infra auth config org.yaml --keys keys --out agents.conf"),
}
