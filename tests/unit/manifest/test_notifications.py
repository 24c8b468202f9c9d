"""Who is told, and when, as a manifest says it: by layers, and never with a secret."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest

from cyborg_infra.manifest.load import loads
from cyborg_infra.model.notification_settings import NotificationSettings, QuietHours
from cyborg_infra.model.problems import ManifestInvalid

MANIFEST = """
org: acme
roles: [cto]
alerts:
  notify:
    - {env: ONCALL_URL}
    - {file: /run/secrets/ops}
    - {name: hook, url: "json://alerts.example/acme"}
    - jsons://alerts.example/acme
  repeat: 30m
  quiet: {from: "22:00", to: "7:00", timezone: Europe/Berlin, urgent: [no-leader]}
environments:
  production: {alerts: {repeat: 0s, notify: [{name: pager, env: PAGER_URL}]}}
  loud: {alerts: {quiet: false}}
  silent: {alerts: {notify: []}}
"""


def test_without_a_word_nobody_is_told() -> None:
    assert loads("{org: acme, roles: [cto]}").notifications == NotificationSettings((), 4 * 3600.0, None)


def test_an_environment_says_each_of_it_anew_as_a_whole() -> None:
    base = loads(MANIFEST).notifications
    assert [(each.name, each.env, each.file, each.url) for each in base.receivers] == [
        ("ONCALL_URL", "ONCALL_URL", "", ""),
        ("ops", "", "/run/secrets/ops", ""),
        ("hook", "", "", "json://alerts.example/acme"),
        ("alerts.example", "", "", "jsons://alerts.example/acme"),
    ]
    assert base.repeat == 1800
    assert base.quiet is not None
    assert (base.quiet.begin, base.quiet.end, base.quiet.urgent) == (
        time(22),
        time(7),
        frozenset({"no-leader"}),
    )
    production, loud, silent = (
        loads(MANIFEST, env).notifications for env in ("production", "loud", "silent")
    )
    assert [each.name for each in production.receivers] == ["pager"]
    assert (production.repeat, production.quiet) == (0, base.quiet)
    assert (loud.quiet, loud.receivers, silent.receivers) == (None, base.receivers, ())


@pytest.mark.parametrize(
    "item",
    [
        "slack://T1/B1/s3cret",
        "mailto://operator:s3cret@example.org",
        "json://s3cret@alerts.example",
        "json://alerts.example/?+Authorization=s3cret",
        "json://alerts.example/#s3cret",
        "https://hooks.example/s3cret",
        "json://[s3cret",
        "s3cret",
        "{url: 'pagerduty://s3cret@s3cret'}",
        "{name: a, env: A, url: 'slack://T1/B1/s3cret'}",
    ],
)
def test_a_url_that_may_hold_a_secret_is_refused_and_never_quoted(item: str) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        loads(f"org: acme\nroles: [cto]\nalerts:\n  notify:\n    - {item}\n")
    (problem,) = refused.value.problems
    assert problem.where is not None
    assert problem.where.line == 5
    assert "s3cret" not in repr(refused.value.problems) + str(refused.value)


def test_quiet_hours_go_over_midnight_by_the_clock_of_their_place_in_summer_and_winter() -> None:
    quiet = loads(MANIFEST).notifications.quiet
    assert isinstance(quiet, QuietHours)

    def held(*moment: int, code: str = "lag") -> bool:
        return quiet.holds_back(code, datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]

    assert [held(2026, 1, 10, hour) for hour in (20, 21, 5, 6)] == [False, True, True, False]
    assert [held(2026, 7, 10, hour) for hour in (19, 20, 4, 5)] == [False, True, True, False]
    assert not held(2026, 1, 10, 23, code="no-leader")


@pytest.mark.parametrize("repeat", ["1ms", "59s", "1ns"])
def test_people_are_not_told_again_within_a_minute(repeat: str) -> None:
    with pytest.raises(
        ManifestInvalid, match=f"repeat: '{repeat}' is too short; write 1m or more"
    ) as refused:
        loads(f"org: acme\nroles: [cto]\nalerts:\n  repeat: {repeat}\n")
    (problem,) = refused.value.problems
    assert problem.where is not None
    assert (problem.where.line, problem.where.column) == (4, 11)
    assert loads("org: acme\nroles: [cto]\nalerts: {repeat: 1m}\n").notifications.repeat == 60


@pytest.mark.parametrize("name", ["localtime", "localtim", "posixrules", "posixrule", "Factory", "Factor"])
def test_what_a_machine_is_set_to_is_no_time_zone_and_not_what_somebody_meant(name: str) -> None:
    with pytest.raises(ManifestInvalid, match=f"'{name}' is no time zone") as refused:
        loads(MANIFEST.replace("Europe/Berlin", name))
    (problem,) = refused.value.problems
    assert not {"localtime", "posixrules", "Factory"} & {*(problem.hint or "").strip("?").split()}
