"""Laws of the field table and of the canonical form, over all configurations; servers are asked in tests/server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.model import field_names
from cyborg_infra.model.fields import ABSENT, FIELDS, Field, Kind, Unit, UpdateEffect
from cyborg_infra.model.normalise import normalise, normalise_config
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.resources import Resource
from cyborg_infra.model.server_versions import LEVELS, Capability, Version, level_of
from cyborg_infra.model.units import MAX_INT64
from tests.support.draws import draws

Config = dict[str, Any]

ROWS = [field for kind in Kind for field in FIELDS[kind].values()]
WORDS = st.text(alphabet="abc", max_size=2)
SUBJECTS = st.sampled_from(["a", "b", "a.b", "a.*", "b.>"])
COUNTS = st.integers(-2, 3) | st.integers(-1, MAX_INT64)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=OFFSETS)  # noqa: DTZ001 - they come with one
METADATA = st.dictionaries(WORDS | st.sampled_from(["_nats.ver", "_nats.own", "cyborg-infra.org"]), WORDS)

VALUES: Mapping[Unit, st.SearchStrategy[Any]] = {
    Unit.SIZE: COUNTS,
    Unit.DURATION: COUNTS,
    Unit.DURATIONS: st.lists(COUNTS, max_size=2),
    Unit.COUNT: COUNTS,
    Unit.FLAG: st.booleans(),
    Unit.TEXT: WORDS,
    Unit.SUBJECT: SUBJECTS,
    Unit.SUBJECTS: st.lists(SUBJECTS, max_size=3),
    Unit.NAMES: st.lists(WORDS, max_size=2),
    Unit.TIME: MOMENTS.map(datetime.isoformat),
    Unit.METADATA: METADATA,
}


def values(field: Field) -> st.SearchStrategy[Any]:
    """Anything that a server or a manifest may say of a field, null included."""
    match field.unit:
        case Unit.CHOICE:
            return st.none() | st.sampled_from([*(field.choices or {})])
        case Unit.OBJECT:
            return st.none() | objects(field)
        case Unit.OBJECTS:
            return st.none() | st.lists(objects(field), max_size=2)
    return st.none() | VALUES[field.unit]


def objects(field: Field) -> st.SearchStrategy[Config]:
    parts = {
        name: st.none() | VALUES.get(unit, st.just({}) | st.just({"api": "x"}))
        for name, unit in (field.parts or {}).items()
    }
    return st.fixed_dictionaries({}, optional=parts)


def configs(kind: Kind) -> st.SearchStrategy[Config]:
    """Any part of the table's fields with any values, and one field of a newer server."""
    known = {field.name: values(field) for field in FIELDS[kind].values()}
    return st.fixed_dictionaries({}, optional={**known, "newer_than_us": st.integers()})


KINDS = st.sampled_from([*Kind])
RESOURCES = KINDS.flatmap(lambda kind: st.tuples(st.just(kind), configs(kind)))

laws = draws(60)


@laws
@given(RESOURCES)
def test_a_canonical_form_is_its_own(resource: tuple[Kind, Config]) -> None:
    kind, config = resource
    once = normalise_config(kind, config)
    assert normalise_config(kind, once) == once


@laws
@given(RESOURCES)
def test_a_canonical_form_survives_json(resource: tuple[Kind, Config]) -> None:
    """A saved plan is compared with the server; JSON has lists where we have tuples."""
    kind, config = resource
    once = normalise_config(kind, config)
    assert normalise_config(kind, json.loads(json.dumps(once))) == once


@laws
@given(RESOURCES)
def test_defaults_say_nothing(resource: tuple[Kind, Config]) -> None:
    """Left out or written out, the meaning is the same; but for a copy's window, which is what it says."""
    kind, config = resource
    if kind is Kind.STREAM:
        config.setdefault("duplicate_window", 1)
    rows = FIELDS[kind].values()
    least = {
        name: value
        for name, value in config.items()
        if name in FIELDS[kind] and normalise(FIELDS[kind][name], value) != FIELDS[kind][name].default
    }
    if kind is Kind.STREAM:
        least["duplicate_window"] = config["duplicate_window"]
    full = {field.name: field.default for field in rows} | least
    assert normalise_config(kind, least) == normalise_config(kind, config) == normalise_config(kind, full)


