"""What hazards are made of: the counts and settings of live resources, questions, and the words for an amount."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cyborg_infra.model.fields import FIELDS
from cyborg_infra.model.plan import Hazard, HazardName
from cyborg_infra.model.state import Amount, ConsumerCounts, Measure, Question, Resource, StreamCounts
from cyborg_infra.model.units import format_size


def measured(
    name: HazardName, live: Resource, question: Question, most: Amount, told: Callable[[Amount], str]
) -> Iterator[Hazard]:
    """What was measured, or `most` as long as it was not; nothing where there is nothing."""
    found = live.measured.get(question)
    amount = found or most
    if amount.messages:
        yield hazard(name, told(amount), amount, question, exact=found is not None)


def hazard(name: HazardName, reason: str, amount: Amount, *questions: Question, exact: bool) -> Hazard:
    """The cost of so many messages; `up to` where that is a bound."""
    bound = reason if exact else f"up to {reason}"
    return Hazard(name, bound, amount.messages, amount.bytes, exact=exact, questions=questions)


def all_passed(consumer: Resource) -> Question:
    """How many messages that match its filter are still stored up to where it has got."""
    return Question(consumer.ref, Measure.PASSED, within=filters(consumer))


def value(resource: Resource, name: str) -> Any:
    """A setting in wire form, the default where it is absent."""
    return resource.canonical().get(name, FIELDS[resource.ref.kind][name].default)


def filters(consumer: Resource) -> tuple[str, ...]:
    """What it reads, as patterns."""
    return tuple(value(consumer, "filter_subjects") or (value(consumer, "filter_subject") or ">",))


def stream_counts(resource: Resource) -> StreamCounts:
    """What it holds; nothing if it was not read."""
    return resource.counts if isinstance(resource.counts, StreamCounts) else StreamCounts()


def consumer_counts(resource: Resource) -> ConsumerCounts:
    """Where it stands; nowhere if it was not read."""
    return resource.counts if isinstance(resource.counts, ConsumerCounts) else ConsumerCounts()


def counted(number: int, noun: str) -> str:
    """`1 message`, `1,204 messages`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def messages(amount: Amount, noun: str = "message") -> str:
    """The number, with the size where it is known."""
    return counted(amount.messages, noun) + (f" ({format_size(amount.bytes)})" if amount.bytes else "")
