"""The field table is true: every row is tried on real servers, and what they do is what the row says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cyborg_infra.manifest.field_values import to_wire
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.fields import FIELDS, Field, Kind, UpdateEffect
from cyborg_infra.model.normalise import normalise, normalise_config
from cyborg_infra.model.server_versions import Version, level_of
from cyborg_infra.model.units import MINUTE
from tests.support.field_bench import Bench, Benches, Config
from tests.support.field_cases import ALIKE, CASES, CLUSTERED, FILLED, ORIGIN, Case, needed
from tests.support.nats_client import Api
from tests.support.servers import VERSIONS, StartServer

pytestmark = pytest.mark.versions

CANNOT_CHANGE = {
    ErrorCode.JSStreamInvalidConfigF,
    ErrorCode.JSStreamMirrorNotUpdatableErr,
    ErrorCode.JSConsumerCreateErrF,
}
"""How a server refuses a change of a living stream, of a mirror, of a living consumer."""

UNKNOWN = ErrorCode.JSInvalidJSONErr
"""How a server refuses a field or choice that it does not know; before 2.12 it drops the field silently."""

CONSUMER_NOT_FOUND, IN_USE, NEEDS_CLUSTER = (
    ErrorCode.JSConsumerNotFoundErr,
    ErrorCode.JSConsumerNameExistErr,
    ErrorCode.JSStreamReplicasNotSupportedErr,
)

STRICT = 2
"""The level from which on an unknown field is refused."""

HIDDEN = ("first_seq", "mem_storage")
"""Fields of which the configuration shows a new value where nothing changed: tests of their own below."""

ROWS = [field for kind in Kind for field in FIELDS[kind].values() if field.name != CLUSTERED]


def known_rows() -> list[Any]:
    """(version, row) for every row that the version knows."""
    return [
        pytest.param(version, field, id=f"{version}-{field.kind}-{field.name}")
        for version in VERSIONS
        for field in ROWS
        if field.since <= level_of(Version.parse(version))
    ]


def cases_of(field: Field) -> list[Case]:
    return [case for case in CASES if (case.kind, case.field) == (field.kind, field.name)]


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Bench]]:
    """Yield a bench of every version; one server each for the whole module."""
    started = Benches(tmp_path_factory.mktemp("benches"))
    yield started
    started.close()


@pytest.fixture
def bench(benches: Mapping[str, Bench], version: str) -> Iterator[Bench]:
    """Yield the bench of the test's parameter `version`."""
    yield (chosen := benches[version])
    for kind in Kind:
        chosen.delete(kind)


def test_every_row_is_tried() -> None:
    """A new row comes with the cases that prove it."""
    assert {(field.kind, field.name) for field in ROWS} == {(case.kind, case.field) for case in CASES}


@pytest.mark.parametrize("field", ROWS, ids=lambda field: f"{field.kind}-{field.name}")
def test_every_choice_and_part_of_a_row_is_tried(field: Field) -> None:
    values = [config.get(field.name) for case in cases_of(field) for config in case.complete()]
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    parts = {part for item in items if isinstance(item, dict) and field.parts for part in item}
    assert set(field.choices or ()) <= {value for value in values if isinstance(value, str)}
    assert set(field.parts or ()) == parts


@pytest.mark.parametrize(("version", "field"), known_rows())
def test_a_change_does_what_the_row_says(bench: Bench, field: Field) -> None:
    changes = [
        (case, before, after) for case in cases_of(field) for before, after in case.changes(bench.level)
    ]
    said = [(before, after, told(field, before, after, bench.version)) for _, before, after in changes]
    done = [(before, after, tried(bench, case, before, after)) for case, before, after in changes]
    assert changes
    assert done == said


def told(field: Field, before: Config, after: Config, version: Version) -> UpdateEffect:
    """Return what the table says; one refused field is enough, and a change of a hidden one looks as if it were made."""
    said = {
        row.name: row.update(
            normalise(row, before.get(row.name)), normalise(row, after.get(row.name)), version
        )
        for row in FIELDS[field.kind].values()
        if normalise(row, before.get(row.name)) != normalise(row, after.get(row.name))
    }
    if field.name in HIDDEN and said[field.name] is UpdateEffect.IGNORED:
        return UpdateEffect.IN_PLACE
    return UpdateEffect.REFUSED if UpdateEffect.REFUSED in said.values() else said[field.name]


