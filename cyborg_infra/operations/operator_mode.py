"""Operator mode: credentials for every identity, and their rights in the claims of the account: planned, pushed, read back."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cyborg_infra import files
from cyborg_infra.core.identity.signing_keys import (
    Wanted,
    compare_claims,
    is_foreign_part_kept,
    plan_claims,
    plan_revocation,
)
from cyborg_infra.live.connection.target import Target
from cyborg_infra.manifest import saved_auth_plan
from cyborg_infra.model import claims as tokens
from cyborg_infra.model.auth_plan import AuthPlan, LiveClaims
from cyborg_infra.model.changes import Cause
from cyborg_infra.model.claims import Claims, NoClaims
from cyborg_infra.model.credentials import Credentials, MadeOperator
from cyborg_infra.model.identities import Accounts, Identity
from cyborg_infra.model.key_pairs import KeyKind, KeyPair, is_public_key
from cyborg_infra.model.problems import PlanRefused, PlanStale, Problem, UsageInvalid
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import Command, Option, worded
from cyborg_infra.operations.identities import find_identity, load_identities
from cyborg_infra.operations.key_files import (
    KeyDirectory,
    create_secret,
    credentials,
    new_key,
    read_key,
    replace_private_file,
)

OPERATOR_SEED_VARIABLE = "CYBORG_INFRA_OPERATOR_SEED"


class Store(NamedTuple):
    """Where the claims of accounts are: on the servers of a target, or in files, one for each account."""

    target: Target | None = None
    files: tuple[Path, ...] = ()


class _Revoked(NamedTuple):
    """An identity whose keys are to end, all but one."""

    identity: str
    current: str


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """What is wanted of an account's claims: what a manifest wants, what a saved plan has, or an end of old keys."""

    org: str
    account: str
    wanted: Wanted | None = None
    saved: AuthPlan | None = None
    revoked: _Revoked | None = None


def is_saved(path: str) -> bool:
    """Return whether the file is a saved plan for an account's claims."""
    return saved_auth_plan.is_saved(path)


def load_auth_requests(
    path: str, env: str | None, *, accounts: Accounts, keys: Path, prune: bool = False
) -> tuple[AuthRequest, ...]:
    """Return what the manifest or saved plan at `path` wants of each account, first of the one that exports.

    `accounts` are public keys, or files with the accounts' tokens. `keys` is the directory of `make_credentials`; for what is not
    in it an identity can be changed, and not be new. Raises ManifestInvalid, UsageInvalid, and PlanStale for a damaged plan.
    """
    if is_saved(path):
        plans = saved_auth_plan.load_saved_auth_plans(path)
        if not all(is_foreign_part_kept(saved.live.claims, saved.desired, saved.org) for saved in plans):
            raise PlanStale(Problem("stale", "this saved plan would change what is not the organisation's"))
        return tuple(AuthRequest(saved.org, saved.account, saved=saved) for saved in plans)
    org, _, found, crossings = load_identities(path, env)
    public = public_keys_of(accounts)
    in_use = _keys_in_use(KeyDirectory(keys), found)
    return tuple(
        AuthRequest(
            org.name,
            account,
            Wanted(
                org.name,
                [identity for identity in found if public.of(identity) == account],
                in_use,
                prune,
                crossings,
                exporter,
            ),
        )
        for account, exporter in ((public.jetstream, ""), (public.agents, public.jetstream))
    )


def revoke_request(
    path: str, env: str | None, identity: str, *, accounts: Accounts, keys: Path
) -> AuthRequest:
    """Return the request to end every key of an identity but the one in the directory of keys. Raises UsageInvalid."""
    org, found = _identities(path, env)
    wanted = _require_identity(found, [identity])
    current = KeyDirectory(keys).signing_key(identity)
    if current is None:
        raise UsageInvalid(
            Problem(
                "no-signing-key",
                f"there is no key of {identity} in {keys}: all of its keys would end, and nobody could log in as it",
                None,
                worded("make a new one with {}", Command("auth creds")),
            )
        )
    account = public_keys_of(accounts).of(wanted[0])
    return AuthRequest(org, account, revoked=_Revoked(identity, current.public))


def plan(request: AuthRequest, store: Store) -> AuthPlan:
    """Return the plan from the claims as they are to what is wanted. Writes nothing. Raises PlanStale for a stale saved plan."""
    if store.files:
        return _planned(request, _read_file(store, request.account))
    from cyborg_infra.live.resolver import connect_resolver
    from cyborg_infra.operations.event_loop import run_coroutine

    async def run_plan() -> AuthPlan:
        async with connect_resolver(_target(store)) as resolver:
            return _planned(request, await resolver.read(request.account))

    return run_coroutine(run_plan())


