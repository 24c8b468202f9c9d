"""Allow and deny, as the server means them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cyborg_infra.model.permissions import Permissions

SUBJECT = "$JS.API.STREAM.CREATE.X"


@pytest.mark.parametrize(
    ("allow", "deny", "may"),
    [
        ((), (), True),
        ((), ("foo",), True),
        ((), ("$JS.API.STREAM.CREATE.*",), False),
        ((), (">",), False),
        (("foo",), (), False),
        ((">",), (), True),
        (("$JS.API.>",), (), True),
        (("$JS.API.STREAM.CREATE.*",), (), True),
        (("$JS.API.*",), (), False),
        (("$JS.API.STREAM.CREATE.X.>",), (), False),
        (("$JS.API.STREAM.CREATE.Y", "$JS.*.STREAM.*.X"), (), True),
        (("$JS.API.>",), ("$JS.API.STREAM.CREATE.X",), False),
        (("$JS.API.STREAM.CREATE.X",), ("$JS.API.STREAM.>",), False),
    ],
)
def test_a_denial_wins_and_without_an_allowance_everything_is_allowed(
    allow: Sequence[str],
    deny: Sequence[str],
    may: bool,  # noqa: FBT001 - pytest's
) -> None:
    assert Permissions(allow, deny).may_publish(SUBJECT) is may
