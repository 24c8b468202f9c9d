"""Under which id a message is published: two that are different never have the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyborg_infra.core.operate.outgoing import prepare_messages
from cyborg_infra.manifest.load import loads
from cyborg_infra.model.messages import MessageKind, OrgMessage
from cyborg_infra.model.outgoing import Destination
from cyborg_infra.model.problems import MessageInvalid, SourcePosition
from tests.support.draws import draws

ORG = loads("org: acme\nroles: [cto, cso]\n")
MARK = SourcePosition("message.json", 1, 1)


def task_id(text: str) -> str:
    message = OrgMessage(MessageKind.TASK, {"task_id": text, "assigned_to": "cto"}, MARK)
    return prepare_messages(ORG, Destination.TASK, "cto", [message])[0].id


def alert_id(role: str, **members: object) -> str:
    message = OrgMessage(MessageKind.ALERT, {"type": "security_alert", **members}, MARK)
    return prepare_messages(ORG, Destination.INBOX, role, [message])[0].id


@given(st.text(min_size=1), st.text(min_size=1))
@draws()
def test_the_id_of_a_task_fits_a_header_and_is_its_own(one: str, other: str) -> None:
    """A header loses spaces at its ends, and a line end in one would be another header."""
    assert re.fullmatch("[!-~]{1,128}", task_id(one))
    assert (task_id(one) == task_id(other)) == (one == other)


def test_a_plain_task_id_is_the_id_as_it_is() -> None:
    assert task_id("task-2026-0142") == "task-2026-0142"


def test_what_has_no_id_has_one_by_its_content_and_its_reader() -> None:
    """All inboxes are in one stream: the same words to two roles are two messages."""
    assert alert_id("cto", a=1) == alert_id("cto", a=1)
    assert len({alert_id("cto", a=1), alert_id("cto", a=2), alert_id("cso", a=1)}) == 3


@pytest.mark.parametrize(
    "kind", [MessageKind.TASK, MessageKind.STATUS, MessageKind.BROADCAST, MessageKind.QUERY]
)
def test_what_belongs_elsewhere_is_not_put_into_an_inbox(kind: MessageKind) -> None:
    with pytest.raises(MessageInvalid) as refused:
        prepare_messages(ORG, Destination.INBOX, "cto", [OrgMessage(kind, {}, MARK)])
    assert [(problem.code, problem.where) for problem in refused.value.problems] == [("not-for-inbox", MARK)]