@laws
@given(RESOURCES, st.randoms(use_true_random=False))
def test_the_order_of_subjects_and_sources_never_counts(resource: tuple[Kind, Config], random: Any) -> None:
    kind, config = resource
    shuffled = dict(config)
    for name in ("subjects", "filter_subjects", "sources"):
        if config.get(name):
            shuffled[name] = random.sample(config[name], len(config[name]))
    assert normalise_config(kind, shuffled) == normalise_config(kind, config)


@laws
@given(RESOURCES, st.dictionaries(WORDS.map("_nats.{}".format), WORDS))
def test_the_servers_own_labels_never_count(resource: tuple[Kind, Config], own: dict[str, str]) -> None:
    kind, config = resource
    labelled = {**config, "metadata": {**(config.get("metadata") or {}), **own}}
    assert normalise_config(kind, labelled) == normalise_config(kind, config)


@laws
@given(configs(Kind.CONSUMER), SUBJECTS)
def test_one_filter_is_one_filter_however_it_is_said(config: Config, subject: str) -> None:
    one = {**config, "filter_subject": subject, "filter_subjects": []}
    several = {**config, "filter_subject": "", "filter_subjects": [subject, subject]}
    assert normalise_config(Kind.CONSUMER, one) == normalise_config(Kind.CONSUMER, several)


@laws
@given(RESOURCES)
def test_a_field_newer_than_the_table_never_counts(resource: tuple[Kind, Config]) -> None:
    kind, config = resource
    assert normalise_config(kind, {**config, "even_newer": {"x": 1}}) == normalise_config(kind, config)


def written(moment: datetime, nanoseconds: int) -> str:
    """Return as RFC 3339 has it, with zeros where Go leaves them out."""
    seconds = moment.replace(microsecond=0, tzinfo=None).isoformat()
    offset = moment.strftime("%z")
    return f"{seconds}.{nanoseconds:09}{offset[:3]}:{offset[3:]}"


@laws
@given(MOMENTS, OFFSETS, st.integers(0, 999_999_999))
def test_a_moment_is_the_same_in_every_offset(moment: datetime, offset: timezone, nanoseconds: int) -> None:
    field = FIELDS[Kind.CONSUMER]["opt_start_time"]
    here, there = (written(moment.astimezone(zone), nanoseconds) for zone in (UTC, offset))
    assert normalise(field, here) == normalise(field, there)
    assert normalise(field, here) != normalise(field, written(moment + timedelta(seconds=1), nanoseconds))
    assert normalise(field, here) != normalise(field, written(moment, (nanoseconds + 1) % 1_000_000_000))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T00:00:00Z", "2026-01-31T00:00:00Z"),
        ("2026-01-31T00:00:00.000Z", "2026-01-31T00:00:00Z"),
        ("2026-01-31T00:00:00.120Z", "2026-01-31T00:00:00.12Z"),
        ("2026-01-31T01:00:00.000000001+01:00", "2026-01-31T00:00:00.000000001Z"),
        ("0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00+01:00"),  # before all that Python can count
        ("no time", "no time"),
    ],
)
def test_a_moment_is_compared_as_the_server_writes_it_in_utc(text: str, moment: str) -> None:
    assert normalise(FIELDS[Kind.CONSUMER]["opt_start_time"], text) == moment
    origin = FIELDS[Kind.STREAM]["mirror"]
    assert normalise(origin, {"name": "A", "opt_start_time": text}) == {"name": "A", "opt_start_time": moment}


@pytest.mark.parametrize(
    ("copy", "has_its_own"), [({"mirror": {"name": "A"}}, False), ({"sources": [{"name": "A"}]}, True)]
)
def test_a_copy_that_shows_no_window_has_none(
    copy: Config,
    has_its_own: bool,  # noqa: FBT001
) -> None:
    """Two minutes are what every other stream has; here they are a difference, but to a mirror, which has none ever."""
    silent = normalise_config(Kind.STREAM, copy)
    assert silent["duplicate_window"] == 0
    assert (normalise_config(Kind.STREAM, {**copy, "duplicate_window": 120 * 10**9}) != silent) is has_its_own


def test_direct_reads_of_a_mirror_are_its_own_only_where_the_origin_is_elsewhere() -> None:
    near, far = {"name": "A"}, {"name": "A", "external": {"api": "JS.far.API"}}
    assert "mirror_direct" not in normalise_config(Kind.STREAM, {"mirror": near, "mirror_direct": True})
    assert normalise_config(Kind.STREAM, {"mirror": far, "mirror_direct": True})["mirror_direct"] is True