def apply(
    shown: AuthPlan, request: AuthRequest, store: Store, signer: KeyPair, allow: Collection[str]
) -> None:
    """Push the claims that the plan leads to, signed by the operator, and read them back.

    Reads them again first: raises PlanStale if they are no longer as they were, and PlanRefused for what may be lost and is
    not allowed, or could not be trusted; nothing is pushed then.
    """
    if store.files:
        found = _read_file(store, request.account)
        token = _signed(shown, _planned(request, found), signer, allow)
        replace_private_file(Path(found.where), token + "\n")
        return
    from cyborg_infra.live.resolver import connect_resolver
    from cyborg_infra.operations.event_loop import run_coroutine

    async def run_apply() -> None:
        async with connect_resolver(_target(store)) as resolver:
            token = _signed(shown, _planned(request, await resolver.read(request.account)), signer, allow)
            await resolver.push(request.account, token)

    run_coroutine(run_apply())


def refuse_unless_rights_allowed(plan: AuthPlan, allow: Collection[str]) -> None:
    """Raise PlanRefused if the plan cannot be done, or takes a right away and `allow` does not name that."""
    if plan.problems:
        raise PlanRefused(*plan.problems)
    refused = [
        Problem(
            hazard.name,
            f"{whose}: {hazard.name}: {hazard.reason}",
            None,
            worded("allow it with {}", Option("allow", hazard.name)),
        )
        for whose, hazard in plan.hazards
        if hazard.name not in allow
    ]
    if refused:
        raise PlanRefused(*refused)


def has_changed_rights(plan: AuthPlan) -> bool:
    """Return whether somebody changed the rights of an identity since they were applied."""
    return any(cause is not Cause.MANIFEST for cause in plan.causes)


def operator_key(file: Path | None, environ: Mapping[str, str]) -> KeyPair:
    """Return the key that signs an account's claims: of the file, or else of the environment. Raises UsageInvalid."""
    if file is not None:
        return read_key(KeyKind.OPERATOR, file)
    if seed := environ.get(OPERATOR_SEED_VARIABLE):
        try:
            return KeyPair.of_seed(KeyKind.OPERATOR, seed.strip())
        except ValueError as error:
            raise UsageInvalid(Problem("bad-key", f"cannot use {OPERATOR_SEED_VARIABLE}: {error}")) from None
    raise UsageInvalid(
        Problem(
            "no-operator-key",
            "the claims of an account are signed by its operator, and no key of one was given",
            None,
            worded(
                f"name the file with its seed with {{}}, or put the seed into {OPERATOR_SEED_VARIABLE}",
                Option("operator_key", "FILE"),
            ),
        )
    )


def make_credentials(
    path: str,
    env: str | None,
    *,
    accounts: Accounts,
    keys: Path,
    only: Sequence[str] = (),
    lifetime: float | None = None,
) -> list[Credentials]:
    """Make what is missing of a signing key and a credentials file for each identity, or of `only` some; return all of them.

    `lifetime` is how many seconds new credentials are good for. What is there stays. Raises ManifestInvalid and UsageInvalid.
    """
    _, found = _identities(path, env)
    _require_identity(found, only)
    public, directory = public_keys_of(accounts), KeyDirectory(keys)
    directory.make()
    return [
        _ensure_credentials(directory, identity, public.of(identity), lifetime)
        for identity in found
        if not only or identity.name in only
    ]


def rotate_credentials(
    path: str,
    env: str | None,
    identity: str,
    *,
    accounts: Accounts,
    keys: Path,
    lifetime: float | None = None,
) -> Credentials:
    """Make a second signing key and new credentials for an identity; the old ones stay good, and beside them as `*.old`.

    Raises ManifestInvalid and UsageInvalid, also where an earlier rotation has not come to its end.
    """
    _, found = _identities(path, env)
    (wanted,) = _require_identity(found, [identity])
    public, directory = public_keys_of(accounts), KeyDirectory(keys)
    directory.make()
    directory.set_aside(identity)
    return _ensure_credentials(directory, wanted, public.of(wanted), lifetime)


_UNLIMITED = {
    **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1),
    "wildcards": True,
}
_ALL_OF_JETSTREAM = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


