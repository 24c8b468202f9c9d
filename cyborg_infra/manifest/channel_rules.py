"""Rules of channels and of the names that a manifest gives, one function each, listed in RULES.

What they let pass expands without two streams or consumers of one name, and without two subjects that meet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product

from cyborg_infra.manifest.schema import ORG_SCHEMA, read_schema
from cyborg_infra.model import buckets, channels, subjects
from cyborg_infra.model.channels import (
    KNOWN,
    MEMBER,
    ROLE,
    UPPER_ROLE,
    Channel,
    Party,
    Scope,
    StreamKind,
    consumer_kinds,
    name_for,
    stream_kinds,
)
from cyborg_infra.model.organisation import ADMISSION, Org
from cyborg_infra.model.problems import Problem

_SAMPLE = "x"
_PLACEHOLDER = re.compile(r"\{(role|ROLE)\}")


def channels_have_names_of_their_own(org: Org) -> Iterator[Problem]:
    """Check that a channel is called like nothing that stands beside it: another kind, a key of a role or of alerts."""
    own = [channel for channel in org.channels if channel.is_own]
    if not own:
        return
    parts = read_schema(ORG_SCHEMA)["$defs"]
    taken = {
        **dict.fromkeys(parts["organisation_alerts"]["properties"], "a key of alerts"),
        **dict.fromkeys(("name", *parts["role"]["properties"]), "a key of a role"),
        **dict.fromkeys((*stream_kinds(KNOWN), StreamKind.KEY_VALUE), "a built-in kind of stream"),
        **dict.fromkeys((*consumer_kinds(org.channels), *consumer_kinds(KNOWN)), "a kind of consumer"),
    }
    for channel in own:
        reader = f"{channel.name}_reader"
        if channel.name in taken:
            message = f"a channel cannot be called {channel.name}, which is {taken[channel.name]}"
            yield Problem("bad-name", message, channel.mark, "choose another name")
        elif reader in consumer_kinds(KNOWN):
            message = f"the consumers of {channel.name} would be of the kind {reader}, which is built in"
            yield Problem("bad-name", message, channel.mark, "choose another name")


def channel_subjects_are_templates(org: Org) -> Iterator[Problem]:
    """Check that a channel's subject is a pattern, with {role} as a token of its own if each role has one."""
    for channel in org.channels:
        where = org.marks.get(("channels", channel.name, "subject"), channel.mark)
        if fault := _subject_fault(channel):
            yield Problem(
                "bad-subject", f"{channel.subject!r} cannot be the subject of {channel.name}", where, fault
            )
        elif fault := _send_to_fault(channel):
            where = org.marks.get(("channels", channel.name, "send_to"), channel.mark)
            message = f"send_to of {channel.name} has {fault} tokens than its subject has wildcards"
            yield Problem("bad-subject", message, where, "one token for each *, and at least one for >")


def _send_to_fault(channel: Channel) -> str:
    if not channel.send_to:
        return ""
    if not channel.send_subject_of(_SAMPLE):
        return "fewer"
    tokens, wanted = channel.subject.split("."), channel.send_to.split(".")
    return "more" if ">" not in tokens and len(wanted) > tokens.count("*") else ""


def _subject_fault(channel: Channel) -> str:
    tokens = channel.subject.split(".")
    if channel.scope is Scope.EVENT:
        return ""
    member = MEMBER.get(channel.scope, ROLE)
    if channel.scope is not Scope.ORG and tokens.count(member) != 1:
        return f"each {channel.scope} has one: name {member} as one of its tokens, such as agents.{member}.orders"
    bare = [token for token in tokens if token not in ("*", ">", member)]
    if channel.scope is Scope.ORG and ROLE in tokens:
        return "there is one for all: leave {role} out, or say of: role"
    if not subjects.is_pattern(channel.subject) or not all(map(subjects.is_token, bare)):
        return "tokens with dots between, * for any token and > at the end for any more, and no $ in front"
    if any("{" in token or "}" in token or not token.isprintable() for token in bare):
        return f"{member} is a token of its own, and the only one in braces"
    if channel.name == channels.DEAD_LETTERS and channel.subject != ".".join(bare):
        return "agents publish there what they give up: no wildcards"
    return ""


