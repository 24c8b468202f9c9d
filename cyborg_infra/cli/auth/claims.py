"""`auth plan`, `apply`, `drift` and `revoke`: the rights of identities in the claims of their account."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cyborg_infra.cli.auth.operator_options import KEYS, Account, ClaimsFile, IdentityName, Keys, OperatorKey
from cyborg_infra.cli.connection_options import connected
from cyborg_infra.cli.files import save_text
from cyborg_infra.cli.options import MANIFEST, Env, Format, Manifest, ManifestOrPlan, NoColor, Output, Yes
from cyborg_infra.cli.output import confirm, json_text, put_json, warn
from cyborg_infra.model.auth_plan import AuthHazardName, AuthPlan
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
    keys: Keys = KEYS,
    claims: ClaimsFile = None,
    prune: Prune = False,
    out: Out = None,
    detailed: Detailed = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Show whose rights the manifest changes in the account's claims. Writes nothing. Connects as a user of the system account."""
    request = operator_mode.load_auth_request(
        manifest, env, account=_account(account, claims), keys=keys, prune=prune
    )
    found = operator_mode.plan(request, _store(flags, claims))
    if out is not None:
        from cyborg_infra.render import auth_plan

        save_text(out, json_text(auth_plan.saved_claims(found)), operator_mode.is_saved)
    words = [*([manifest] if manifest != MANIFEST else []), *(["--prune"] if prune else [])]
    _put(found, output, no_color=no_color, words=words, saved_to=str(out) if out else None)
    if found.problems:
        raise typer.Exit(EXIT_REFUSED)
    if found and detailed:
        raise typer.Exit(EXIT_DIFFERENCES)


@connected
def apply(
    manifest: ManifestOrPlan = MANIFEST,
    *,
    env: Env = None,
    account: Account = "",
    keys: Keys = KEYS,
    claims: ClaimsFile = None,
    operator_key: OperatorKey = None,
    prune: Prune = False,
    allow: Allow = None,
    yes: Yes = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Show the plan, ask, and push the claims. Exits 3, with nothing pushed, if it takes a right away that is not allowed."""
    request = operator_mode.load_auth_request(
        manifest, env, account=_account(account, claims), keys=keys, prune=prune
    )
    _carry_out(
        request,
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
    keys: Keys = KEYS,
    claims: ClaimsFile = None,
    pending: Pending = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """Show whose rights somebody changed in the account's claims. Exits 2 if anybody did, or with --pending if anything differs, else 0."""
    request = operator_mode.load_auth_request(manifest, env, account=_account(account, claims), keys=keys)
    found = operator_mode.plan(request, _store(flags, claims))
    changed = operator_mode.has_changed_rights(found)
    from cyborg_infra.render import auth_plan

    if output is Format.JSON:
        put_json(auth_plan.data(found))
    else:
        from cyborg_infra.render.terminal import console

        console.stdout(no_color=no_color).print(auth_plan.drift(found, changed=changed))
    if changed or (pending and (found or found.orphans or found.problems)):
        raise typer.Exit(EXIT_DIFFERENCES)


@connected
def revoke(
    identity: IdentityName,
    manifest: Manifest = MANIFEST,
    *,
    env: Env = None,
    account: Account = "",
    keys: Keys = KEYS,
    claims: ClaimsFile = None,
    operator_key: OperatorKey = None,
    allow: Allow = None,
    yes: Yes = False,
    output: Output = Format.TEXT,
    no_color: NoColor = False,
    flags: targets.Flags,
) -> None:
    """End the keys that an identity had before `auth rotate`. Exits 3 while an agent still uses one, unless that is allowed."""
    request = operator_mode.revoke_request(
        manifest, env, identity, account=_account(account, claims), keys=keys
    )
    _carry_out(
        request,
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
    request: operator_mode.AuthRequest,
    store: operator_mode.Store,
    operator_key: Path | None,
    *,
    command: str,
    allow: list[Allowance] | None,
    yes: bool,
    output: Format,
    no_color: bool,
) -> None:
    found = operator_mode.plan(request, store)
    if output is Format.TEXT:
        _put(found, output, no_color=no_color, command=command)
    if found or found.problems:
        _refuse_unless_allowed(found, allow or (), shown=output is Format.TEXT)
        signer = operator_mode.operator_key(operator_key, os.environ)
        count = len(found.changes)
        confirm(
            f"Do you want to push {'this change' if count == 1 else f'these {count} changes'}?",
            "yes",
            yes=yes,
        )
        operator_mode.apply(found, request, store, signer, allow or ())
    if output is Format.JSON:
        from cyborg_infra.render import auth_plan

        put_json(auth_plan.data(found))
    elif found:
        from cyborg_infra.render import auth_plan
        from cyborg_infra.render.terminal import console

        console.stdout(no_color=no_color).print(auth_plan.applied(found))


def _refuse_unless_allowed(found: AuthPlan, allow: Sequence[str], *, shown: bool) -> None:
    """Raise PlanRefused if the plan may not be carried out; in one sentence where it has just been `shown`."""
    try:
        operator_mode.refuse_unless_rights_allowed(found, allow)
    except PlanRefused as refused:
        if not shown:
            raise
        names = ", ".join(sorted({problem.code for problem in refused.problems}))
        if found.problems:
            hint = 'each stands behind an "Error" above'
            problem = Problem(
                "impossible", "nothing was changed: a problem of this plan must be solved first", None, hint
            )
        else:
            hint = f"the plan above says whom it concerns; accept it with --allow {names}"
            problem = Problem("not-allowed", f"nothing was changed: not allowed by name: {names}", None, hint)
        raise PlanRefused(problem) from None


def _put(
    found: AuthPlan,
    output: Format,
    *,
    no_color: bool,
    command: str = "plan",
    words: list[str] | None = None,
    saved_to: str | None = None,
) -> None:
    from cyborg_infra.render import auth_plan

    if output is Format.JSON:
        put_json(auth_plan.data(found))
    else:
        from cyborg_infra.render.terminal import console

        shown = auth_plan.NextCommand(command, words or (), (), saved_to)
        console.stdout(no_color=no_color).print(auth_plan.plan(found, shown))


def _account(account: str, claims: Path | None) -> str:
    """Return which account is meant: the one that is named, or else that of the file of claims."""
    return account or (str(claims) if claims else "")


def _store(flags: targets.Flags, claims: Path | None) -> operator_mode.Store:
    if claims is not None:
        return operator_mode.Store(file=claims)
    target = targets.resolve(flags, os.environ)
    warn(*target.warnings)
    return operator_mode.Store(target)
