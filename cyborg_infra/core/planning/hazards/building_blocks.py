"""Building blocks of hazards: counts and settings of live resources, count queries, amounts in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from cyborg_infra.model.changes import Hazard, HazardName
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.consumer_position import filter_patterns
from cyborg_infra.model.counting import CountKind, CountQuery, MessageCount, Share
from cyborg_infra.model.fields import FIELDS
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.resources import LiveResource, Resource
from cyborg_infra.model.units import format_size


def hazard_of_query(
    name: HazardName,
    live: LiveResource,
    query: CountQuery,
    upper_bound: MessageCount,
    describe: Callable[[MessageCount], str],
) -> Iterator[Hazard]:
    """Return the hazard with the count of the query, or with `upper_bound` as an upper bound until it is counted; nothing where there is nothing."""
    found = live.counts_by_query.get(query)
    amount = found or upper_bound
    if amount.messages:
        yield hazard_of_amount(name, describe(amount), amount, query, exact=found is not None)


def lost(
    live: LiveResource,
    query: CountQuery,
    most: MessageCount,
    describe: Callable[[MessageCount], str],
    *,
    exact: bool = False,
) -> Iterator[Hazard]:
    """Yield the hazard of what a stream would lose, as counted; until then with `most`, which is a bound unless `exact`."""
    found = live.counts_by_query.get(query)
    amount = found or most
    if amount.messages:
        share = unfinished_of(live, amount)
        yield deletes(describe(amount), amount, share, query, exact=exact or found is not None)


def deletes(
    reason: str, amount: MessageCount, share: Share | None, *questions: CountQuery, exact: bool
) -> Hazard:
    """Return the hazard of deleted messages, with how many of them are unfinished."""
    named = reason if share is None else f"{reason}, {_of_them(share)} unfinished"
    return replace(
        hazard_of_amount(HazardName.DELETES_MESSAGES, named, amount, *questions, exact=exact),
        unfinished=share,
    )


def unfinished_of(live: LiveResource, amount: MessageCount) -> Share | None:
    """Return how many of these messages are unfinished: all of them if that was not counted, None for a bucket.

    Of a bucket there is no such thing; a dead letter is unfinished until somebody drops it, and what a stream of another
    retention than limits stores until it is finished.
    """
    kind = live.metadata.get(KIND_KEY)
    if kind == StreamKind.KEY_VALUE:
        return None
    if kind == StreamKind.DEAD_LETTERS or setting(live, "retention") != "limits":
        return Share(amount.messages)
    return amount.unfinished or Share(amount.messages, exact=False)


def _of_them(share: Share) -> str:
    return f"{'' if share.exact else 'up to '}{share.messages:,} of them"


def hazard_of_amount(
    name: HazardName, reason: str, amount: MessageCount, *questions: CountQuery, exact: bool
) -> Hazard:
    """Return the hazard that costs this amount; the reason says `up to` unless the amount is `exact`."""
    bound = reason if exact else f"up to {reason}"
    return Hazard(name, bound, amount.messages, amount.bytes, exact=exact, count_queries=questions)


def passed_query(consumer: LiveResource) -> CountQuery:
    """Return how many messages that match its filter are still stored up to where it has got."""
    return CountQuery(consumer.ref, CountKind.PASSED, subjects=filter_patterns(consumer))


def setting(resource: Resource, name: str) -> Any:
    """Return a setting in wire form, the default where it is absent."""
    return resource.normalised().get(name, FIELDS[resource.ref.kind][name].default)


def format_count(number: int, noun: str) -> str:
    """Return `1 message`, `1,204 messages`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def format_messages(amount: MessageCount, noun: str = "message") -> str:
    """Return the number, with the size where it is known."""
    return format_count(amount.messages, noun) + (f" ({format_size(amount.bytes)})" if amount.bytes else "")
