"""`auth creds` and `rotate`: credentials of identities, in files; `auth operator`: an operator to begin with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra.cli.auth.operator_options import (
    KEYS,
    Account,
    AgentsAccount,
    Expires,
    IdentityName,
    Keys,
    lifetime,
)
from cyborg_infra.cli.options import MANIFEST, Env, Format, Manifest, NoColor, Output
from cyborg_infra.cli.output import put_answer
from cyborg_infra.model.credentials import Credentials
from cyborg_infra.model.identities import Accounts
from cyborg_infra.operations import operator_mode

Only = Annotated[
    list[str] | None,
    typer.Option(
        "--identity", help="Only this identity; may be repeated.", metavar="NAME", show_default=False
    ),
]
Directory = Annotated[Path, typer.Option("--dir", help="Directory to make them in.", metavar="DIR")]
AccountName = Annotated[
    str, typer.Option("--account-name", help="What the account with JetStream is called.", metavar="NAME")
]
AgentsAccountName = Annotated[
    str, typer.Option("--agents-account-name", help="What the roles' account is called.", metavar="NAME")
]


def creds(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    account: Account = "",
    agents_account: AgentsAccount = "",
    keys: Keys = KEYS,
    identity: Only = None,
    expires: Expires = "",
    output: Output = Format.TEXT,
    no_color: NoColor = False,
) -> None:
    """Make a signing key and credentials for each identity. What is there stays. Needs no server."""
    found = operator_mode.make_credentials(
        manifest,
        env,
        accounts=Accounts(account, agents_account),
        keys=keys,
        only=identity or (),
        lifetime=lifetime(expires),
    )
    _put(found, output, no_color=no_color)


def rotate(
    identity: IdentityName,
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    account: Account = "",
    agents_account: AgentsAccount = "",
    keys: Keys = KEYS,
    expires: Expires = "",
    output: Output = Format.TEXT,
    no_color: NoColor = False,
) -> None:
    """Make a second key and new credentials for an identity. The old ones stay good until `auth revoke`. Needs no server."""
    found = operator_mode.rotate_credentials(
        manifest,
        env,
        identity,
        accounts=Accounts(account, agents_account),
        keys=keys,
        lifetime=lifetime(expires),
    )
    _put([found], output, no_color=no_color)
    sys.stderr.write(
        "Next: `auth apply`, so that both keys are good; then give the agent its new file; then `auth revoke`.\n"
    )


def operator(
    *,
    directory: Directory = Path("trust"),
    account_name: AccountName = "JETSTREAM",
    agents_account_name: AgentsAccountName = "AGENTS",
) -> None:
    """Make an operator and two accounts, for those who have none. Writes what nats-server includes as well."""
    names = Accounts(account_name, agents_account_name)
    made = operator_mode.make_operator(directory, names)
    sys.stdout.write(
        f"Wrote {made.config}: include it in nats-server's configuration.\n"
        f"The account {names.jetstream} is {made.accounts.jetstream} ({made.account_files.jetstream}).\n"
        f"The account {names.agents} is {made.accounts.agents} ({made.account_files.agents}): it has no JetStream.\n"
        f"Log in to the system account with {made.system_creds}; {made.operator_file} signs, so keep it safe.\n"
    )


COMMANDS = {
    "creds": (creds, "Example: cyborg-infra auth creds org.yaml --account A... --expires 90d"),
    "rotate": (rotate, "Example: cyborg-infra auth rotate cto --account A..."),
    "operator": (operator, "Example: cyborg-infra auth operator --dir trust"),
}


def _put(found: list[Credentials], output: Format, *, no_color: bool) -> None:
    from cyborg_infra.render import auth_credentials

    put_answer(found, output, auth_credentials.data, auth_credentials.credentials_table, no_color=no_color)
