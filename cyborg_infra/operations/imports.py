"""Import: write a manifest of what an account already holds, for `plan` to adopt."""

from __future__ import annotations

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.importing import describe
from cyborg_infra.core.importing.gaps import describe_gaps
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.live.connection.target import Target
from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.write import write_manifest
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import CyborgError, ManifestInvalid, Problem, UsageInvalid
from cyborg_infra.model.resources import State
from cyborg_infra.model.server_versions import NEWEST_LEVEL
from cyborg_infra.model.subjects import is_name, is_token
from cyborg_infra.model.wording import Command, Option, worded


def import_manifest(org: str, stream_prefix: str, target: Target) -> tuple[str, list[str]]:
    """Return a manifest of what the organisation has on the server, and in sentences what it does not say. Writes nothing.

    A plan of it adopts, and changes only what the sentences tell. Raises UsageInvalid for a name that no
    organisation can have, and CyborgError where no role of it is found.
    """
    for what, name, usable in (
        (Option("org"), org, is_token(org) and is_name(org)),
        (Option("stream_prefix"), stream_prefix, not stream_prefix or is_name(stream_prefix)),
    ):
        if not usable:
            said = worded("{}: {} cannot be part of a subject or a name", what, repr(name))
            raise UsageInvalid(Problem("usage", said))
    from cyborg_infra.live.api.jetstream import connect_account
    from cyborg_infra.operations.event_loop import run_coroutine

    blank = Org(org, (), stream_prefix=stream_prefix)

    async def read() -> State:
        async with connect_account(target) as server:
            account = await server.snapshot(org, State())
            named = {
                found.ref: found for found in account.streams() if describe.has_scheme_name(found, blank)
            }
            return await server.snapshot(org, State(named))

    live = run_coroutine(read())
    found = describe.describe_org(live, blank)
    if not found.roles:
        raise CyborgError(_nothing_found(live, org))
    head = f"The organisation {org} as `cyborg-infra import` found it. `cyborg-infra plan` tells what apply would do."
    return write_manifest(found, head, notes := _describe_gaps(write_manifest(found, head), live)), notes


def _describe_gaps(manifest: str, live: State) -> list[str]:
    """Return what the manifest does not say of `live`; or why it cannot be used as it stands."""
    try:
        org = loads(manifest)
        desired = expand(org, live.server_info.level if live.server_info else NEWEST_LEVEL)
    except ManifestInvalid as invalid:
        return [f"this manifest cannot be applied as it stands: {problem}" for problem in invalid.problems]
    return describe_gaps(make_plan(live, desired, owner=org.name, org=org), live, org)


def _nothing_found(live: State, org: str) -> Problem:
    subjects = [subject.split(".") for found in live.streams() for subject in found.get("subjects")]
    others = sorted({tokens[0] for tokens in subjects if tokens[1:2] == ["agents"] and is_token(tokens[0])})
    return Problem(
        "nothing-to-import",
        f"no stream or consumer is named as one of a role of {org}",
        None,
        f"there are subjects of {', '.join(others)}"
        if others
        else worded("the names must follow the naming scheme; see `{}`", Command("show")),
    )
