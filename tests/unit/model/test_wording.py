"""A text that names an option says it as the library does, and by the command line as it is typed."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.model.changes import HazardName
from cyborg_infra.model.problems import CyborgError, Problem
from cyborg_infra.model.wording import Command, Option, Wording, worded
from cyborg_infra.render.command_line import spoken
from tests.support.draws import draws

TEXTS = st.text(max_size=8)
NAMED = st.builds(Option, st.sampled_from(["allow", "prune", "timeout", "js_domain"]), TEXTS) | st.builds(
    Command, st.sampled_from(["plan", "dlq list"])
)


@pytest.mark.parametrize(
    ("named", "library", "typed"),
    [
        (Option("allow", "mass-change"), "allow={'mass-change'}", "--allow mass-change"),
        (Option("allow", HazardName.MASS_CHANGE), "allow={'mass-change'}", "--allow mass-change"),
        (Option("prune"), "prune=True", "--prune"),
        (Option("targets"), "`targets`", "--target"),
        (Option("js_domain"), "`js_domain`", "--js-domain"),
        (Option("no_lock"), "lock_timeout=None", "--no-lock"),
        (Option("lock_timeout", "5m"), "`lock_timeout`", "--lock-timeout 5m"),
        (Option("role", "cto"), "role='cto'", "--role cto"),
        (Command("plan"), "plan", "cyborg-infra plan"),
        (Command("unlock"), "cyborg-infra unlock", "cyborg-infra unlock"),
    ],
)
def test_the_library_and_the_command_line_each_have_their_name_for_it(
    named: Option | Command, library: str, typed: str
) -> None:
    text = worded("try {}.", named)
    assert (text, spoken(text)) == (f"try {library}.", f"try {typed}.")


@given(TEXTS, NAMED, TEXTS)
@draws()
def test_what_is_made_of_a_wording_still_knows_what_it_names(before: str, named: Option, after: str) -> None:
    """Whatever else is in it: braces of a name or of a server's answer are no places."""
    hint = worded("{} {} {}", before, named, after)
    typed = spoken(worded("{}", named))
    problem = Problem("code", before, None, hint)
    error = CyborgError(problem, problem)
    assert spoken(str(problem)) == f"{before} ({before} {typed} {after})"
    assert spoken(worded("it: {}", error)) == f"it: {spoken(str(problem))}\n{spoken(str(problem))}"
    assert [spoken(each) for each in (copy.copy(hint), copy.deepcopy(hint))] == [spoken(hint)] * 2


def test_to_whoever_knows_nothing_of_it_it_is_a_text() -> None:
    text = worded("raise {}", Option("timeout"))
    assert isinstance(text, Wording)
    assert (text, f"{text}!", text.upper()) == ("raise `timeout`", "raise `timeout`!", "RAISE `TIMEOUT`")
    assert spoken("raise it") == "raise it"
