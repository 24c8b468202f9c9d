"""Live resources made of desired ones: what a server has after an apply."""

from __future__ import annotations

from typing import Any

from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import ConsumerCounts, LiveResource, Resource, State, StreamCounts

CREATED = "2026-01-01T00:00:00Z"


def as_live(resource: Resource, **known: Any) -> LiveResource:
    """Return the resource as a server has it, of which nothing but its configuration and what is `known` was read."""
    return LiveResource(resource.ref, resource.config, **known)


def as_empty(resource: Resource) -> LiveResource:
    """Return the resource as a server has it that nobody has used so far."""
    return as_live(
        resource, counts=ConsumerCounts() if resource.ref.consumer else StreamCounts(), created=CREATED
    )


def all_as_live(state: State[Resource]) -> dict[Ref, LiveResource]:
    """Return all of a state as a server has it, of which nothing but the configuration was read."""
    return {ref: as_live(resource) for ref, resource in state.resources.items()}
