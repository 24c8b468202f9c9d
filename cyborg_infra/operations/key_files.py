"""Secrets in files: signing keys and credentials, each readable for its owner alone, never overwritten and never printed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cyborg_infra import files
from cyborg_infra.interrupts import end_in_order
from cyborg_infra.model.key_pairs import KeyKind, KeyPair
from cyborg_infra.model.problems import Problem, UsageInvalid

_OWNER_ONLY_DIRECTORY = 0o700
_OLD = ".old"


class KeyDirectory:
    """A directory with a signing key and credentials for each identity; after a rotation also with those before."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Create the directory if there is none. Raises UsageInvalid."""
        end_in_order()
        try:
            self.path.mkdir(mode=_OWNER_ONLY_DIRECTORY, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from None

    def signing_key_file(self, identity: str) -> Path:
        """Return the file with the seed that signs the users of an identity."""
        return self._file(identity, "signing.nk")

    def creds_file(self, identity: str) -> Path:
        """Return the file that an agent logs in with."""
        return self._file(identity, "creds")

    def signing_key(self, identity: str) -> KeyPair | None:
        """Return the key that signs the users of an identity; None if there is none. Raises UsageInvalid for a file without one."""
        path = self.signing_key_file(identity)
        return read_key(KeyKind.ACCOUNT, path) if path.exists() else None

    def set_aside(self, identity: str) -> None:
        """Keep key and credentials of an identity under another name, so that there is room for new ones.

        Raises UsageInvalid if those before are still there: they would be lost.
        """
        aside = [
            path for path in (self.signing_key_file(identity), self.creds_file(identity)) if path.exists()
        ]
        for path in aside:
            if _old(path).exists():
                raise UsageInvalid(
                    Problem(
                        "rotated-before",
                        f"{_old(path)} is there from the last rotation, and would be lost",
                        None,
                        f"end the old key of {identity} first; that removes the file",
                    )
                )
        for path in aside:
            path.rename(_old(path))

    def drop_old(self, identity: str) -> None:
        """Remove what a rotation has set aside: it opens nothing any more."""
        for path in (self.signing_key_file(identity), self.creds_file(identity)):
            _old(path).unlink(missing_ok=True)

    def _file(self, identity: str, kind: str) -> Path:
        if "/" in identity or "\\" in identity:
            raise UsageInvalid(Problem("file-name", f"{identity} cannot be the name of a file"))
        return self.path / f"{identity}.{kind}"


def new_key(kind: KeyKind) -> KeyPair:
    """Return a key pair that nobody has seen."""
    return KeyPair.of_random(kind, os.urandom(32))


def read_key(kind: KeyKind, path: Path) -> KeyPair:
    """Return the key pair of a seed in a file. Raises UsageInvalid, which never quotes what is in it."""
    try:
        return KeyPair.of_seed(kind, files.read_text(path).strip())
    except (files.Unreadable, ValueError) as error:
        raise UsageInvalid(Problem("bad-key", f"cannot use {path}: {error}")) from None


def create_secret(path: Path, text: str) -> None:
    """Write a secret to a new file, for its owner alone. Raises UsageInvalid if there is a file already: it stays.

    The name appears with all of the text behind it, or not at all.
    """
    with _written_beside(path, text) as beside:
        try:
            os.link(beside, path)  # of a name that is taken it fails
        except FileExistsError:
            raise UsageInvalid(Problem("exists", f"{path} exists and stays as it is")) from None


def replace_private_file(path: Path, text: str) -> None:
    """Replace a file by a new one for its owner alone, at every moment whole. Raises UsageInvalid."""
    with _written_beside(path, text) as beside:
        Path(beside).replace(path)


@contextlib.contextmanager
def _written_beside(path: Path, text: str) -> Iterator[str]:
    """Yield the name of a file beside `path` with the text in it, for its owner alone; it is gone after the block."""
    end_in_order()
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # which makes it 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            yield name
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(path, error) from None


def credentials(token: str, seed: str) -> str:
    """Return what a credentials file holds, as `nsc` writes it."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "NKEY Seed printed below can be used to sign and prove identity.\n"
        "NKEYs are sensitive and should be treated as secrets.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n"
        "*************************************************************\n"
    )


def _old(path: Path) -> Path:
    return path.with_name(path.name + _OLD)


def _unusable(path: Path, error: OSError) -> UsageInvalid:
    return UsageInvalid(Problem("write", f"cannot write {path}: {error.strerror}"))
