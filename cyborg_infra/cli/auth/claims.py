"""`auth plan`, `apply`, `drift` and `revoke`: the rights of identities in the claims of their account."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra.cli.auth.operator_options import (
    KEYS,
    Account,
    AgentsAccount,
    ClaimsFiles,
    IdentityName,
    Keys,
    OperatorKey,
)
from cyborg_infra.cli.connection_options import connected, target_of
from cyborg_infra.cli.files import save_text
from cyborg_infra.cli.options import MANIFEST, Env, Format, Manifest, ManifestOrPlan, NoColor, Output, Yes
from cyborg_infra.cli.output import confirm, json_text, put_answer
from cyborg_infra.cli.run import told_elsewhere
from cyborg_infra.model.auth_plan import AuthHazardName, AuthPlan
from cyborg_infra.model.identities import Accounts
from cyborg_infra.model.problems import EXIT_DIFFERENCES, EXIT_REFUSED, PlanRefused, Problem
from cyborg_infra.operations import operator_mode, targets


class Allowance(StrEnum):
    """What `--allow` takes."""

    REVOKES_ACCESS = AuthHazardName.REVOKES_ACCESS.value


Allow = Annotated[
    list[Allowance] | None,
    typer.Option(
        "--allow",
        help="revokes-access: take rights from agents.",
        metavar="HAZARD",
        show_default=False,
    ),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="End the keys of identities that the manifest no longer has.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Save the plan for `auth apply FILE`.", metavar="FILE", show_default=False),
]
Detailed = Annotated[bool, typer.Option("--detailed-exitcode", help="Exit 2 if there are differences.")]
Pending = Annotated[
    bool, typer.Option("--pending", help="Fail as well on what the manifest wants and nobody has applied.")
]


@connected
def plan(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    account: Account = "",
    agents_account: AgentsAccount = "",
    keys: Keys = KEYS,
    claims: ClaimsFiles = None,
    prune: Prune = False,
    out: Out = None,
    detailed: Detailed = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Show whose rights the manifest changes in the account's claims. Writes nothing. Connects as a user of the system account."""
    requests = operator_mode.load_auth_requests(
        manifest, env, accounts=_accounts(account, agents_account, claims), keys=keys, prune=prune
    )
    store = _store(flags, claims)
    found = [operator_mode.plan(request, store) for request in requests]
    if out is not None:
        from cyborg_infra.render import auth_plan

        save_text(out, json_text(auth_plan.saved_claims(found)), operator_mode.is_saved)
    words = [*([manifest] if manifest != MANIFEST else []), *(["--prune"] if prune else [])]
    _put(found, output, no_color=no_color, words=words, saved_to=str(out) if out else None)
    if any(each.problems for each in found):
        raise typer.Exit(EXIT_REFUSED)
    if any(found) and detailed:
        raise typer.Exit(EXIT_DIFFERENCES)