def make_operator(directory: Path, names: Accounts) -> MadeOperator:
    """Make an operator, its system account, two accounts without limits, and the part of a server's configuration that trusts it.

    `names` are those of the accounts; the roles' has no JetStream. Raises UsageInvalid if any of the files is there already: it stays.
    """
    now, store = int(time.time()), KeyDirectory(directory)
    store.make()
    config, account_file, agents_file, system_creds = (
        directory / name for name in ("resolver.conf", "account.jwt", "agents.jwt", "system.creds")
    )
    seeds = {name: directory / f"{name}.nk" for name in ("operator", "system", "account", "agents")}
    made = (config, account_file, agents_file, system_creds, *seeds.values())
    if taken := [path for path in made if path.exists()]:
        raise UsageInvalid(
            Problem("exists", f"{taken[0]} exists and stays as it is", None, "name another directory")
        )
    operator, user = new_key(KeyKind.OPERATOR), new_key(KeyKind.USER)
    system, account, agents = (new_key(KeyKind.ACCOUNT) for _ in range(3))
    trust = tokens.operator_claims(
        "operator", operator.public, issued=now, nats={"system_account": system.public}
    )
    accounts = {
        pair.public: tokens.sign(
            tokens.account_claims(name, pair.public, issued=now, nats={"limits": limits}), operator
        )
        for name, pair, limits in (
            ("SYS", system, _UNLIMITED),
            (names.jetstream, account, _UNLIMITED | _ALL_OF_JETSTREAM),
            (names.agents, agents, _UNLIMITED),
        )
    }
    login = tokens.sign(tokens.account_user_claims("system", user.public, issued=now), system)
    for name, pair in zip(seeds, (operator, system, account, agents), strict=True):
        create_secret(seeds[name], pair.seed + "\n")
    create_secret(system_creds, credentials(login, user.seed))
    create_secret(account_file, accounts[account.public] + "\n")
    create_secret(agents_file, accounts[agents.public] + "\n")
    preloaded = "".join(f"  {public}: {token}\n" for public, token in accounts.items())
    create_secret(
        config,
        '# In nats-server\'s configuration: include "resolver.conf"\n'
        f"operator: {tokens.sign(trust, operator)}\n"
        f"system_account: {system.public}\n"
        f'resolver: {{type: full, dir: "{(directory / "accounts").resolve()}", allow_delete: false, interval: "2m"}}\n'
        f"resolver_preload: {{\n{preloaded}}}\n",
    )
    return MadeOperator(
        Accounts(account.public, agents.public),
        Accounts(str(account_file), str(agents_file)),
        *(str(path) for path in (config, seeds["operator"], system_creds)),
    )


def public_keys_of(accounts: Accounts) -> Accounts:
    """Return the public keys of both accounts. Raises UsageInvalid, also where they are one: roles have an account of their own."""
    public = Accounts(
        _public_key_of(accounts.jetstream, "that has JetStream", "account"),
        _public_key_of(accounts.agents, "of the roles", "agents_account"),
    )
    if public.jetstream == public.agents:
        raise UsageInvalid(
            Problem(
                "one-account",
                f"{public.agents} is named as both accounts: what JetStream answers a role would go to its API, if the role says so",
                None,
                worded(
                    "make an account without JetStream, and name it with {}", Option("agents_account", "A...")
                ),
            )
        )
    return public


def _public_key_of(account: str, which: str, option: str) -> str:
    """Return the public key of an account: `account` itself, or the one that the token in a file of that name is about."""
    if is_public_key(KeyKind.ACCOUNT, account):
        return account
    if not account:
        raise UsageInvalid(
            Problem(
                "no-account",
                f"the account {which} is not known",
                None,
                worded("give its public key, or a file with its token, with {}", Option(option, "A...")),
            )
        )
    public: str = _read_token(Path(account))["sub"]
    return public


def forget_old_files(keys: Path, identity: str) -> None:
    """Remove the key and credentials that `rotate` set aside, once they open nothing any more."""
    KeyDirectory(keys).drop_old(identity)


def _identities(path: str, env: str | None) -> tuple[str, Sequence[Identity]]:
    found = load_identities(path, env)
    return found.org.name, found.found


def _require_identity(found: Sequence[Identity], names: Sequence[str]) -> list[Identity]:
    """Return the identities of these names. Raises UsageInvalid."""
    return [find_identity(tuple(found), name) for name in names]


def _keys_in_use(directory: KeyDirectory, found: Sequence[Identity]) -> dict[str, str]:
    pairs = ((identity.name, directory.signing_key(identity.name)) for identity in found)
    return {name: pair.public for name, pair in pairs if pair is not None}


