"""Whatever texts come from a manifest, a message, an agent or a server, the monitor's page has the same elements."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.model.monitor import Observation, WatchedLetter
from cyborg_infra.model.problems import Problem
from cyborg_infra.model.ref import Ref
from cyborg_infra.model.status import Alarm
from cyborg_infra.monitor.page.content import OVERVIEW, View
from cyborg_infra.monitor.page.render import render_page
from cyborg_infra.monitor.page.values import page_values
from tests.support.draws import draws
from tests.support.html import Elements
from tests.support.observations import MARKUP, ORG, in_trouble

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=40),  # with halves of pairs, which UTF-8 has not
    st.text("<>&\"'`={}%#/ \n\u202e\u2028\x00-!", max_size=40),
    st.sampled_from([MARKUP, "</script>", "<!--", "]]>", "&lt;", '" onload=', "javascript:alert(1)"]),
)


def with_texts(text: str) -> Observation:
    """Return the organisation in trouble with this text wherever there is a free one."""
    seen = in_trouble()
    assert seen.status
    broadcast = replace(seen.status.broadcasts[0], group=text)
    stream = replace(seen.status.streams[1], ref=Ref(text))
    return replace(
        seen,
        org=text,
        environment=text,
        status=replace(seen.status, broadcasts=(broadcast,), streams=(stream,), notes=(text,)),
        alarms=tuple(
            Alarm(each.code, text, each.role, str(number)) for number, each in enumerate(seen.alarms)
        ),
        dead_letters=tuple(
            WatchedLetter(
                replace(each.letter, reason=text, role=text, stream=text),
                text or "t",
                text or "t",
                text or "t",
            )
            for each in seen.dead_letters
        ),
    )


@draws(100)
@pytest.mark.parametrize("view", [OVERVIEW, View("backend")])
@given(text=TEXTS)
def test_a_text_adds_no_element_and_no_attribute(view: View, text: str) -> None:
    plain, found = (
        Elements(render_page(page_values(with_texts(each), ORG, view), 1, 15)) for each in ("plain", text)
    )
    assert found.open == []
    assert {tag for tag, _ in found.found} <= {tag for tag, _ in plain.found}
    assert {name for _, each in found.found for name in each} <= {
        name for _, each in plain.found for name in each
    }


@draws(100)
@given(text=TEXTS)
def test_why_nothing_is_read_is_text(text: str) -> None:
    seen = replace(with_texts(text), status=None, problem=Problem("unreachable", text), alarms=())
    page = render_page(page_values(seen, ORG, OVERVIEW), 1, 15)
    assert Elements(page).open == []
    assert {unicodedata.category(char) for char in page if char != "\n"} & {
        "Cc",
        "Cf",
        "Cs",
        "Zl",
        "Zp",
    } == set()
    assert page.encode()