@connected
def apply(
    manifest: ManifestOrPlan = MANIFEST,
    *,
    env: Env = None,
    account: Account = "",
    agents_account: AgentsAccount = "",
    keys: Keys = KEYS,
    claims: ClaimsFiles = None,
    operator_key: OperatorKey = None,
    prune: Prune = False,
    allow: Allow = None,
    yes: Yes = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Show the plan, ask, and push the claims. Exits 3, with nothing pushed, if it takes a right away that is not allowed."""
    requests = operator_mode.load_auth_requests(
        manifest, env, accounts=_accounts(account, agents_account, claims), keys=keys, prune=prune
    )
    _carry_out(
        requests,
        _store(flags, claims),
        operator_key,
        command="apply",
        allow=allow,
        yes=yes,
        output=output,
        no_color=no_color,
    )


@connected
def drift(
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    account: Account = "",
    agents_account: AgentsAccount = "",
    keys: Keys = KEYS,
    claims: ClaimsFiles = None,
    pending: Pending = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Show whose rights somebody changed in the account's claims. Exits 2 if anybody did, or with --pending if anything differs, else 0."""
    requests = operator_mode.load_auth_requests(
        manifest, env, accounts=_accounts(account, agents_account, claims), keys=keys
    )
    store = _store(flags, claims)
    found = [operator_mode.plan(request, store) for request in requests]
    changed = any(map(operator_mode.has_changed_rights, found))
    from cyborg_infra.render import auth_plan

    put_answer(found, output, auth_plan.data, partial(auth_plan.drift, changed=changed), no_color=no_color)
    if changed or (pending and any(each or each.orphans or each.problems for each in found)):
        raise typer.Exit(EXIT_DIFFERENCES)


@connected
def revoke(
    identity: IdentityName,
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    account: Account = "",
    agents_account: AgentsAccount = "",
    keys: Keys = KEYS,
    claims: ClaimsFiles = None,
    operator_key: OperatorKey = None,
    allow: Allow = None,
    yes: Yes = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """End the keys that an identity had before `auth rotate`. Exits 3 while an agent still uses one, unless that is allowed."""
    request = operator_mode.revoke_request(
        manifest, env, identity, accounts=_accounts(account, agents_account, claims), keys=keys
    )
    _carry_out(
        [request],
        _store(flags, claims),
        operator_key,
        command="revoke",
        allow=allow,
        yes=yes,
        output=output,
        no_color=no_color,
    )
    operator_mode.forget_old_files(keys, identity)


COMMANDS = {
    "plan": (plan, "Example: cyborg-infra auth plan org.yaml --account A... --context system"),
    "apply": (
        apply,
        "Example: cyborg-infra auth apply org.yaml --account A... --operator-key operator.nk",
    ),
    "drift": (drift, "Example: cyborg-infra auth drift org.yaml --account A... --pending"),
    "revoke": (revoke, "Example: cyborg-infra auth revoke cto --account A... --operator-key operator.nk"),
}


def _carry_out(
    requests: Sequence[operator_mode.AuthRequest],
    store: operator_mode.Store,
    operator_key: Path | None,
    *,
    command: str,
    allow: list[Allowance] | None,
    yes: bool,
    output: Format,
    no_color: bool,
) -> None:
    found = [operator_mode.plan(request, store) for request in requests]
    if output is Format.TEXT:
        _put(found, output, no_color=no_color, command=command)
    _refuse_unless_allowed(found, allow or (), shown=output is Format.TEXT)
    if any(found):
        signer = operator_mode.operator_key(operator_key, os.environ)
        count = sum(len(each.changes) + len(each.crossings) for each in found)
        confirm(
            f"Do you want to push {'this change' if count == 1 else f'these {count} changes'}?",
            "yes",
            yes=yes,
        )
        for each, request in zip(found, requests, strict=True):  # what is imported has to be exported first
            if each:
                operator_mode.apply(each, request, store, signer, allow or ())
    if output is Format.JSON or any(found):
        from cyborg_infra.render import auth_plan

        put_answer(found, output, auth_plan.data, auth_plan.applied, no_color=no_color)


def _refuse_unless_allowed(found: Sequence[AuthPlan], allow: Sequence[str], *, shown: bool) -> None:
    """Raise PlanRefused if the plans may not be carried out; in one sentence where they have just been `shown`."""
    try:
        for each in found:
            operator_mode.refuse_unless_rights_allowed(each, allow)
    except PlanRefused as refused:
        if not shown:
            raise
        names = ", ".join(sorted({problem.code for problem in refused.problems}))
        if any(each.problems for each in found):
            hint = 'each stands behind an "Error" in the plan, with what to do'
            problem = Problem(
                "impossible", "nothing was changed: a problem of this plan must be solved first", None, hint
            )
        else:
            hint = f"the plan says whom it concerns; accept it with --allow {names}"
            problem = Problem("not-allowed", f"nothing was changed: not allowed by name: {names}", None, hint)
        raise PlanRefused(problem, *told_elsewhere(refused)) from None


def _put(
    found: Sequence[AuthPlan],
    output: Format,
    *,
    no_color: bool,
    command: str = "plan",
    words: list[str] | None = None,
    saved_to: str | None = None,
) -> None:
    from cyborg_infra.render import auth_plan

    shown = auth_plan.NextCommand(command, words or (), (), saved_to)
    put_answer(found, output, auth_plan.data, partial(auth_plan.plan, shown=shown), no_color=no_color)


def _accounts(account: str, agents_account: str, claims: list[Path] | None) -> Accounts:
    """Return which accounts are meant: those that are named, or else those of the files of claims, in this order."""
    of_files = [str(path) for path in claims or ()]
    named = [
        given or each for given, each in zip_longest((account, agents_account), of_files[:2], fillvalue="")
    ]
    return Accounts(*named)


def _store(flags: targets.Flags, claims: list[Path] | None) -> operator_mode.Store:
    if claims:
        return operator_mode.Store(files=tuple(claims))
    return operator_mode.Store(target_of(flags))
