"""The identities that every organisation has beside its roles, and what its manifest calls them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from cyborg_infra.model.valueclass import NamedTuple


class Standing(StrEnum):
    """The identities that every organisation has beside its roles. The manifest may call one otherwise: `auth.names`."""

    READER = "reader"
    """Plans, and looks for drift."""
    WRITER = "writer"
    """Applies."""
    OPERATOR = "operator"
    """Looks at the status, sends, and handles dead letters."""
    MONITOR = "monitor"
    """Looks, and touches nothing."""
    ALERTS = "alerts"
    """Hears of dead letters."""
    VERIFIER = "verifier"
    """Tries a copy of the organisation."""


class AuthSettings(NamedTuple):
    """What the manifest says of identities: other names for standing ones."""

    names: Mapping[Standing, str] = {}

    def name_of(self, standing: Standing) -> str:
        """Return the name of a standing identity."""
        return self.names.get(standing, str(standing))
