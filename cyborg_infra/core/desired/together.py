"""Organisations that are planned in one run: nothing of one may be in another's way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyborg_infra.core.desired.rules import captured_subjects
from cyborg_infra.core.desired.settings import kind_of, member_of, source_mark
from cyborg_infra.model.channels import StreamKind
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import ManifestInvalid, Problem, SourcePosition
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import DesiredState, Resource
from cyborg_infra.model.subjects import SubjectIndex
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import first_few

_APART = "give each subjects of its own, or an account of its own"

_MAX_NAMED = 3
"""So many of the streams or subjects that two organisations share are named."""


class Planned(NamedTuple):
    """An organisation, the file that it is from, and what it wants."""

    path: str
    org: Org
    desired: DesiredState


def check_together(planned: Sequence[Planned]) -> None:
    """Raise ManifestInvalid unless all can be in one account: names and streams are one organisation's each, and no two subjects overlap.

    Raises ManifestInvalid, with a problem for each two that cannot.
    """
    problems = [
        problem
        for position, later in enumerate(planned)
        for earlier in planned[:position]
        for problem in _between(earlier, later)
    ]
    if problems:
        raise ManifestInvalid(*problems)


def _between(earlier: Planned, later: Planned) -> Iterator[Problem]:
    both = f"{earlier.path} and {later.path}"
    if earlier.org.name == later.org.name:
        yield Problem(
            "same-organisation",
            f"{both} both describe the organisation {later.org.name}",
            later.org.marks.get(("org",)),
            "one organisation is one manifest: choose another name, or put all into one file",
        )
        return
    streams = [stream for stream in later.desired.streams() if stream.ref in earlier.desired.resources]
    prefix = later.org.name.upper().replace("-", "_")
    for found, hint in (
        (
            [stream for stream in streams if kind_of(stream) != StreamKind.KEY_VALUE],
            f"give one of them a prefix, such as naming: {{stream_prefix: {prefix}_}}",
        ),
        (
            [stream for stream in streams if kind_of(stream) == StreamKind.KEY_VALUE],
            "rename the bucket in one of them: no prefix stands before it",
        ),
    ):
        if found:
            yield Problem(
                "same-stream",
                f"{both} both have {_in_words('stream', [stream.ref.stream for stream in found])}",
                _mark(later.org, found[0]),
                f"{hint}; or give each an account of its own",
            )
    index = SubjectIndex(
        (subject, stream.ref.stream)
        for stream in earlier.desired.streams()
        for subject in stream.get("subjects")
    )
    same: set[Ref] = {stream.ref for stream in streams}
    met = [
        (stream, f"{subject} of {stream.ref} overlaps {other} of {owner}")
        for stream in later.desired.streams()
        if stream.ref not in same  # that is said already
        for subject in stream.get("subjects")
        for other, owner in index.overlapping(subject)
    ]
    if met:
        more = f" (and {len(met) - 1} more like it)" if len(met) > 1 else ""
        yield Problem(
            "overlap",
            f"{both} would store the same messages: {met[0][1]}{more}",
            _mark(later.org, met[0][0]),
            _APART,
        )
    for one, other in ((earlier, later), (later, earlier)):
        yield from _captures(one, other)


def _captures(one: Planned, other: Planned) -> Iterator[Problem]:
    """Yield a problem where a stream of one would answer the requests of the other, or store what the other wants stored by nobody."""
    captured = list(captured_subjects(other.org, one.desired.streams()))
    if captured:
        subject, pattern, name = captured[0]
        more = f" (and {len(captured) - 1} more like it)" if len(captured) > 1 else ""
        yield Problem(
            "capture",
            f"stream {name} of {one.path} captures {subject} of {other.path} with {pattern}{more}",
            _mark(one.org, one.desired.resources[Ref(name)]),
            f"a stream answers a captured request itself: {_APART}",
        )


def _in_words(noun: str, names: Sequence[str]) -> str:
    return f"the {noun}{'s' * (len(names) > 1)} {first_few(names, _MAX_NAMED)}"


def _mark(org: Org, stream: Resource) -> SourcePosition | None:
    return source_mark(org, kind_of(stream), member_of(org, stream), "subjects")