def tried(bench: Bench, case: Case, before: Config, after: Config) -> UpdateEffect:
    """Return what the server does with the whole living configuration, in which only `after` is different.

    Whatever it does, other fields stay as they are, and what it refuses on a living resource it takes for a
    new one.
    """
    kind = case.kind
    living = bench.make(kind, before)
    answer = bench.update(kind, {**without(living, case.varied), **after})
    held = bench.held(kind)
    if "error" in answer:
        assert answer["error"]["err_code"] in CANNOT_CHANGE, (before, after, answer["error"])
        assert held == living
        bench.make(kind, after)
        return UpdateEffect.REFUSED
    assert without(normalise_config(kind, held), case.varied) == without(
        normalise_config(kind, living), case.varied
    )
    now, old, new = (normal_of(case, config) for config in (held, before, after))
    assert now in (old, new)
    return UpdateEffect.IN_PLACE if now == new else UpdateEffect.IGNORED


def without(config: Config, names: set[str]) -> Config:
    return {name: value for name, value in config.items() if name not in names}


def normal_of(case: Case, config: Config) -> Any:
    return normalise(FIELDS[case.kind][case.field], config.get(case.field))


@pytest.mark.parametrize(("version", "field"), known_rows())
def test_what_a_server_echoes_is_what_was_sent(bench: Bench, field: Field) -> None:
    """No difference is seen in a resource that was just made, whatever the server fills in or reorders."""
    cases = cases_of(field)
    sent = [config for case in cases for config in case.complete()]
    sent.append({**sent[0], field.name: to_wire(field, field.example)})
    known = [config for config in sent if needed(field.kind, config) <= bench.level]
    assert [normalise_config(field.kind, bench.make(field.kind, config)) for config in known] == [
        normalise_config(field.kind, config) for config in known
    ]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("kind", "spoken", "meant"), ALIKE)
def test_other_spellings_are_no_difference(bench: Bench, kind: Kind, spoken: Config, meant: Config) -> None:
    assert (
        normalise_config(kind, bench.make(kind, spoken))
        == normalise_config(kind, spoken)
        == normalise_config(kind, meant)
    )


@pytest.mark.parametrize(
    ("version", "kind", "sent", "filled"),
    [
        (version, kind, sent, filled)
        for version in VERSIONS
        for kind, sent, filled in FILLED
        if needed(kind, sent) <= level_of(Version.parse(version))
    ],
)
def test_the_server_adds_what_one_field_implies(
    bench: Bench, kind: Kind, sent: Config, filled: Config
) -> None:
    living = bench.make(kind, sent)
    assert {name: living[name] for name in filled} == filled


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", Kind)
def test_an_absent_field_means_the_default(bench: Bench, kind: Kind) -> None:
    """A resource made of nothing has no canonical difference, and the same with every default written out."""
    least = {Kind.STREAM: {}, Kind.CONSUMER: {"ack_policy": "explicit"}}[kind]
    written = {
        field.name: field.default
        for field in FIELDS[kind].values()
        if field.since <= bench.level and field.default not in (None, "", ())
    }
    own = {"subjects": ("CASE",)} if kind is Kind.STREAM else least  # a stream without subjects has its name
    assert normalise_config(kind, bench.make(kind, least)) == own
    assert normalise_config(kind, bench.make(kind, {**written, **least})) == own


