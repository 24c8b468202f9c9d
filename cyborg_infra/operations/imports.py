"""A manifest of what an account holds already, for `plan` to adopt. Writes nothing to the server."""

from __future__ import annotations

from cyborg_infra.core import imports
from cyborg_infra.core.expand import expand
from cyborg_infra.core.plan import make_plan
from cyborg_infra.core.unsaid import unsaid
from cyborg_infra.live.target import Target
from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.text import text
from cyborg_infra.model.fields import NEWEST_LEVEL
from cyborg_infra.model.org import Org
from cyborg_infra.model.problems import CyborgError, ManifestInvalid, Problem, UsageInvalid
from cyborg_infra.model.state import State
from cyborg_infra.model.subjects import is_name, is_token


def imported(org: str, stream_prefix: str, target: Target) -> tuple[str, list[str]]:
    """A manifest of what the organisation has on the server, and in sentences what it does not say. Writes nothing.

    A plan of it adopts, and changes only what the sentences tell. Raises UsageInvalid for a name that no
    organisation can have, and CyborgError where no role of it is found.
    """
    for what, name, usable in (
        ("--org", org, is_token(org) and is_name(org)),
        ("--stream-prefix", stream_prefix, not stream_prefix or is_name(stream_prefix)),
    ):
        if not usable:
            raise UsageInvalid(Problem("usage", f"{what}: {name!r} cannot be part of a subject or a name"))
    from cyborg_infra.live.jetstream import opened
    from cyborg_infra.live.run import run

    blank = Org(org, (), stream_prefix=stream_prefix)

    async def read() -> State:
        async with opened(target) as server:
            account = await server.snapshot(org, ())
            names = {found.ref.stream for found in account.streams() if imports.follows_scheme(found, blank)}
            return await server.snapshot(org, names)

    live = run(read())
    found = imports.described(live, blank)
    if not found.roles:
        raise CyborgError(_nothing_found(live, org))
    head = f"The organisation {org} as `cyborg-infra import` found it. `cyborg-infra plan` tells what apply would do."
    return text(found, head, notes := _unsaid(text(found, head), live)), notes


def _unsaid(manifest: str, live: State) -> list[str]:
    """What the manifest does not say of `live`; or why it cannot be used as it stands."""
    try:
        org = loads(manifest)
        desired = expand(org, live.facts.level if live.facts else NEWEST_LEVEL)
    except ManifestInvalid as invalid:
        return [f"this manifest cannot be applied as it stands: {problem}" for problem in invalid.problems]
    return unsaid(make_plan(live, desired, owner=org.name, org=org), live, org)


def _nothing_found(live: State, org: str) -> Problem:
    subjects = [
        subject.split(".") for found in live.streams() for subject in found.config.get("subjects") or ()
    ]
    others = sorted({tokens[0] for tokens in subjects if tokens[1:2] == ["agents"] and is_token(tokens[0])})
    return Problem(
        "nothing-to-import",
        f"no stream or consumer is named as one of a role of {org}",
        None,
        f"there are subjects of {', '.join(others)}"
        if others
        else "the names must follow the naming scheme; see `cyborg-infra show`",
    )