def channel_subjects_do_not_meet(org: Org) -> Iterator[Problem]:
    """Check that no subject is of two channels: a message is stored once, and a request reaches its agent."""
    patterns = [(channel, _patterns(channel, org)) for channel in org.channels if not _subject_fault(channel)]
    met: dict[str, list[Channel]] = {}
    for (one, first), (other, second) in combinations(patterns, 2):
        if any(subjects.overlap(left, right) for left, right in product(first, second)):
            later, earlier = (one, other) if one.mark and not other.mark else (other, one)
            met.setdefault(later.name, []).append(earlier)
    for channel, _pattern_of_it in patterns:
        if others := met.get(channel.name):
            first_met, more = others[0], f" and {len(others) - 1} more" if others[1:] else ""
            where = org.marks.get(("channels", channel.name, "subject"), channel.mark)
            message = f"the subject {channel.subject} of {channel.name} meets {first_met.subject} of {first_met.name}{more}"
            yield Problem(
                "overlap", message, where, "a message is of one channel only: choose another subject"
            )


def _patterns(channel: Channel, org: Org) -> list[str]:
    """Return every subject that it may have, whichever roles and events there are; groups are few, and each is known."""
    match channel.scope:
        case Scope.GROUP:
            return [channel.subject_of(group.name) for group in org.groups]
        case Scope.EVENT:
            return [channel.subject_of("*.>")]
    return [channel.subject_of("*")]


def names_are_templates(org: Org) -> Iterator[Problem]:
    """Check that a name of streams or consumers can be one, and stands for one stream or consumer of each role that has one."""
    for channel in org.channels:
        for of, section in ((channel.stream, "streams"), (channel.reader, "consumers")):
            fault = "" if of is None else _name_fault(channel, section, of.name, org)
            if of and fault:
                where = org.layered_mark("naming", section, of.kind) or channel.mark
                yield Problem("bad-name", f"{of.name!r} cannot be the name of {of.kind}", where, fault)


def _name_fault(channel: Channel, section: str, name: str, org: Org) -> str:
    sample, placeholders = name_for(name, _SAMPLE), {found.group() for found in _PLACEHOLDER.finditer(name)}
    is_stream = section == "streams"
    if "{" in sample or "}" in sample:
        return "{role} and {ROLE} are all that can stand in braces"
    if len(_PLACEHOLDER.findall(name)) > 1:
        return "the role stands in it once: else nobody could tell it from the name"
    if not subjects.is_name(sample) or not sample.isprintable():
        return "no dots, white space, wildcards, slashes or invisible characters, and at most 255 bytes"
    if is_stream and not org.stream_prefix and sample.startswith(buckets.STREAM_PREFIX):
        return f"clients take a stream whose name begins with {buckets.STREAM_PREFIX} for a bucket"
    if is_stream and placeholders and channel.scope is not Scope.ROLE:
        return "there is one stream of it for all: leave the role out"
    if is_stream and placeholders and channel.readers != (Party.SELF,):
        return "others read every role's: they need one stream for all, without the role in its name"
    if not is_stream and placeholders and channel.is_of_no_role:
        return "its consumer is no role's: leave the role out"
    if not is_stream and not placeholders and not channel.is_of_no_role:
        own = channel.stream is not None and channel.stream.is_for_each_role
        return "" if own else "each reader has a consumer on one stream: name {role} in it"
    return ""


def names_can_be_told_apart(org: Org) -> Iterator[Problem]:
    """Check that whichever roles there are, no stream of one channel is called like one of another."""
    named = [(channel, channel.stream) for channel in org.channels if channel.stream]
    for (one, first), (other, second) in combinations(named, 2):
        if _may_meet(first.name, second.name):
            where = next(
                (
                    found
                    for kind in (second.kind, first.kind)
                    if (found := org.layered_mark("naming", "streams", kind))
                ),
                other.mark or one.mark,
            )
            yield Problem(
                "same-stream",
                f"{first.name} of {one.name} and {second.name} of {other.name} cannot be told apart",
                where,
                "whichever roles there are, no name may be one of both: give one of them another beginning or end",
            )


def _may_meet(one: str, other: str) -> bool:
    """Return whether two templates make one name for some roles; also where only a very odd name would."""
    (begin, end, open_), (other_begin, other_end, other_open) = _ends(one), _ends(other)
    if not open_ and not other_open:
        return one == other
    if not open_ or not other_open:
        (fixed, start, rest) = (one, other_begin, other_end) if not open_ else (other, begin, end)
        return len(fixed) > len(start) + len(rest) and fixed.startswith(start) and fixed.endswith(rest)
    begins = begin.startswith(other_begin) or other_begin.startswith(begin)
    return begins and (end.endswith(other_end) or other_end.endswith(end))


def _ends(template: str) -> tuple[str, str, bool]:
    """Return the literal text before and behind a template's placeholder, and whether there is one."""
    found = list(_PLACEHOLDER.finditer(template))
    if not found:
        return template, template, False
    return template[: found[0].start()], template[found[-1].end() :], True


