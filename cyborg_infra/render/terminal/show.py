"""An expanded manifest as lines for people: the namespace in its layers, then tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType

from cyborg_infra.model.buckets import WORD_OF, bucket_stream
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.naming import Subject
from cyborg_infra.model.organisation import Org, Role
from cyborg_infra.model.resources import DesiredState, Resource
from cyborg_infra.render.terminal.layout import Block, Flow, Page, Table, line
from cyborg_infra.render.terminal.problems import environment
from cyborg_infra.render.values import human, in_short


def show(org: Org, subjects: Sequence[Subject], state: DesiredState) -> Page:
    """Return the namespace in its layers, then the streams and consumers. What is the same for all is said once."""
    blocks: list[Block] = [line((f"Organisation {org.name}", "bold"), environment(org.environment))]
    if org.description:
        blocks.append(line(org.description, indent=2))
    blocks += [*_chart(org), *_groups(org)]
    for layer, title in _LAYERS:
        found = [subject for subject in subjects if subject.layer == layer]
        if found:
            blocks += [line(), line((title, "bold")), *_meanings(found), _namespace(found)]
    buckets = {bucket_stream(bucket.name) for bucket in org.buckets}
    kept = [stream for stream in state.streams() if stream.ref.stream in buckets]
    streams = [stream for stream in state.streams() if stream.ref.stream not in buckets]
    consumers = state.consumers()
    if streams:
        blocks += [line(), line((f"Streams ({len(streams)})", "bold"))]
        blocks += _resources(streams, ("stream",), _STREAM_COLUMNS)
        blocks += _admission(streams)
    if kept:
        blocks += [line(), line((f"Key-value buckets ({len(kept)})", "bold"))]
        blocks += _resources(kept, ("stream",), _BUCKET_COLUMNS, WORD_OF)
        blocks += _users(org)
    if consumers:
        blocks += [line(), line((f"Consumers ({len(consumers)})", "bold"))]
        blocks += _resources(consumers, ("consumer", "stream"), _CONSUMER_COLUMNS)
    return Page(tuple(blocks))


def _chart(org: Org) -> Iterator[Block]:
    """Yield each role below the one that it reports to."""
    if not org.has_chart:
        return
    below: dict[str, list[Role]] = {}
    for role in org.roles:
        below.setdefault(role.reports_to, []).append(role)
    yield line()
    yield line(("Chart", "bold"))
    waiting = [(role, 0) for role in reversed(below[""])]
    while waiting:
        role, depth = waiting.pop()
        besides = f", and assigns to {', '.join(role.assigns)}" if role.assigns else ""
        yield line(f"{role.name}{besides}", indent=2 * min(depth, _MAX_DEPTH_SHOWN) + 2)
        waiting += [(each, depth + 1) for each in reversed(below.get(role.name, []))]


def _groups(org: Org) -> Iterator[Block]:
    if org.groups:
        yield line()
        yield line((f"Groups ({len(org.groups)})", "bold"))
    for group in org.groups:
        yield Flow((f"{group.name}: {group.members[0]}", *group.members[1:]), indent=2, hang=2)


def _users(org: Org) -> Iterator[Block]:
    """Yield the readers and writers of the buckets that name them."""
    for bucket in org.buckets:
        for verb, names in (
            ("read", bucket.readers),
            ("written", bucket.writers),
            ("watched", bucket.watchers),
        ):
            if names:
                yield Flow((f"{bucket.name} is {verb} by {names[0]}", *names[1:]), indent=2, hang=2)


_MAX_DEPTH_SHOWN = 20  # further down everybody stands in one column
_MAX_PARTIES = 12  # so many of those who publish to one subject or read from it are named
_LAYERS = (
    ("agents", "Agents"),
    ("events", "Events"),
    ("org", "Organisation"),
)
_STREAM_COLUMNS = (
    *("retention", "max_age", "max_bytes", "max_msgs", "storage"),
    *("num_replicas", "discard", "duplicate_window"),
)
_BUCKET_COLUMNS = (
    *("max_msgs_per_subject", "max_age", "max_bytes", "max_msg_size", "storage", "num_replicas"),
)
_CONSUMER_COLUMNS = ("ack_wait", "max_deliver", "max_ack_pending")


def _meanings(subjects: Sequence[Subject]) -> Iterator[Block]:
    """Yield the meaning of each channel, once for all roles."""
    meanings = {subject.channel: subject.meaning for subject in subjects if subject.meaning}
    size = max((len(channel) for channel in meanings), default=0)
    for channel, meaning in meanings.items():
        yield line(f"{channel.ljust(size)}  {meaning}", indent=2, hang=size + 2)


def _namespace(subjects: Sequence[Subject]) -> Block:
    body: list[tuple[str, ...]] = []
    for parent, children in groupby(subjects, key=lambda each: each.subject.removesuffix(f".{each.channel}")):
        body.append((parent,))
        for each in children:
            who = f"{_in_short(each.publishers, each.more_publishers)} -> {_in_short(each.readers)}"
            body.append((each.channel, _carried_by(each), who))
    return Table(("CHANNEL", "CARRIED BY", "FROM -> TO"), tuple(body), indent=4)


def _in_short(parties: Sequence[str], others: int = 0) -> str:
    """Return the parties in words. Of a role far down in a chart all others may be among them: only the first, the nearest, are named."""
    more = len(parties) + others - _MAX_PARTIES
    named = ", ".join(parties[:_MAX_PARTIES]) or "anyone"
    return f"{named} (and {more:,} more)" if more > 0 else named


def _carried_by(subject: Subject) -> str:
    return f"durable: {subject.stream or 'no stream'}" if subject.durable else "ephemeral"


def _resources(
    resources: Sequence[Resource],
    names: tuple[str, ...],
    fields: tuple[str, ...],
    words: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Block]:
    """Yield a table of the fields that tell the resources apart, after a line with those that do not.

    `words` are what the manifest calls them here, where those are not JetStream's.
    """
    kind = resources[0].ref.kind
    columns = {name: [human(kind, name, each.get(name)) for each in resources] for name in fields}
    shared = {name: cells[0] for name, cells in columns.items() if len(cells) > 1 and len(set(cells)) == 1}
    if shared:
        first, *others = (f"{words.get(name, name)} {value}" for name, value in shared.items())
        yield Flow((f"All: {first}", *others), indent=2, hang=5)
    distinct = [name for name in fields if name not in shared]
    yield Table(
        tuple(
            "_\n".join(words.get(name, name).upper().rsplit("_", 1))
            for name in (*names, *distinct, _CAPTURES[kind])
        ),
        tuple(
            (
                *(getattr(each.ref, name) for name in names),
                *(columns[name][row] for name in distinct),
                _captures(each),
            )
            for row, each in enumerate(resources)
        ),
        indent=2,
    )


def _admission(streams: Sequence[Resource]) -> Iterator[Block]:
    """Yield what max_msgs, discard and retention mean together, where a stream has them so."""
    limited = [
        stream
        for stream in streams
        if (stream.get("retention"), stream.get("discard")) == ("workqueue", "new")
    ]
    if any(stream.get("max_msgs") > 0 for stream in limited):
        yield line(
            "A workqueue with discard new takes max_msgs unfinished messages, and refuses the next publish.",
            indent=2,
            hang=0,
        )


_CAPTURES = {Kind.STREAM: "subjects", Kind.CONSUMER: "filter"}


def _captures(resource: Resource) -> str:
    if resource.ref.kind is Kind.STREAM:
        return in_short(resource.get("subjects")) or "none"
    return in_short(resource.filters) or "all subjects"
