"""Import: write a manifest of what an account already holds, or of what other tools' files say, for `plan` to adopt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.importing import describe
from cyborg_infra.core.importing.gaps import describe_gaps
from cyborg_infra.core.importing.propose import propose_names
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.live.connection.target import Target
from cyborg_infra.manifest.load import check_names, load_naming, loads
from cyborg_infra.manifest.other_tools.readers import READERS
from cyborg_infra.manifest.write import write_manifest
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import CyborgError, ManifestInvalid, Problem, UsageInvalid
from cyborg_infra.model.resources import DesiredState, LiveState, Resource
from cyborg_infra.model.server_versions import NEWEST_LEVEL
from cyborg_infra.model.subjects import is_name, is_token
from cyborg_infra.model.wording import Command, Option, worded
from cyborg_infra.render.command_line import spoken

__all__ = ["READERS", "import_files", "import_manifest"]


def import_manifest(
    org: str, stream_prefix: str, target: Target, naming: str | None = None
) -> tuple[str, list[str]]:
    """Return a manifest of what the organisation has on the server, and in sentences what it does not say. Writes nothing.

    Channels and names are those of the file `naming`; without one, channels are the built-in ones, under the names that they
    seem to have. A plan of the manifest adopts, and changes only what the sentences tell.

    Raises:
        UsageInvalid: no organisation can be called so.
        ManifestInvalid: `naming` cannot be used.
        CyborgError: no role of it is found.
    """
    blank = _blank(org, stream_prefix, naming)
    from cyborg_infra.live.api.jetstream import connect_account
    from cyborg_infra.operations.event_loop import run_coroutine

    async def read() -> LiveState:
        async with connect_account(target) as server:
            account = await server.snapshot(org, DesiredState())
            looked_at = {
                found.ref: found
                for found in account.streams()
                if describe.has_scheme_name(found, blank) or (not naming and _may_be_ours(found, org))
            }
            return await server.snapshot(org, LiveState(looked_at))

    return _describe(run_coroutine(read()), blank, known=naming is not None)


def import_files(
    source: str, paths: Sequence[str], org: str, stream_prefix: str, naming: str | None = None
) -> tuple[str, list[str]]:
    """Return the same of what another tool's files say, without a server; with what of them was not taken.

    Raises as `import_manifest` does, and UsageInvalid for files that cannot be read.
    """
    blank = _blank(org, stream_prefix, naming)
    found = READERS[source](paths)
    text, notes = _describe(found.live, blank, known=naming is not None)
    return text, [*found.notes, *notes]


def _blank(org: str, stream_prefix: str, naming: str | None) -> Org:
    """Return the organisation with nothing but its names."""
    for what, name, usable in (
        (Option("org"), org, is_token(org) and is_name(org)),
        (Option("stream_prefix"), stream_prefix, not stream_prefix or is_name(stream_prefix)),
    ):
        if not usable:
            said = worded("{}: {} cannot be part of a subject or a name", what, repr(name))
            raise UsageInvalid(Problem("usage", said))
    blank = load_naming(naming, org) if naming else Org(org, ())
    return replace(blank, stream_prefix=stream_prefix) if stream_prefix else blank


def _describe(live: LiveState, blank: Org, *, known: bool) -> tuple[str, list[str]]:
    """Return the manifest of what lives, and its gaps; the names are `known`, or proposed by what they have in common."""
    org = blank.name
    names = blank if known else _proposed(live, blank)
    found = describe.describe_org(live, names)
    if not found.roles:
        raise CyborgError(_nothing_found(live, org, known=known))
    head = f"The organisation {org} as `cyborg-infra import` found it. `cyborg-infra plan` tells what apply would do."
    notes = _describe_gaps(write_manifest(found, head), live, known=known)
    if names.channels != blank.channels or names.subject_prefix != blank.subject_prefix:
        head = f"{head} What stands under naming is what the names on the server have in common."
    return write_manifest(found, head, notes), notes


def _may_be_ours(stream: Resource, org: str) -> bool:
    """Return whether the organisation's name is a token of a subject that the stream stores."""
    return any(org in subject.split(".") for subject in stream.get("subjects"))


def _proposed(live: LiveState, blank: Org) -> Org:
    """Return the names that the account shows, as far as they can be told apart; `blank` if they cannot."""
    proposed = propose_names(live, blank)
    return blank if check_names(proposed) else proposed


def _describe_gaps(manifest: str, live: LiveState, *, known: bool) -> list[str]:
    """Return what the manifest does not say of `live`; or why it cannot be used as it stands."""
    try:
        org = loads(manifest)
        desired = expand(org, live.server_info.level if live.server_info else NEWEST_LEVEL)
    except ManifestInvalid as invalid:
        return [f"this manifest cannot be applied as it stands: {problem}" for problem in invalid.problems]
    plan = make_plan(live, desired, owner=org.name, org=org)
    return [spoken(note) for note in describe_gaps(plan, live, org, names_are_known=known)]


def _nothing_found(live: LiveState, org: str, *, known: bool) -> Problem:
    subjects = [subject.split(".") for found in live.streams() for subject in found.get("subjects")]
    others = sorted({tokens[0] for tokens in subjects if tokens[1:2] == ["agents"] and is_token(tokens[0])})
    return Problem(
        "nothing-to-import",
        f"no stream or consumer is named as one of a role of {org}",
        None,
        f"there are subjects of {', '.join(others)}" if others else _way_to_names(known=known),
    )


def _way_to_names(*, known: bool) -> str:
    if known:
        return worded(
            "see what `{}` prints of the file's names and subjects, with some roles", Command("show")
        )
    return worded(
        "names and subjects of your own are read with {}, a file with what stands under naming and channels in a manifest; "
        "`{}` prints those of a manifest without",
        Option("naming", "FILE"),
        Command("show"),
    )
