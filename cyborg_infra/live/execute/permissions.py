"""The requests that a plan's changes will send, and so the permissions that a user needs.

Beside what sends it (`live.execute.change`, `live.execute.consumer.replacement`, `live.execute.migrate.migration`), because it says the same once more. Every row of the acceptance table
is compared with it: nothing is sent that is not predicted here, and what is predicted for certain is sent. What can be
done without is not asked for: what keeps open what agents work on, as without it a consumer is replaced when they have
finished; and what tries a change that takes nothing away, as without it a refusal comes when that is written.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import assert_never

from cyborg_infra.live.api.copying import MIRROR, copy_method_for
from cyborg_infra.live.api.fencing import parks_first
from cyborg_infra.live.api.jetstream import JetStream
from cyborg_infra.live.connection.target import DEFAULT_PREFIX
from cyborg_infra.live.execute.consumer.placeholder import placeholder_ref
from cyborg_infra.model.changes import (
    Adopt,
    Blocked,
    Change,
    Create,
    Delete,
    Migrate,
    Replace,
    Restore,
    Update,
)
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.fields import Kind
from cyborg_infra.model.metadata_keys import KIND_KEY
from cyborg_infra.model.naming import handed_in_subject
from cyborg_infra.model.plan import Plan
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref, fence_subject, rehearsal_stream
from cyborg_infra.model.resources import DesiredResource, StreamCounts
from cyborg_infra.model.server import require_server_info
from cyborg_infra.model.server_versions import Version
from cyborg_infra.model.valueclass import NamedTuple

_HINT = "docs/how-to/permissions.md says what each is for"


_API = ("STREAM.", "CONSUMER.")


class RequiredPermission(NamedTuple):
    """One request of a change: a verb of the API with its names, or the subject of a message.

    `is_certain`: it is sent whenever the change is carried out. What is not, is sent on the way there only sometimes, or
    puts back what an interruption has left. `is_optional`: without it, it is done all the same.
    """

    verb: str
    change: Ref
    is_certain: bool = False
    is_optional: bool = False

    @property
    def kind(self) -> str:
        """The verb without the names: `CONSUMER.PAUSE`."""
        if not self.verb.startswith(_API):
            return self.verb.split(".")[0] if self.verb.startswith("_") else self.verb
        words = self.verb.split(".")
        names = 1 if words[0] == "STREAM" or words[1] == "LIST" else 2
        return ".".join(words[:-names])

    def subjects(self, server: JetStream) -> Sequence[str]:
        """Return the subject of the request, and the other ways to spell it.

        Connected to a domain's own server, it is JetStream's own subject that has to be allowed (2.10.26 to 2.15.1).
        """
        if not self.verb.startswith(_API):
            return [self.verb]
        return list(dict.fromkeys(f"{prefix}.{self.verb}" for prefix in (server.api_prefix, DEFAULT_PREFIX)))


def required_permissions(plan: Plan) -> Iterator[RequiredPermission]:
    """Yield every permission that carrying the plan out, or undoing a part of it, may need."""
    version = require_server_info(plan.server_info).version
    lost = {
        change.current_ref
        for change in plan.changes
        if change.ref.kind is Kind.STREAM and isinstance(change, Replace | Delete)
    }
    updated = {change.ref for change in plan.changes if isinstance(change, Update | Adopt)}
    for change in plan.changes:
        if change.ref.kind is Kind.STREAM:
            found = _stream_requests(change, plan, version)
        else:
            found = _consumer_requests(
                change, version, with_its_stream=Ref(change.current_ref.stream) in lost
            )
        saving = _archive_requests(change, plan) if change.archives_dead_letters else ()
        tried = list(_rehearsal_requests(change, plan, updated))
        required = change.preserves_messages or isinstance(change, Replace)
        rows = [*(tried if required else ()), *saving, *found]
        for verb, certain in dict(sorted(rows, key=lambda row: row[1])).items():
            yield RequiredPermission(verb, change.ref, certain)
        for verb, _ in () if required else tried:
            yield RequiredPermission(verb, change.ref, is_optional=True)


class DeniedPermissions(NamedTuple):
    """What a plan needs and its user may not publish to. Who `is_read_only` may do nothing that it is certain to do, and plans for others."""

    problems: tuple[Problem, ...] = ()
    is_read_only: bool = False


async def find_denied(server: JetStream, plan: Plan) -> DeniedPermissions | None:
    """Return what this user may not do of the plan, each with a change that needs it; None where the server does not tell."""
    if (may := await server.permissions()) is None:
        return None
    missing: dict[str, dict[str, Ref]] = {}
    acts = not may.are_limited
    for need in required_permissions(plan) if may.are_limited else ():
        subjects = need.subjects(server)
        if need.is_optional:
            continue
        if any(may.may_publish(subject) for subject in subjects):
            acts |= need.is_certain
        else:
            missing.setdefault(need.kind, {}).setdefault(subjects[0], need.change)
    return DeniedPermissions(tuple(_problem(alike) for alike in missing.values()), is_read_only=not acts)


def _problem(alike: Mapping[str, Ref]) -> Problem:
    """Return the problem that a user may not publish to these subjects, which are of one kind."""
    subject, ref = next(iter(alike.items()))
    more = f" and {len(alike) - 1:,} more of its kind" if len(alike) > 1 else ""
    return Problem("permission", f"{ref}: this user may not publish to {subject}{more}", None, _HINT)


_Rows = Iterable[tuple[str, bool]]


def _certain(*verbs: str) -> _Rows:
    return [(verb, True) for verb in verbs]


def _possible(*verbs: str) -> _Rows:
    return [(verb, False) for verb in verbs]


def _rehearsal_requests(change: Change, plan: Plan, updated: Container[Ref]) -> _Rows:
    """Yield the requests of the change's rehearsal, see `core.planning.rehearsal`: one of each kind of resource is tried."""
    if change.after is None:
        return
    stream = Ref(change.ref.stream)
    tried = rehearsal_stream(stream)
    whole = change.ref == stream and (change.preserves_messages or isinstance(change, Replace))
    readers = (
        plan.desired.consumers(stream.stream) if whole else [change.after] if change.ref.consumer else ()
    )
    verbs = ("INFO", "CREATE", "DELETE", *(["UPDATE"] if stream in updated else []))
    yield from _possible(*(f"STREAM.{verb}.{tried}" for verb in verbs))
    for reader in readers:
        mark = _dotted(Ref(tried.stream, reader.ref.consumer))
        yield from _possible(f"CONSUMER.INFO.{mark}", f"CONSUMER.CREATE.{mark}")


