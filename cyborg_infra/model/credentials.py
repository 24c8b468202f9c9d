"""Credentials and keys in files: which there are, and never what is in them."""

from __future__ import annotations

from cyborg_infra.model.identities import Accounts
from cyborg_infra.model.valueclass import NamedTuple


class Credentials(NamedTuple):
    """The credentials file of one identity. `made`: just now. `expires` is in seconds since 1970; None is never.

    `expired`: by the clock of this machine it is past that.
    """

    identity: str
    inbox_prefix: str
    file: str
    signing_key: str  # the public half of what has signed them
    expires: int | None
    made: bool
    expired: bool = False


class MadeOperator(NamedTuple):
    """An operator that was made on the spot: the public keys of its accounts, and the files."""

    accounts: Accounts
    account_files: Accounts
    config: str
    operator_file: str
    system_creds: str
