"""Plan the rehearsals: configurations that the server has to accept under a temporary name before anything is written.

A table of a server's rules knows the servers of its time, and nothing of the limits that an administrator has set
(`limits { duplicate_window }`). So of each kind of stream and consumer that is about to be made, changed, or made anew,
one is made before, as it will be, where nobody publishes and nobody reads: every subject is behind a first token of its
own, so that what overlaps does so there as well; what it copies from does not exist; and little room is reserved: all that
the plan reserves, once, where it takes nothing away. What will be updated is made as it is, and updated. It is deleted at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cyborg_infra.model.changes import Action, Change
from cyborg_infra.model.constraints import CONSTRAINTS, Concerns
from cyborg_infra.model.fields import Config, Kind
from cyborg_infra.model.metadata_keys import KIND_KEY, OWNER_KEY, RESOURCE_KEY
from cyborg_infra.model.normalise import without_server_labels
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.ref import REHEARSAL_PREFIX, Ref, rehearsal_stream
from cyborg_infra.model.rehearsal import Part, Rehearsal
from cyborg_infra.model.resources import (
    DesiredResource,
    LiveResource,
    LiveState,
    Resource,
    canonical_json,
    with_what_is_said,
)
from cyborg_infra.model.server_values import LIMITED_FIELDS, with_server_values
from cyborg_infra.model.valueclass import NamedTuple

MAX_STREAM_BYTES = 1024 * 1024  # bytes to reserve: more would have to be there beside what is replaced

_NEVER_NEW = {row.fields[0] for row in CONSTRAINTS if row.concerns is Concerns.NEW_STREAM}
"""What a living stream can have, whose consumers are made anew, and a new one cannot."""
_MOVING = ("num_replicas", "placement")
"""What takes its time to change: it is tried as it will be from the start."""
_SUBJECTS = ("subjects", "filter_subject", "filter_subjects", "deliver_subject")
_MAPPINGS = ("subject_transform", "republish")
_NONE: frozenset[str] = frozenset()


def without_rehearsals(live: LiveState, owner: str) -> LiveState:
    """Return the state without rehearsals that somebody did not come to delete: no plan is about them.

    Those of this owner take no room either: an apply deletes them before it needs any.
    """
    if not any(stream.ref.is_rehearsal for stream in live.streams()):
        return live
    kept = {ref: found for ref, found in live.resources.items() if not ref.is_rehearsal}
    info, streams = live.server_info, [live.resources[ref] for ref in leftover_rehearsals(live, owner)]
    if info is not None:
        room = dict.fromkeys(("file", "memory"), 0)
        for stream in streams:
            room[stream.get("storage")] += max(0, stream.get("max_bytes")) * stream.get("num_replicas")
        used = info.limits
        free = used._replace(
            streams=used.streams - len(streams),
            storage=used.storage - room["file"],
            memory=used.memory - room["memory"],
        )
        info = info._replace(limits=free)
    return LiveState(kept, info)


def leftover_rehearsals(live: LiveState, owner: str) -> list[Ref]:
    """Return the rehearsals that an interrupted apply of this organisation has left."""
    return [found.ref for found in live.streams() if found.ref.is_rehearsal and found.owner == owner]


def plan_rehearsals(plan: Plan) -> Iterator[Rehearsal]:
    """Yield a rehearsal for each kind of resource that the plan creates, changes or replaces.

    Of a kind is what differs in names, labels and the words of its subjects alone: 10,000 roles with equal settings are
    as many subjects, and one configuration. What a server's limits make of one, they make of all of its kind.
    """
    grows = not any(change.action is Action.DELETE or _replaces(change) for change in plan.changes)
    known: set[bytes] = set()
    reserves = _reserved_on_one_server(plan) if grows else {}
    for tried in _tried_streams(plan):
        kinds = b"|".join(one.kind for one in (tried.stream, *tried.consumers))
        if kinds not in known:
            known.add(kinds)
            takes_room = grows and tried.is_new
            wanted = tried.stream.wanted
            size = reserves.pop(wanted.get("storage"), 0) if takes_room and wanted.get("max_bytes") > 0 else 0
            yield _rehearsal(tried, plan.org, takes_room=takes_room, reserves=size)


def _reserved_on_one_server(plan: Plan) -> dict[str, int]:
    """Return storage -> the bytes that all together reserve, where one stream can stand for them: how much a server has it tells nobody.

    In a cluster they are on several servers.
    """
    if plan.server_info is None or plan.server_info.cluster:
        return {}
    limits = plan.server_info.limits
    largest = {"file": limits.max_file_stream, "memory": limits.max_memory_stream}
    return {
        each.storage: each.bytes
        for each in plan.reserves
        if not 0 < largest[each.storage] < each.bytes and not limits.max_bytes_required
    }


def shape_of(resource: Resource) -> bytes:
    """Return a key that is equal for resources for which one rehearsal stands."""
    words = ("description", "metadata")
    left_open = resource.left_open if isinstance(resource, DesiredResource) else _NONE
    kept = {name: value for name, value in resource.normalised().items() if name not in words}
    role = f".{resource.role}." if resource.role else ""

    def same(subject: str) -> str:
        return f".{subject}.".replace(role, ".{role}.") if role else subject

    for name in _SUBJECTS:
        if value := kept.get(name):
            kept[name] = sorted({_form(one) for one in ([value] if isinstance(value, str) else value)})
    return canonical_json([resource.ref.kind, _with_subjects(kept, same, _MAPPINGS), sorted(left_open)])


def _form(subject: str) -> str:
    """Return the subject with `-` for each literal token: `$JS.-.*`."""
    return ".".join(
        token if token in ("*", ">") or token.startswith("$") else "-" for token in subject.split(".")
    )


class _Tried(NamedTuple):
    """One stream or consumer that is tried: as it will be, and as it is, if it is updated."""

    wanted: DesiredResource
    before: LiveResource | None

    @property
    def kind(self) -> bytes:
        """What tells it from another kind."""
        return shape_of(self.wanted) + (shape_of(self.before) if self.before else b"")

    @property
    def is_alike(self) -> bool:
        """Whether an update changes nothing of it that a server could refuse."""
        return self.before is not None and shape_of(self.before) == shape_of(
            replace(self.wanted, left_open=_NONE)
        )


class _TriedStream(NamedTuple):
    """A stream, and the consumers that are tried on it."""

    stream: _Tried
    consumers: Sequence[_Tried]
    is_background: bool
    is_required: bool
    is_new: bool


def _tried_streams(plan: Plan) -> Iterator[_TriedStream]:
    """Yield each stream of which something is made or changed, with those of its consumers that are."""
    live, by_ref = plan.live or LiveState(), {change.ref: change for change in plan.changes}
    tried = {
        change.ref: one
        for change in plan.changes
        if change.after is not None
        and change.action is not Action.IMPOSSIBLE
        and not (one := _Tried(change.after, _updated_by(change, change.after))).is_alike
    }
    readers: dict[Ref, list[_Tried]] = {Ref(ref.stream): [] for ref in tried}
    for ref, one in tried.items():
        if ref.consumer:
            readers[Ref(ref.stream)].append(one)
    for ref, consumers in readers.items():
        change = by_ref.get(ref)
        stream = (change and change.after) or plan.desired.resources.get(ref)
        if stream is None:
            if ref not in live.resources:
                continue
            stream = DesiredResource(ref, live.resources[ref].config)  # it stays as it is
        whole = change is not None and _replaces(change)
        required = whole or any(_replaces(by_ref[one.wanted.ref]) for one in consumers)
        all_of_it = (
            [_Tried(reader, None) for reader in plan.desired.consumers(ref.stream)] if whole else consumers
        )
        if required and stream.get("retention") == "workqueue":  # each may be in another one's way
            kinds = all_of_it
        else:
            kinds = list({one.kind: one for one in all_of_it}.values())
        yield _TriedStream(
            tried.get(ref, _Tried(stream, None)),
            kinds,
            is_background=ref not in tried and not required,
            is_required=required,
            is_new=change is not None and change.action is Action.CREATE,
        )


def _replaces(change: Change) -> bool:
    return change.action is Action.REPLACE or change.preserves_messages


def _updated_by(change: Change, wanted: DesiredResource) -> LiveResource | None:
    """Return the live resource that the change updates; None if it creates one."""
    if change.before is None or change.action not in (Action.UPDATE, Action.ADOPT) or _replaces(change):
        return None
    return with_what_is_said(change.before, wanted)


def _rehearsal(tried: _TriedStream, owner: str, *, takes_room: bool, reserves: int) -> Rehearsal:
    name = rehearsal_stream(tried.stream.wanted.ref).stream
    first = f"_rehearsal.{name.removeprefix(REHEARSAL_PREFIX)}."

    def elsewhere(subject: str) -> str:
        return f"{first}{subject}" if subject else subject

    def candidate(found: Resource, settings: Config) -> Resource:
        ref = Ref(name, found.ref.consumer)
        config = _with_subjects(settings, elsewhere, (*_SUBJECTS, *_MAPPINGS))
        labels = {**found.metadata, OWNER_KEY: owner, KIND_KEY: REHEARSAL_PREFIX, RESOURCE_KEY: str(ref)}
        config |= {"name": ref.name, "metadata": labels}
        if ref.kind is Kind.STREAM:
            config = {field: value for field, value in config.items() if field not in _NEVER_NEW}
            config |= _copied_origin(found, name)
            config["subjects"] = _one_of_each_form(config.get("subjects") or ())
            if config.get("max_bytes", -1) > MAX_STREAM_BYTES or reserves:
                config["max_bytes"] = reserves or MAX_STREAM_BYTES
        else:
            config["durable_name"] = ref.name
        return Resource(ref, without_server_labels(config))

    def part(one: _Tried, *, is_background: bool = False) -> Part:
        opened = LIMITED_FIELDS[Kind.STREAM] if is_background else tuple(one.wanted.left_open)
        asked = with_server_values(one.wanted.config, {}) | dict.fromkeys(opened, 0)
        before = None
        if one.before is not None:
            was = {name: value for name, value in one.before.normalised().items() if name not in _MOVING}
            was |= {name: asked[name] for name in _MOVING if name in asked}
            before = candidate(one.before, was | dict.fromkeys(opened, 0))
        return Part(candidate(one.wanted, asked), one.wanted, shape_of(one.wanted), before, is_background)

    return Rehearsal(
        part(tried.stream, is_background=tried.is_background),
        tuple(map(part, tried.consumers)),
        tried.is_required,
        takes_room,
        reserves,
    )


def _copied_origin(stream: Resource, name: str) -> dict[str, Any]:
    """Return the mirror or sources of the rehearsal, under names that no stream has; its own name where the stream copies itself."""

    def renamed(origin: Mapping[str, Any]) -> dict[str, Any]:
        itself = origin.get("name") == stream.ref.stream
        return {**origin, "name": name if itself else f"{REHEARSAL_PREFIX}of-{origin.get('name', '')}"}

    found: dict[str, Any] = {}
    if mirror := stream.get("mirror"):
        found["mirror"] = renamed(mirror)
    if sources := stream.get("sources"):
        found["sources"] = [renamed(origin) for origin in sources]
    return found


def _with_subjects(config: Config, mapped: Callable[[str], str], fields: Sequence[str]) -> dict[str, Any]:
    """Return the configuration with every subject in these fields `mapped`. Subjects in `mirror` and `sources` stay: they are the origin's."""
    found = dict(config)
    for name in fields:
        value = found.get(name)
        if not value:
            continue
        if name in _MAPPINGS:
            ways = {part: mapped(value[part]) for part in ("src", "dest") if part in value}
            found[name] = {**value, **ways}
        else:
            found[name] = mapped(value) if isinstance(value, str) else [mapped(item) for item in value]
    return found


def _one_of_each_form(subjects: Sequence[str]) -> list[str]:
    """Return subjects that stand for all: a server compares each of a stream with every other, which takes long for thousands."""
    return list({_form(subject): subject for subject in subjects}.values())
