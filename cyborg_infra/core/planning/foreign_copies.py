"""Find copies of an organisation's resources, labels included (as a restored backup has them): they are foreign."""

from __future__ import annotations

from cyborg_infra.core.desired import naming
from cyborg_infra.model.metadata_keys import OWNER_KEY, RESOURCE_KEY
from cyborg_infra.model.resources import DesiredState, LiveResource, LiveState


def find_foreign_copies(live: LiveState, desired: DesiredState, owner: str) -> list[LiveResource]:
    """Return the copies of what `owner` has or had, but for those that the manifest takes over by their names."""
    return [
        found
        for ref, found in live.resources.items()
        if ref not in desired.resources and found.metadata.get(OWNER_KEY) == owner and is_copy(found)
    ]


def is_copy(found: LiveResource) -> bool:
    """Return whether its labels say that it is another resource; of one without that label its name tells."""
    said = found.metadata.get(RESOURCE_KEY)
    return said != str(found.ref) if said is not None else not naming.may_be_named(found)
