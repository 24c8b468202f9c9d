"""Read who is told of alarms, and when: the receivers and the quiet hours of a manifest. A secret is never read from it, nor printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import time, tzinfo
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from cyborg_infra.manifest.schema import value_text
from cyborg_infra.manifest.suggest import nearest
from cyborg_infra.manifest.yaml_source import Source
from cyborg_infra.model.notification_settings import NotificationOverrides, QuietHours, ReceiverSource
from cyborg_infra.model.organisation import ManifestPath
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.units import MINUTE, SECOND, parse_duration

PLAIN_SCHEMES = ("json", "jsons", "form", "forms", "xml", "xmls")
"""Webhooks: of these a URL can be without a secret. Of others a token is part of it."""

_PLACES = ("env", "file", "url")
_NO_PLACE = frozenset({"Factory", "localtime", "posixrules"})
"""Files beside time zones, which say what a machine is set to: on another one they are another zone, or not there."""
_INSTEAD = "put it into an environment variable or a file, and name that: {env: ONCALL_URL} or {file: /run/secrets/oncall}"


def read_notifications(
    source: Source, path: ManifestPath, said: Mapping[str, Any], problems: list[Problem]
) -> NotificationOverrides:
    """Return what one layer's `alerts`, which stands at `path`, says of it; what cannot be is reported and left out."""
    found: dict[str, Any] = {}
    if said.get("notify") is not None:
        found["receivers"] = tuple(_receivers(source, (*path, "notify"), said["notify"], problems))
    if said.get("repeat") is not None:
        try:
            found["repeat"] = _repeat(str(said["repeat"])) / SECOND
        except ValueError as error:
            here = (*path, "repeat")
            problems.append(Problem("bad-value", f"{value_text(here)}: {error}", source.mark(here)))
    if said.get("quiet") is not None:
        found["quiet"] = _quiet(source, (*path, "quiet"), said["quiet"], problems)
    return found


def _repeat(text: str) -> int:
    """Return the duration in nanoseconds. Raises ValueError for text that is no duration, and for one below a minute but 0."""
    found = parse_duration(text)
    if 0 < found < MINUTE:
        raise ValueError(f"{text!r} is too short; write 1m or more, or 0s to be told once")
    return found


def _receivers(
    source: Source, path: ManifestPath, listed: Sequence[Any], problems: list[Problem]
) -> Iterator[ReceiverSource]:
    names: set[str] = set()
    for position, item in enumerate(listed):
        here = (*path, position)
        if item is None:
            continue
        said: Mapping[str, Any] = {"url": item} if isinstance(item, str) else item
        places = {place: said[place] for place in _PLACES if said.get(place) is not None}
        receiver = ReceiverSource(said.get("name") or "", **places, mark=source.mark(here))
        if not places and any(place in said for place in _PLACES):  # the schema has refused it
            continue
        if fault := _fault(places):
            problems.append(Problem(*fault, receiver.mark, _INSTEAD))
            continue
        receiver = receiver._replace(name=receiver.name or _usual_name(receiver))
        if receiver.name in names:
            message = f"{value_text(path)} has two receivers that are called {receiver.name}"
            problems.append(Problem("duplicate-name", message, receiver.mark, "give one of them a name"))
        names.add(receiver.name)
        yield receiver


def _fault(places: Mapping[str, str]) -> tuple[str, str] | None:
    """Return what is wrong with an entry, which is never quoted: there may be a secret in it."""
    if len(places) != 1:
        number = "none" if not places else " and ".join(places)
        return "bad-value", f"a receiver needs one of env, file and url, and this one has {number}"
    if not _is_without_secret(places["url"]) if "url" in places else "://" in "".join(places.values()):
        return (
            "secret-in-manifest",
            "this URL of a receiver may hold a secret, which has no place in a manifest",
        )
    return None


def _is_without_secret(url: str) -> bool:
    """Return whether it is a webhook's, without a login and without parameters, which may be headers."""
    try:
        parts = urlsplit(url)
        plain = parts.hostname and not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        return False
    return bool(plain) and parts.scheme.lower() in PLAIN_SCHEMES and "@" not in url


def _usual_name(receiver: ReceiverSource) -> str:
    """Return what a receiver without a name is called."""
    if receiver.url:
        return urlsplit(receiver.url).hostname or ""
    return receiver.env or PurePath(receiver.file).name


def _quiet(source: Source, path: ManifestPath, said: Any, problems: list[Problem]) -> QuietHours | None:
    if said is False:
        return None
    if said is True:
        message = f"{value_text(path)} must be hours, or false for none"
        problems.append(Problem("bad-value", message, source.mark(path)))
        return None
    if any(said.get(key) is None for key in ("from", "to", "timezone")):  # the schema has said so
        return None
    begin, end = (_time_of_day(said[key]) for key in ("from", "to"))
    if begin == end:
        here = (*path, "to")
        problems.append(Problem("bad-value", "quiet begins and ends at the same time", source.mark(here)))
        return None
    zone = _zone(source, (*path, "timezone"), said["timezone"], problems)
    if zone is None:
        return None
    return QuietHours(begin, end, zone, frozenset(said.get("urgent") or ()))


def _time_of_day(text: str) -> time:
    hours, _, minutes = text.partition(":")
    return time(int(hours), int(minutes))


def _zone(source: Source, path: ManifestPath, name: str, problems: list[Problem]) -> tzinfo | None:
    """Return the time zone of this name, or None with a problem."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        if name not in _NO_PLACE:
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    known = sorted(available_timezones() - _NO_PLACE)
    meant = nearest(name, known)
    hint = f"did you mean {meant}?" if meant else "write a name such as Europe/Berlin"
    if not known:
        hint = "this system has no list of time zones: install its package tzdata, or `pip install tzdata`"
    problems.append(Problem("bad-value", f"{name!r} is no time zone", source.mark(path), hint))
    return None