def roles_have_names_of_their_own(org: Org) -> Iterator[Problem]:
    """Find roles that would share a stream or a consumer, because a name has them in upper case only."""
    upper = [
        (channel, of)
        for channel in org.channels
        for of in (channel.stream, channel.reader)
        if of and UPPER_ROLE in of.name and ROLE not in of.name
    ]
    if not upper:
        return
    seen: dict[str, str] = {}
    for role in org.roles:
        other = seen.setdefault(name_for(UPPER_ROLE, role.name), role.name)
        if other != role.name:
            _channel, of = upper[0]
            name = name_for(of.name, role.name)
            shared = (
                f"stream {org.stream_prefix}{name}"
                if of.kind in stream_kinds(org.channels)
                else f"consumer {name}"
            )
            yield Problem(
                "same-stream",
                f"the roles {other} and {role.name} would share the {shared}",
                role.mark,
                "rename one of them",
            )


def names_fit(org: Org) -> Iterator[Problem]:
    """Check that names of streams and consumers fit the server's limit (10102)."""
    streams = [org.stream_prefix + each.stream.name for each in org.channels if each.stream]
    readers = [each.reader.name for each in org.channels if each.reader]
    of_roles = [[name for name in names if _PLACEHOLDER.search(name)] for names in (streams, readers)]
    longest = [max(names, key=lambda name: len(name_for(name, ""))) for names in of_roles if names]
    for role in org.roles:
        for template in longest:
            name = name_for(template, role.name)
            size = len(name.encode())
            if size > subjects.MAX_NAME:
                message = f"{name[:24]}... would have {size} bytes; the server takes {subjects.MAX_NAME}"
                yield Problem("name-too-long", message, role.mark, "choose a shorter name")
                break


def events_have_a_channel(org: Org) -> Iterator[Problem]:
    """Check that an organisation which leaves events out has none."""
    if org.events and org.channel(channels.EVENTS) is None:
        where = org.marks.get(("channels", channels.EVENTS))
        yield Problem(
            "no-channel", "the manifest has events, and leaves their channel out", where, "keep one of both"
        )


def parties_make_sense(org: Org) -> Iterator[Problem]:
    """Check that `self` names a party of role channels only, and that a role's own readers are known."""
    for channel in org.channels:
        for part, parties in (("publishers", channel.publishers), ("readers", channel.readers)):
            where = org.marks.get(("channels", channel.name, part))
            for party in parties if where else ():
                of_whom = _OF_WHOM.get(party, tuple(Scope)) if isinstance(party, Party) else tuple(Scope)
                if channel.scope not in of_whom:
                    message = f"{part} of {channel.name} cannot be {party}: it is no {of_whom[0]}'s channel"
                    yield Problem("bad-value", message, where, "say anyone, or name roles and groups")
                elif party is Party.OPERATOR and part == "publishers":
                    message = f"publishers of {channel.name} cannot be operator"
                    yield Problem(
                        "bad-value", message, where, "say anyone: whoever may publish on the server is one"
                    )
                elif party is Party.CHART and part == "readers":
                    yield Problem(
                        "bad-value",
                        f"readers of {channel.name} cannot be chart",
                        where,
                        "say self, anyone, or name roles and groups",
                    )


_OF_WHOM: Mapping[Party, tuple[Scope, ...]] = {
    Party.SELF: (Scope.ROLE, Scope.GROUP),
    Party.CHART: (Scope.ROLE,),
}
"""Of what scope a channel has to be for these to be somebody."""


def admission_is_of_one_role(org: Org) -> Iterator[Problem]:
    """Check that where admission counts a role's unfinished tasks, its stream has nobody else's."""
    tasks = org.channel(channels.TASKS)
    if tasks is None or tasks.stream is None or tasks.stream.is_for_each_role:
        return
    for path, layer in org.layers_by_path():
        if layer.streams.get(tasks.stream.kind, {}).get(ADMISSION):
            yield Problem(
                "admission",
                "admission counts the unfinished tasks of one role, and all roles share one stream of tasks here",
                org.marks.get((*path, "streams", tasks.stream.kind, ADMISSION)),
                f"name {UPPER_ROLE} in naming.streams.tasks, or take admission out",
            )


RULES: tuple[Callable[[Org], Iterator[Problem]], ...] = (
    channels_have_names_of_their_own,
    channel_subjects_are_templates,
    channel_subjects_do_not_meet,
    names_are_templates,
    names_can_be_told_apart,
    roles_have_names_of_their_own,
    names_fit,
    events_have_a_channel,
    parties_make_sense,
    admission_is_of_one_role,
)