@pytest.mark.parametrize("version", VERSIONS)
def test_a_consumer_acknowledges_nothing_by_default(bench: Bench) -> None:
    assert normalise_config(Kind.CONSUMER, bench.make(Kind.CONSUMER, {})) == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_below_the_api_level_does_not_know_a_setting(bench: Bench) -> None:
    """Refused since 2.12; before, the answer says OK and lacks the field, but for a choice that it cannot read.

    That a field is known from its level on is what all other tests show.
    """
    for case in CASES:
        for config in case.complete():
            if needed(case.kind, config) > bench.level and case.field in normalise_config(case.kind, config):
                bench.delete(case.kind)
                answer = bench.create(case.kind, config)
                if "error" in answer:
                    assert answer["error"]["err_code"] == UNKNOWN
                else:
                    assert bench.level < STRICT
                    assert case.field not in answer["config"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_level_is_what_the_server_answers_with(bench: Bench) -> None:
    assert bench.api.request("$JS.API.INFO")["api"].get("level", 0) == bench.level


@pytest.mark.parametrize("version", VERSIONS)
def test_a_deliver_subject_stays_while_somebody_listens(bench: Bench) -> None:
    """What the row cannot know: the same change is made as soon as nobody does."""
    living = bench.make(Kind.CONSUMER, {"ack_policy": "explicit", "deliver_subject": "heard.a"})
    bench.api.subscribe("heard.a")
    answer = bench.update(Kind.CONSUMER, {**living, "deliver_subject": "heard.b", "metadata": {}})
    assert answer["error"]["err_code"] == IN_USE


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stream_with_sources_has_no_window_unless_it_says_so(bench: Bench) -> None:
    """Since 2.14; before, it has two minutes as every other stream, and shows it."""
    silent = {"subjects": ["case.>"], "sources": [{"name": ORIGIN}]}
    usual = {**silent, "duplicate_window": 2 * MINUTE}
    meant = silent if bench.version >= (2, 14, 0) else usual
    assert normalise_config(Kind.STREAM, bench.make(Kind.STREAM, silent)) == normalise_config(
        Kind.STREAM, meant
    )
    assert normalise_config(Kind.STREAM, bench.make(Kind.STREAM, usual)) == normalise_config(
        Kind.STREAM, usual
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_later_first_seq_changes_no_sequence(bench: Bench) -> None:
    """The configuration shows it, and the next message has the number that it would have had: ignored.

    So is taking it back; but then nothing is asked for that does not hold.
    """
    before = {"subjects": ["case.>"]}
    for messages in (0, 2):
        living = bench.make(Kind.STREAM, before)
        for _ in range(messages):
            bench.api.ask("case.a")
        answer = bench.update(Kind.STREAM, {**living, "first_seq": 100, "metadata": {}})
        assert answer["config"]["first_seq"] == 100
        assert FIELDS[Kind.STREAM]["first_seq"].update(0, 100, bench.version) is UpdateEffect.IGNORED
        assert bench.api.request("case.a")["seq"] == messages + 1
        answer = bench.update(Kind.STREAM, {**answer["config"], "first_seq": 0, "metadata": {}})
        assert answer["config"].get("first_seq", 0) == 0
        assert FIELDS[Kind.STREAM]["first_seq"].update(100, 0, bench.version) is UpdateEffect.IN_PLACE
        assert bench.api.request("case.a")["seq"] == messages + 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("in_memory", [False, True])
def test_mem_storage_of_a_living_consumer_changes_nothing(
    start_server: StartServer, version: str, *, in_memory: bool
) -> None:
    """A restart shows where a consumer is kept. Before 2.14.4 the configuration said otherwise: ignored."""
    server = start_server(version=version)
    with Api(server.url) as api:
        bench = Bench(Version.parse(version), api)
        api.request("$JS.API.STREAM.CREATE.HOME", {"name": "HOME", "subjects": ["home.>"]})
        living = bench.make(Kind.CONSUMER, {"ack_policy": "explicit", "mem_storage": in_memory})
        answer = bench.update(Kind.CONSUMER, {**living, "mem_storage": not in_memory, "metadata": {}})
    row = FIELDS[Kind.CONSUMER]["mem_storage"]
    said = UpdateEffect.REFUSED if "error" in answer else UpdateEffect.IGNORED
    assert row.update(in_memory, not in_memory, bench.version) is said
    server.stop()
    server.start()
    with Api(server.url) as api:
        found = api.request("$JS.API.CONSUMER.INFO.HOME.case")
        assert found.get("error", {}).get("err_code") == (CONSUMER_NOT_FOUND if in_memory else None)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", Kind)
def test_a_single_server_makes_nothing_with_more_replicas(bench: Bench, kind: Kind) -> None:
    assert bench.create(kind, {CLUSTERED: 3})["error"]["err_code"] == NEEDS_CLUSTER


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", Kind)
def test_a_single_server_takes_more_replicas_for_a_stream_before_2_14_6(bench: Bench, kind: Kind) -> None:
    """It answers OK and has one: nothing but preflight stops it."""
    living = bench.make(kind, {CLUSTERED: 1})
    answer = bench.update(kind, {**living, CLUSTERED: 3, "metadata": {}})
    if kind is Kind.STREAM and bench.version < (2, 14, 6):
        assert answer["config"][CLUSTERED] == 3
    else:
        assert answer["error"]["err_code"] == NEEDS_CLUSTER
