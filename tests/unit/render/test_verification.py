"""What `verify` tells of its checks: of roles, and of identities, which are more than roles."""

from __future__ import annotations

import io

import pytest

from cyborg_infra.model.verification import AuthCheckName, CheckName, CheckResult, Verdict, Verification
from cyborg_infra.render.terminal.console import Plain
from cyborg_infra.render.verification import text


@pytest.mark.parametrize(
    ("check", "names", "said"),
    [
        (CheckName.ORDER, ["cto"], "order-is-kept  (1 role)"),
        (CheckName.ORDER, ["cto", "cso"], "order-is-kept  (2 roles)"),
        (CheckName.RESTART, [""], "restart-loses-nothing"),
        (AuthCheckName.WORK, ["writer"], "identity-does-its-work  (1 identity)"),
        (AuthCheckName.WORK, ["cto", "writer"], "identity-does-its-work  (2 identities)"),
    ],
)
def test_a_check_says_of_how_many_roles_or_identities_it_holds(
    check: CheckName | AuthCheckName, names: list[str], said: str
) -> None:
    results = tuple(CheckResult(check, Verdict.PASSED, "", role=name) for name in names)
    written = io.StringIO()
    Plain(written).print(text(Verification("acme", "acme", "nats://localhost", "2.15.1", results)))
    lines = [line.split(maxsplit=1) for line in written.getvalue().splitlines()]
    assert [line[1] for line in lines if line[:1] == ["ok"]] == [said]
