"""The identities of a manifest: show them, explain them, make their keys, and write what servers and clients read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cyborg_infra.core.identity.accounts import crossings
from cyborg_infra.core.identity.explain import explain, find_identity
from cyborg_infra.core.identity.permissions import identities
from cyborg_infra.model.identities import Accounts, Crossing, Explanation, Identity, Operation
from cyborg_infra.model.key_pairs import KeyKind
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import Command, first_few, worded
from cyborg_infra.operations import key_files
from cyborg_infra.operations.manifest import expand_manifest

__all__ = [
    "Identities",
    "Keys",
    "account_names",
    "explain_identity",
    "find_identity",
    "identities_of",
    "key_file",
    "load_identities",
    "make_keys",
    "public_keys",
]

_MAX_NAMED = 5


class Identities(NamedTuple):
    """A manifest's organisation, what it expands to, and who may do what in it."""

    org: Org
    state: DesiredState
    found: tuple[Identity, ...]
    crossings: tuple[Crossing, ...]


class Keys(NamedTuple):
    """What `make_keys` has made, and what was there and stays."""

    made: tuple[Path, ...]
    kept: tuple[Path, ...]


def load_identities(path: str, env: str | None = None, domain: str | None = None) -> Identities:
    """Return the identities of the manifest at `path`. Needs no server. Raises ManifestInvalid."""
    return identities_of(*expand_manifest(path, env), domain)


def identities_of(org: Org, state: DesiredState, domain: str | None = None) -> Identities:
    """Return the identities of an organisation that expands to `state`. Raises ManifestInvalid."""
    found = identities(org, state, domain)
    return Identities(org, state, found, crossings(org, state, found, domain))


def account_names(org: Org, jetstream: str | None = None, agents: str | None = None) -> Accounts:
    """Return what the organisation's two accounts are called, where nobody says otherwise."""
    name = jetstream or org.server.account or org.name
    return Accounts(name, agents or f"{name}-agents")


def explain_identity(
    path: str, env: str | None, name: str, operation: Operation, what: str, domain: str | None = None
) -> Explanation:
    """Return whether an identity may do something, and by which row. Raises ManifestInvalid; UsageInvalid."""
    org, state, found, _ = load_identities(path, env, domain)
    return explain(org, state, found, name, operation, what, domain)


def key_file(directory: Path, identity: Identity) -> Path:
    """Return the file with the seed of an identity. Raises UsageInvalid where its name cannot be a file's."""
    if "/" in identity.name or "\\" in identity.name:
        raise UsageInvalid(Problem("file-name", f"{identity.name} cannot be the name of a file"))
    return directory / f"{identity.name}.nk"


def make_keys(found: Sequence[Identity], directory: Path) -> Keys:
    """Make the seeds that are missing in a directory, which is made as well. What is there stays as it is.

    Raises UsageInvalid if a file that is there has no seed of a user, or if one cannot be written.
    """
    wanted = [key_file(directory, identity) for identity in found]
    kept = [path for path in wanted if path.exists() or path.is_symlink()]
    for path in kept:
        key_files.read_key(KeyKind.USER, path)
    key_files.KeyDirectory(directory).make()
    made = [path for path in wanted if path not in set(kept)]
    for path in made:
        key_files.create_secret(path, key_files.new_key(KeyKind.USER).seed + "\n")
    return Keys(tuple(made), tuple(kept))


def public_keys(found: Sequence[Identity], directory: Path) -> dict[str, str]:
    """Return the public key of each identity, by its name. Raises UsageInvalid where a seed is missing, or is none."""
    paths = {identity.name: key_file(directory, identity) for identity in found}
    missing = [name for name, path in paths.items() if not path.exists()]
    if missing:
        raise UsageInvalid(
            Problem(
                "no-key",
                f"{directory} has no key of {first_few(missing, _MAX_NAMED)}",
                None,
                worded("`{}` makes what is missing", Command("auth keys")),
            )
        )
    return {name: key_files.read_key(KeyKind.USER, path).public for name, path in paths.items()}
