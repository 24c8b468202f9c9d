"""Verify the identities of an organisation: on a server of our own by doing, on the one at hand by what the server says of them.

On a server of our own every identity does all of its work, and everything that belongs to another is tried and has to be
refused. On the server at hand nothing is tried that could touch anybody's work: each identity connects and asks what it may, and
that is compared with the manifest, subject by subject.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from cyborg_infra.core.desired.expand import expand
from cyborg_infra.core.desired.sandbox import org_alone, supported_by
from cyborg_infra.core.identity.permissions import identities
from cyborg_infra.core.identity.trials import (
    misuse_of,
    own_question,
    permission_differences,
    refused_attempts,
    work_of,
)
from cyborg_infra.core.planning.planner import make_plan
from cyborg_infra.interrupts import end_in_order
from cyborg_infra.live.api.jetstream import connect_account
from cyborg_infra.live.connection.target import Target
from cyborg_infra.live.embedded import EmbeddedServer
from cyborg_infra.live.verify.identity_checks import WORK_LAW, IdentityTrial
from cyborg_infra.manifest.load import load
from cyborg_infra.model.identities import Identity, IdentityKind
from cyborg_infra.model.organisation import Org
from cyborg_infra.model.problems import CyborgError, Problem, UsageInvalid
from cyborg_infra.model.resources import DesiredState
from cyborg_infra.model.server import require_server_info
from cyborg_infra.model.standing import Standing
from cyborg_infra.model.verification import AuthCheckName, CheckResult, Verdict, Verification, VerifyStage
from cyborg_infra.model.wording import Command, first_few, worded
from cyborg_infra.operations.event_loop import run_coroutine
from cyborg_infra.operations.identities import account_names, identities_of, key_file, make_keys, public_keys
from cyborg_infra.operations.verify import OnProgress, carry_out
from cyborg_infra.render import server_config
from cyborg_infra.render.values import plural

__all__ = ["logins", "try_identities", "verify_identities", "verify_identities_embedded"]

CREDS_SUFFIX = ".creds"


def verify_identities_embedded(
    path: str, env: str | None, on_progress: OnProgress = lambda _: None
) -> Verification:
    """Return what became of every identity on a nats-server of our own, with keys that are gone with it. Raises CyborgError."""
    org = org_alone(load(path, env))
    _, _, found, crossings = identities_of(org, expand(org))
    end_in_order()
    with ExitStack() as stack:
        store = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cyborg-infra-verify-")))
        keys = store / "keys"
        make_keys(found, keys)
        config = server_config.accounts(org, found, public_keys(found, keys), account_names(org), crossings)
        server = stack.enter_context(EmbeddedServer(store, is_temporary=True, config=config))
        return try_identities(org, server.url, keys, on_progress)


def verify_identities(
    path: str, env: str | None, target: Target, keys: Path, on_progress: OnProgress = lambda _: None
) -> Verification:
    """Return whether the server at hand lets each identity do what the manifest wants. Nothing is written. Raises CyborgError."""
    org = load(path, env)
    found = identities(org, expand(org), target.domain or None)
    targets = logins(found, target, keys)

    async def run() -> Verification:
        reader = targets[org.auth.name_of(Standing.READER)]
        async with connect_account(reader) as server:
            account = await server.snapshot(org.name, DesiredState())
        facts = require_server_info(account.server_info)
        on_progress(VerifyStage.CHECKING)
        results = []
        async with IdentityTrial(facts.url, targets, org.auth.name_of(Standing.OPERATOR)) as trial:
            for identity in found:
                results.append(
                    await trial.check_permissions(identity.name, partial(permission_differences, identity))
                )
                on_progress(results[-1])
                if _works_apart(org, identity):
                    results.append(await trial.check_account(identity.name))
                    on_progress(results[-1])
        return Verification(org.name, org.name, facts.url, str(facts.version), _by_check(results))

    return run_coroutine(run())


def logins(found: Sequence[Identity], target: Target, keys: Path) -> dict[str, Target]:
    """Return how each identity connects: with its credentials if the directory has them, else with its seed. Raises UsageInvalid."""
    made: dict[str, Target] = {}
    missing: list[str] = []
    for identity in found:
        seed = key_file(keys, identity)
        creds = seed.with_name(f"{identity.name}{CREDS_SUFFIX}")
        if not (creds.exists() or seed.exists()):
            missing.append(identity.name)
        made[identity.name] = Target(
            urls=target.urls,
            creds=creds if creds.exists() else None,
            nkey=None if creds.exists() else seed,
            tls_cert=target.tls_cert,
            tls_key=target.tls_key,
            tls_ca=target.tls_ca,
            tls_first=target.tls_first,
            domain=target.domain,
            api_prefix=target.api_prefix,
            inbox_prefix=identity.inbox_prefix,
            timeout=target.timeout,
        )
    if missing:
        hint = worded("`{}` makes keys for a server with a configuration file", Command("auth keys"))
        raise UsageInvalid(
            Problem(
                "no-key", f"{keys} has neither a seed nor credentials of {first_few(missing, 1)}", None, hint
            )
        )
    return made


def try_identities(org: Org, url: str, keys: Path, on_progress: OnProgress = lambda _: None) -> Verification:
    """Return what became of every identity on a server that nobody works on: the writer applies, then each does all that it has to.

    Raises CyborgError where the writer cannot apply.
    """
    found = identities(org, expand(org))
    targets = logins(found, Target(urls=(url,)), keys)

    async def run() -> Verification:
        on_progress(VerifyStage.PROVISIONING)
        async with connect_account(targets[org.auth.name_of(Standing.WRITER)]) as server:
            account = await server.snapshot(org.name, DesiredState())
            facts = require_server_info(account.server_info)
            desired, _ = supported_by(expand(org, facts.level), facts.level)
            await carry_out(server, make_plan(account, desired, owner=org.name, org=org))
        on_progress(VerifyStage.CHECKING)
        results = [await _reads_all(org, desired, targets)]
        async with IdentityTrial(url, targets, org.auth.name_of(Standing.OPERATOR)) as trial:
            for identity in found:
                results.append(
                    await trial.check_permissions(identity.name, partial(permission_differences, identity))
                )
                if _works_apart(org, identity):
                    results.append(
                        await trial.check_work(identity.name, work_of(org, desired, identity.name))
                    )
                if role := org.role(identity.name):
                    attempts = refused_attempts(org, desired, found, role)
                    own = own_question(org, identity)
                    results.append(await trial.check_refused(identity.name, attempts, own))
            failing = {result.role for result in results if result.seen}  # who cannot work can be no victim
            # Last: where an answer does something, the others' queues are gone.
            for identity in found:
                if _works_apart(org, identity):
                    misuse = misuse_of(org, desired, found, identity.name)
                    victims = [each for each in misuse.victims if each[2] not in failing]
                    results.append(await trial.check_answers(identity.name, replace(misuse, victims=victims)))
        for result in results:
            on_progress(result)
        return Verification(org.name, org.name, url, str(facts.version), _by_check(results))

    return run_coroutine(run())


def _works_apart(org: Org, identity: Identity) -> bool:
    """Return whether the identity works with messages alone, and so must be in the account where no answer of the server can act."""
    return identity.kind is IdentityKind.ROLE or identity.name == org.auth.name_of(Standing.ALERTS)


def _by_check(results: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
    order = list(AuthCheckName)
    return tuple(sorted(results, key=lambda result: order.index(AuthCheckName(result.check))))


async def _reads_all(org: Org, desired: DesiredState, targets: dict[str, Target]) -> CheckResult:
    """Return whether the reader sees that what the writer has applied is there."""
    name, seen = org.auth.name_of(Standing.READER), ""
    try:
        async with connect_account(targets[name]) as server:
            plan = make_plan(await server.snapshot(org.name, desired), desired, owner=org.name, org=org)
            seen = f"it sees {plural(len(plan.changes), 'difference')}" if plan else ""
    except CyborgError as error:
        seen = str(error)
    verdict = Verdict.FAILED if seen else Verdict.PASSED
    return CheckResult(AuthCheckName.WORK, verdict, WORK_LAW, seen, name)