def _stream_requests(change: Change, plan: Plan, version: Version) -> Iterator[tuple[str, bool]]:
    if isinstance(change, Blocked):
        return  # nothing of a plan with such a change is carried out
    if not isinstance(change, Delete) and isinstance(change.method, Migrate):
        yield from _migration_requests(change, change.method, plan, version)
        return
    ref, place = change.ref, change.current_ref
    yield from _possible(f"STREAM.INFO.{ref}", f"STREAM.INFO.{place}")
    match change:
        case Adopt() | Update():
            yield from _certain(f"STREAM.UPDATE.{ref}")
            if change.before.is_fenced:
                yield from _first_consumer_requests(change)
        case Create():
            yield from _create_requests(change)
        case Replace():
            yield from _delete_requests(change)
            yield from _create_requests(change)
        case Delete():
            yield from _delete_requests(change)
        case _:
            assert_never(change)


def _delete_requests(change: Replace | Delete) -> _Rows:
    place = change.current_ref
    parks = parks_first(change, change.before)
    yield from _certain(f"STREAM.DELETE.{place}", *([f"STREAM.UPDATE.{place}"] if parks else []))


def _create_requests(change: Create | Replace) -> _Rows:
    yield from _certain(f"STREAM.CREATE.{change.ref}")
    if change.consumers_after and change.after.get("retention") == "interest":
        yield from _certain(f"STREAM.UPDATE.{change.ref}")
        yield from _first_consumer_requests(change)


def _first_consumer_requests(change: Create | Adopt | Update | Replace) -> _Rows:
    """Yield the requests that create consumers first: an interest stream discards what is published before they are there."""
    for reader in change.consumers_after.values():
        for name in (reader.ref, placeholder_ref(reader.ref)):
            yield from _possible(f"CONSUMER.INFO.{_dotted(name)}")
        yield from _possible(f"CONSUMER.CREATE.{_dotted(reader.ref)}")


def _migration_requests(
    change: Create | Adopt | Update | Replace, method: Migrate, plan: Plan, version: Version
) -> Iterator[tuple[str, bool]]:
    """Yield the requests of a migration; see `live.execute.migrate.migration`."""
    ref, via = change.ref, method.temporary_stream
    goes_on = change.current_ref != ref or not isinstance(change, Replace)
    for stream in (ref, via):
        yield from _possible(
            *(f"STREAM.{verb}.{stream}" for verb in ("INFO", "PURGE")), fence_subject(stream)
        )
        yield from _possible(f"CONSUMER.LIST.{stream}")  # what is noted of a stream before it is updated
        if copy_method_for(version) is not MIRROR or (
            plan.server_info and plan.server_info.cluster
        ):  # message ids: see `live.execute.migrate.message_ids`
            yield from _possible(f"STREAM.MSG.GET.{stream}")
        certain = not goes_on
        yield from ((f"STREAM.{verb}.{stream}", certain) for verb in ("CREATE", "UPDATE", "DELETE"))
    living = plan.live.consumers(change.current_ref.stream) if plan.live else ()
    names = {Ref(change.current_ref.stream, found.ref.consumer) for found in living}
    names |= {
        Ref(stream.stream, name)
        for stream in (ref, via, change.current_ref)
        for name in change.consumers_after
    }
    for name in names:
        yield from _stop_requests(name, version)
    for reader in change.consumers_after.values():
        yield from _placeholder_requests(reader.ref)
        yield from _possible(f"CONSUMER.CREATE.{_dotted(reader.ref)}")