def _ensure_credentials(
    directory: KeyDirectory, identity: Identity, account: str, lifetime: float | None
) -> Credentials:
    signer = directory.signing_key(identity.name)
    if signer is None:
        signer = new_key(KeyKind.ACCOUNT)
        create_secret(directory.signing_key_file(identity.name), signer.seed + "\n")
    file = directory.creds_file(identity.name)
    made = not file.exists()
    if made:
        create_secret(file, _new_credentials(identity.name, signer, account, lifetime))
    expires = _expiry_of(file)
    expired = expires is not None and expires <= time.time()
    return Credentials(identity.name, identity.inbox_prefix, str(file), signer.public, expires, made, expired)


def _new_credentials(name: str, signer: KeyPair, account: str, lifetime: float | None) -> str:
    now, user = int(time.time()), new_key(KeyKind.USER)
    expires = None if lifetime is None else now + int(lifetime)
    body = tokens.user_claims(name, user.public, account, issued=now, expires=expires)
    return credentials(tokens.sign(body, signer), user.seed)


def _expiry_of(file: Path) -> int | None:
    try:
        text = files.read_text(file)
    except files.Unreadable as error:
        raise UsageInvalid(Problem("creds", f"cannot use {file}: {error}")) from None
    return next((expires for line in text.splitlines() if (expires := tokens.expiry(line))), None)


def _planned(request: AuthRequest, live: LiveClaims) -> AuthPlan:
    if request.saved is not None:
        _refuse_unless_same(request.saved, live)
        return compare_claims(live, request.saved.desired, request.org)
    if request.revoked is not None:
        return plan_revocation(live, request.org, *request.revoked)
    if request.wanted is None:
        raise ValueError("a request is a manifest's, a saved plan's or a revocation")
    return plan_claims(live, request.wanted)


def _refuse_unless_same(saved: AuthPlan, live: LiveClaims) -> None:
    if saved.live.claims != live.claims:
        raise PlanStale(
            Problem(
                "stale",
                f"the plan is stale: the claims of account {saved.account} were changed since it was made",
                None,
                "make a new plan",
            )
        )


def _signed(shown: AuthPlan, now: AuthPlan, signer: KeyPair, allow: Collection[str]) -> str:
    """Return the claims to push as a token, signed by the operator. Raises PlanStale and PlanRefused."""
    _refuse_unless_same(shown, now.live)
    refuse_unless_rights_allowed(now, allow)
    if not is_foreign_part_kept(now.live.claims, now.desired, now.org):
        raise ValueError("a plan changes nothing but the keys of its organisation")
    _refuse_untrusted(now.live, signer)
    issued = max(int(time.time()), int(now.live.claims.get("iat", 0)) + 1)  # servers keep the later one
    return tokens.sign({**now.desired, "iat": issued}, signer)


def _refuse_untrusted(live: LiveClaims, signer: KeyPair) -> None:
    """Refuse a key that is not the operator's: a server takes what it has signed without a word, and does not go by it."""
    if live.operators:
        strict = any(claims.get("nats", {}).get("strict_signing_key_usage") for claims in live.operators)
        trusted = {
            key
            for claims in live.operators
            for key in (
                *([] if strict else [claims.get("sub")]),
                *(claims.get("nats", {}).get("signing_keys") or ()),
            )
        }
    else:
        trusted = {live.claims["iss"]}
    if signer.public not in trusted:
        raise PlanRefused(
            Problem(
                "untrusted-key",
                f"{signer.public} is no key of the operator that these servers trust: nothing was changed",
                None,
                "use a signing key of the operator",
            )
        )


def _read_file(store: Store, account: str) -> LiveClaims:
    for path in store.files:
        found = _read_token(path)
        if found["sub"] == account:
            return LiveClaims(found, str(path))
    named = ", ".join(map(str, store.files))
    raise UsageInvalid(Problem("account", f"no file of {named} is about the account {account}"))


def _read_token(path: Path) -> Claims:
    """Return the claims of the account in a file. Raises UsageInvalid."""
    try:
        found = tokens.decode(files.read_text(path))
    except (files.Unreadable, NoClaims) as error:
        raise UsageInvalid(
            Problem("account", f"cannot use {path} as the token of an account: {error}")
        ) from None
    if found["nats"].get("type") != "account" or not is_public_key(KeyKind.ACCOUNT, found["sub"]):
        raise UsageInvalid(Problem("account", f"{path} is not the token of an account"))
    return found


def _target(store: Store) -> Target:
    if store.target is None:
        raise ValueError("a store is a file or a target")
    return store.target
