"""What crosses between the two accounts of an organisation: the roles' own, and the one that has JetStream.

JetStream answers wherever a request says, and no permission covers that subject. Its API listens in every account that has
JetStream, so an answer to `$JS.API.STREAM.DELETE.X` deletes X. In an account without JetStream nothing listens there. What a role
sends to the other account goes through a service import, and what that answers stays in the role's account.

**A service import must have a wildcard.** The server takes an answer, which it delivers to a subject of the role's account, for a request
again where an import has exactly that subject: the pull of a role would publish a task for another. Where the import has a wildcard the
server goes by the answer's own subject (`_R_...`), which leads nowhere (measured on 2.10.26 and 2.15.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cyborg_infra.core.identity import grants
from cyborg_infra.model.channels import MEMBER, Scope
from cyborg_infra.model.identities import Crossing, CrossingKind, Grant, Identity, Rules
from cyborg_infra.model.naming import ANSWERS
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import ManifestInvalid, Problem
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.model.subjects import SubjectIndex, covers, is_pattern, overlap

_WILDCARDS = frozenset("*>")
_NO_OTHER_API = Grant(
    "$JS.*.INFO", "keeps the server from answering that the agents' account has no JetStream"
)
"""A server with JetStream answers the whole API with an error in an account without it, unless that imports this request (measured on 2.10.26 and 2.15.1)."""


def crossings(
    org: Org, state: DesiredState, found: Sequence[Identity], domain: str | None = None
) -> tuple[Crossing, ...]:
    """Return what roles send to the account that has JetStream, and what comes from there. `found` are all identities.

    It follows from what each may publish and hear, so that there is no second list: a subject crosses if JetStream's API, a stream or
    an identity of the other account listens to it. No subject is in two of the patterns: it would be sent twice. Raises
    ManifestInvalid where that cannot be.
    """
    apart, standing = (
        [identity for identity in found if identity.is_apart is is_apart] for is_apart in (True, False)
    )
    granted = {
        grant.subject: grant.reason
        for identity in apart
        for grant in identity.publish
        if grant.subject != ANSWERS
    }
    stored = SubjectIndex((subject, "") for stream in state.streams() for subject in stream.get("subjects"))
    sent = {
        subject: reason
        for subject, reason in granted.items()
        if subject.startswith("$JS.")
        or stored.overlapping(subject)
        or any(_hears(each.subscribe_rules, subject) for each in standing)
    }
    services = _patterns(sent, [*grants.use_any_consumer(domain), *_channels(org)])
    services.append(_NO_OTHER_API)
    return (
        *(Crossing(CrossingKind.SERVICE, *each) for each in services),
        *(Crossing(CrossingKind.STREAM, *each) for each in _delivered(state, apart)),
    )


def _hears(rules: Rules, subject: str) -> bool:
    """Return whether an identity hears anything of a subject."""
    heard = any(overlap(_without_queue(each), subject) for each in rules.allow)
    return heard and not any(covers(each, subject) for each in rules.deny)


def _channels(org: Org) -> Iterator[Grant]:
    """Yield a pattern for each channel that has one: all roles', groups' or events' subjects. None that may take in inboxes."""
    for channel in org.channels:
        if channel.scope in MEMBER:
            pattern = org.subject(channel.subject_of(">" if channel.scope is Scope.EVENT else "*"))
            if is_pattern(pattern) and pattern[0] not in _WILDCARDS:
                yield Grant(pattern, f"channel {channel.name}")


def _patterns(sent: dict[str, str], known: Sequence[Grant]) -> list[Grant]:
    """Return patterns that cover what is sent, each with a wildcard, and none that has a subject in common with another."""
    found: dict[str, str] = {}
    literal: dict[str, str] = {}
    for subject in sorted(sent, key=_is_literal):  # of a pattern that a role is granted there is no choice
        wide = next((each for each in known if covers(each.subject, subject)), None)
        if wide is not None and not any(_meet(wide.subject, each) for each in found):
            found[wide.subject] = wide.reason
        elif _is_literal(subject):
            literal[subject] = sent[subject]
        else:
            found[subject] = sent[subject]
    for subject in literal:
        if not any(covers(each, subject) for each in found):
            pattern = _with_a_wildcard(subject, found)
            reasons = (reason for each, reason in literal.items() if covers(pattern, each))
            found[pattern] = "; ".join(dict.fromkeys(reasons))
    narrow = {each for each in found if any(covers(other, each) for other in found if other != each)}
    return [Grant(subject, reason) for subject, reason in found.items() if subject not in narrow]


def _is_literal(subject: str) -> bool:
    return _WILDCARDS.isdisjoint(subject.split("."))


def _meet(one: str, other: str) -> bool:
    """Return whether two patterns have subjects in common, and neither has all of the other's."""
    return overlap(one, other) and not covers(one, other) and not covers(other, one)


def _with_a_wildcard(subject: str, found: Iterable[str]) -> str:
    """Return the literal subject with one token replaced by `*`, and the first token only if no other will do.

    What it takes in of the other literal subjects needs no pattern of its own. Raises ManifestInvalid where each has a subject in
    common with what was found.
    """
    tokens = subject.split(".")
    behind_the_first = range(1, len(tokens))
    names_what = subject.startswith("$")  # the server's subjects end with the name of a stream
    for at in (*(behind_the_first if names_what else reversed(behind_the_first)), 0):
        pattern = ".".join((*tokens[:at], "*", *tokens[at + 1 :]))
        if not any(overlap(pattern, each) for each in found):
            return pattern
    raise ManifestInvalid(
        Problem(
            "identity-subject",
            f"{subject} cannot be imported by the roles' account: each pattern for it takes in subjects of {', '.join(found)}",
            None,
            "give it more tokens, or set naming: {subject_prefix: ...}",
        )
    )


def _delivered(state: DesiredState, apart: Sequence[Identity]) -> Iterator[Grant]:
    """Yield what JetStream publishes by itself, for those to hear who are not in its account: what a push consumer delivers."""
    hears = {_without_queue(grant.subject) for each in apart for grant in each.subscribe}
    for consumer in state.consumers():
        if (pushed := consumer.get("deliver_subject")) in hears:
            yield Grant(pushed, f"consumer {consumer.ref}: what it pushes")
    for each in apart:
        if any(".API.CONSUMER.CREATE." in grant.subject for grant in each.publish):
            yield Grant(f"{each.inbox_prefix}.>", f"watches of {each.name}")


def _without_queue(subject: str) -> str:
    return subject.partition(" ")[0]