@pytest.mark.parametrize("field", ROWS, ids=lambda field: f"{field.kind}-{field.name}")
class TestRow:
    """What every row of the table keeps."""

    def test_the_default_is_normal_and_what_absence_means(self, field: Field) -> None:
        assert normalise(field, field.default) == field.default == normalise(field, None)

    def test_levels_are_known_and_no_choice_is_older_than_its_field(self, field: Field) -> None:
        assert {field.since, *(field.choices or {}).values()} <= LEVELS.keys()
        assert all(level >= field.since for level in (field.choices or {}).values())

    def test_choices_parts_and_bounds_belong_to_their_units(self, field: Field) -> None:
        assert (field.unit is Unit.CHOICE) == bool(field.choices)
        assert (field.unit in (Unit.OBJECT, Unit.OBJECTS)) == bool(field.parts)
        assert field.unit is Unit.COUNT or field.least is field.most is None
        assert field.choices is None or field.default in field.choices

    def test_the_rule_says_in_words_what_it_does(self, field: Field) -> None:
        """The words stand in the reference and beside a refused change."""
        words = field.update.__doc__ or ""
        assert words.endswith(".")
        assert words.startswith("No") == (not can_change(field))


def can_change(field: Field) -> bool:
    """Return whether any change is made in place by any version."""
    values = {False, True, "", "x", "workqueue", None}
    return any(
        field.update(before, after, version) is UpdateEffect.IN_PLACE
        for before in values
        for after in values
        for version in (*LEVELS.values(), *(capability.since for capability in Capability))
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2.10.26", (2, 10, 26)),
        ("v2.15.1", (2, 15, 1)),
        ("2.14.0-RC.1", (2, 14, 0)),
        ("2.12.8+build", (2, 12, 8)),
    ],
)
def test_a_version_is_read_with_its_decorations(text: str, version: tuple[int, int, int]) -> None:
    assert Version.parse(text) == version


@pytest.mark.parametrize(
    "text", ["", "2.15", "2.15.1.2", "two.ten.one", "banana", "2.15.²", "2.-1.0", "2.1.1234567"]
)
def test_anything_else_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="is no version of a server"):
        Version.parse(text)


@laws
@given(st.tuples(st.just(2), st.integers(10, 16), st.integers(0, 30)).map(lambda parts: Version(*parts)))
def test_a_newer_version_never_has_a_lower_level(version: Version) -> None:
    assert level_of(version) <= level_of(version._replace(patch=version.patch + 1))
    assert level_of(version) <= level_of(Version(version.major, version.minor + 1, 0))
    assert LEVELS[level_of(version)] <= version
    assert Version.parse(str(version)) == version


@pytest.mark.parametrize(
    ("names", "kind"),
    [(field_names.NumberField, int), (field_names.TextField, str), (field_names.FlagField, bool)],
)
def test_a_setting_that_is_absent_is_of_the_type_that_a_type_checker_is_told(
    names: object, kind: type
) -> None:
    assert get_args(names)
    assert all(type(ABSENT[of][name]) is kind for of in Kind for name in get_args(names))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}-{row.name}")
def test_a_setting_that_is_absent_or_null_reads_as_its_default(row: Field) -> None:
    ref = Ref("S", "c" if row.kind is Kind.CONSUMER else "")
    acknowledging = {"ack_policy": "explicit"} if row.name == "max_ack_pending" else {}
    for config in (acknowledging, {**acknowledging, row.name: None}):
        found = Resource(ref, config).get(row.name)
        assert found == row.default or (row.default is None and not found)
    assert Resource(ref, {row.name: row.example}).get(row.name) is row.example


def test_a_copy_has_no_duplicate_window_unless_it_says_so() -> None:
    assert Resource(Ref("S"), {"mirror": {"name": "O"}}).get("duplicate_window") == 0
    assert Resource(Ref("S"), {"sources": [{"name": "O"}]}).get("duplicate_window") == 0
    assert (
        Resource(Ref("S"), {"sources": [{"name": "O"}], "duplicate_window": 7}).get("duplicate_window") == 7
    )


def test_where_nothing_is_acknowledged_nothing_is_pending() -> None:
    assert Resource(Ref("S", "c"), {"ack_policy": "none"}).get("max_ack_pending") == 0


def test_a_setting_that_no_resource_has_is_refused() -> None:
    with pytest.raises(KeyError):
        Resource(Ref("S"), {}).get("max_messages")
