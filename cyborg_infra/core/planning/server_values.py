"""What a server's own limits made of desired resources before: what is left open stays as the server has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from cyborg_infra.core.planning.rehearsal import shape_of
from cyborg_infra.model.changes import Adopt, Change, Create, Replace, Update
from cyborg_infra.model.metadata_keys import SERVER_VALUES_KEY
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredResource, DesiredState, LiveState
from cyborg_infra.model.server import Limits
from cyborg_infra.model.server_values import noted_values, with_server_values

_PENDING = "max_ack_pending"


def with_known_values(
    desired: DesiredState,
    live: LiveState,
    predecessors: Mapping[Ref, Ref],
    there: Iterable[Ref],
    limits: Limits,
) -> DesiredState:
    """Return what is desired, with the values that are noted as the server's on what lives there, or under the name it has now.

    Only what is `there` otherwise than it is desired can have such. The account's limit of max_ack_pending is one that the server tells.
    """
    found = {}
    for ref in desired.resources if limits.max_ack_pending > 0 else there:
        wanted = desired.resources[ref]
        if not wanted.left_open:
            continue
        lives = live.resources.get(ref) or live.resources.get(predecessors.get(ref, ref))
        values = {**noted_values(lives.config)} if lives else {}
        if ref.consumer and limits.max_ack_pending > 0:
            said = values.get(_PENDING) or wanted.get("max_ack_pending")
            values |= {_PENDING: limits.max_ack_pending} if limits.max_ack_pending < said else {}
        if values := {name: value for name, value in values.items() if name in wanted.left_open}:
            found[ref] = _with_values(wanted, values)
    return replace(desired, resources={**desired.resources, **found}) if found else desired


def with_learned_values(plan: Plan, learned: Mapping[bytes, Mapping[str, int]]) -> Plan:
    """Return the plan with what a rehearsal has learned of each kind of resource. What it has not tried stays as it is known."""
    if not any(learned.values()) and not any(map(_has_note, plan.changes)):
        return plan

    def told(wanted: DesiredResource) -> DesiredResource:
        values = learned.get(shape_of(wanted)) if wanted.left_open else None
        return wanted if values is None else _with_values(wanted, values)

    changes: list[Change] = []
    for change in plan.changes:
        if isinstance(change, Create | Adopt | Update | Replace):
            readers = {name: told(reader) for name, reader in change.consumers_after.items()}
            changes.append(replace(change, after=told(change.after), consumers_after=readers))
        else:
            changes.append(change)
    return replace(plan, changes=tuple(changes))


def _has_note(change: Change) -> bool:
    return change.after is not None and SERVER_VALUES_KEY in change.after.metadata


def _with_values(wanted: DesiredResource, values: Mapping[str, int]) -> DesiredResource:
    return replace(wanted, config=with_server_values(wanted.config, values))