def _archive_requests(change: Change, plan: Plan) -> Iterator[tuple[str, bool]]:
    """Yield the requests that archive dead letters: a workqueue does not have it any more then. See `operations.dead_letter_store`."""
    found = plan.live.streams() if plan.live else ()
    letters = [stream for stream in found if stream.metadata.get(KIND_KEY) == StreamKind.DEAD_LETTERS]
    wanted = [
        each for each in plan.desired.streams() if each.metadata.get(KIND_KEY) == StreamKind.DEAD_LETTERS
    ]
    for stream in (*letters, *wanted):
        yield from _possible(f"STREAM.INFO.{stream.ref}")
    yield from _possible(f"STREAM.INFO.{change.current_ref.stream}")
    for stream in letters:
        if isinstance(stream.counts, StreamCounts) and stream.counts.messages:
            yield from _possible(
                f"STREAM.MSG.GET.{stream.ref}", f"STREAM.MSG.GET.{change.current_ref.stream}"
            )
            yield from _possible(handed_in_subject(plan.org, next(iter(wanted), None)))
            if _is_workqueue(change.current_ref.stream, plan):
                yield from _possible(f"STREAM.MSG.DELETE.{change.current_ref.stream}")


def _is_workqueue(stream: str, plan: Plan) -> bool:
    living = plan.live.resources.get(Ref(stream)) if plan.live else None
    return living is not None and living.get("retention") == "workqueue"


def _stop_requests(consumer: Ref, version: Version) -> _Rows:
    """Yield the requests that stop a consumer, and resume it if nothing comes of it."""
    from cyborg_infra.live.execute.consumer.strategies import strategy_for

    yield from _possible(f"CONSUMER.INFO.{_dotted(consumer)}")
    if strategy_for(version).pauses:
        yield from _possible(f"CONSUMER.PAUSE.{_dotted(consumer)}")
    else:
        yield from _possible(*(f"CONSUMER.{verb}.{_dotted(consumer)}" for verb in ("CREATE", "DELETE")))
        if not consumer.is_placeholder:
            yield from _placeholder_requests(consumer)


def _placeholder_requests(consumer: Ref) -> _Rows:
    """Yield the requests that create a placeholder."""
    mark = _dotted(placeholder_ref(consumer))
    yield from _possible(*(f"CONSUMER.{verb}.{mark}" for verb in ("INFO", "CREATE", "DELETE")))


def _consumer_requests(
    change: Change, version: Version, *, with_its_stream: bool
) -> Iterator[tuple[str, bool]]:
    ref, place = change.ref, change.current_ref
    yield from _possible(f"CONSUMER.INFO.{_dotted(ref)}", f"CONSUMER.INFO.{_dotted(place)}")
    match change:
        case Blocked():
            return  # nothing of a plan with such a change is carried out
        case Delete():
            yield f"CONSUMER.DELETE.{_dotted(place)}", not with_its_stream
            yield from _possible(f"STREAM.INFO.{ref.stream}")
        case Replace():
            yield from _replace_requests(change, version, with_its_stream=with_its_stream)
        case Create() | Adopt() | Update() if isinstance(change.method, Restore):
            yield from _resume_requests(change.after, version)
        case Create() | Adopt() | Update():
            yield from _certain(f"CONSUMER.CREATE.{_dotted(ref)}")
            yield from _possible(f"STREAM.INFO.{ref.stream}")
            if change.before and change.before.is_left_paused:
                yield from _possible(f"CONSUMER.PAUSE.{_dotted(ref)}")
        case _:
            assert_never(change)


def _replace_requests(
    change: Replace, version: Version, *, with_its_stream: bool
) -> Iterator[tuple[str, bool]]:
    place, after = change.current_ref, change.after
    certain = not with_its_stream and not change.preserves_messages
    yield from _possible(*(f"STREAM.INFO.{name}" for name in (change.ref.stream, place.stream)))
    yield f"CONSUMER.DELETE.{_dotted(place)}", certain
    yield f"CONSUMER.CREATE.{_dotted(change.ref)}", certain
    if not with_its_stream:
        yield from _possible(f"CONSUMER.CREATE.{_dotted(place)}")
        yield from _stop_requests(place, version)
        yield from _placeholder_requests(change.ref)
    yield from _resume_requests(after, version)


def _resume_requests(after: DesiredResource, version: Version) -> _Rows:
    """Yield the requests that create a consumer at its placeholder's position, and delete that."""
    from cyborg_infra.live.execute.consumer.starting import BY_RESET
    from cyborg_infra.live.execute.consumer.strategies import strategy_for

    ref = _dotted(after.ref)
    yield from _possible(f"CONSUMER.CREATE.{ref}", f"CONSUMER.DELETE.{ref}")
    yield from _placeholder_requests(after.ref)
    if strategy_for(version).start_of(after) is BY_RESET:
        yield from _possible(f"CONSUMER.RESET.{ref}", f"CONSUMER.PAUSE.{ref}")


def _dotted(consumer: Ref) -> str:
    return f"{consumer.stream}.{consumer.consumer}"
