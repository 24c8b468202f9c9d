"""Say whether an identity may do something, and by which row."""

from __future__ import annotations

from cyborg_infra.core.desired import naming
from cyborg_infra.core.identity import grants
from cyborg_infra.model import channels
from cyborg_infra.model.identities import Explanation, Identity, Need, Operation
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import Problem, UsageInvalid
from cyborg_infra.model.resources import DesiredResource, DesiredState
from cyborg_infra.model.subjects import covers, is_pattern, overlap
from cyborg_infra.model.wording import first_few

_MAX_NAMED = 20


def explain(
    org: Org,
    state: DesiredState,
    found: tuple[Identity, ...],
    name: str,
    operation: Operation,
    what: str,
    domain: str | None = None,
) -> Explanation:
    """Return whether the identity of this name may do something. Raises UsageInvalid for an unknown identity or object."""
    identity = find_identity(found, name)
    taken = list(_subjects(org, state, operation, what, domain))
    needs = tuple(_need(identity, *each) for each in (*taken, *_inbox(identity, operation)))
    others = tuple(
        each.name
        for each in found
        if each is not identity and all(_need(each, *taking).is_allowed for taking in taken)
    )
    return Explanation(identity.name, operation, what, needs, others)


def find_identity(found: tuple[Identity, ...], name: str) -> Identity:
    """Return the identity of this name. Raises UsageInvalid."""
    for identity in found:
        if identity.name == name:
            return identity
    raise UsageInvalid(
        Problem("no-identity", f"there is no identity {name}", None, _known([each.name for each in found]))
    )


def _known(names: list[str]) -> str:
    return f"there are {first_few(names, _MAX_NAMED)}"


def _inbox(identity: Identity, operation: Operation) -> list[tuple[Operation, str]]:
    """Return the right to hear its own inbox, if the operation is a request or a pull."""
    asks = operation in (Operation.PULL, Operation.REQUEST)
    return [(Operation.SUBSCRIBE, f"{identity.inbox_prefix}.>")] if asks else []


def _subjects(
    org: Org, state: DesiredState, operation: Operation, what: str, domain: str | None
) -> list[tuple[Operation, str]]:
    """Return the subjects that an operation takes, apart from an inbox."""
    match operation:
        case Operation.PULL:
            publish, subscribe = grants.use_consumer(_consumer(state, what))
            return [
                *((Operation.PUBLISH, each.subject) for each in grants.in_domain(publish, domain)),
                *((Operation.SUBSCRIBE, each.subject) for each in subscribe),
            ]
        case Operation.REQUEST if org.role(what) and org.channel(channels.REQUESTS):
            return [(Operation.PUBLISH, naming.channel_subject(org, channels.REQUESTS, what))]
    if not is_pattern(what):
        raise UsageInvalid(Problem("bad-subject", f"{what!r} is no subject"))
    return [(Operation.SUBSCRIBE if operation is Operation.SUBSCRIBE else Operation.PUBLISH, what)]


def _consumer(state: DesiredState, what: str) -> DesiredResource:
    for consumer in state.consumers():
        if what in (str(consumer.ref), consumer.ref.name):
            return consumer
    names = [str(consumer.ref) for consumer in state.consumers()]
    raise UsageInvalid(Problem("no-consumer", f"there is no consumer {what}", None, _known(names)))


def _need(identity: Identity, direction: Operation, subject: str) -> Need:
    publishes = direction is Operation.PUBLISH
    allow = identity.publish if publishes else identity.subscribe
    deny = identity.deny_publish if publishes else identity.deny_subscribe
    return Need(
        direction,
        subject,
        next((row for row in allow if covers(row.subject, subject)), None),
        next((row for row in deny if overlap(row.subject, subject)), None),
    )
