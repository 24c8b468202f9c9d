"""A declarative provisioner for the messaging backbone of an organisation of AI agents on NATS JetStream.

    org = cyborg_infra.load("org.yaml")
    async with cyborg_infra.connect("nats://localhost:4222") as account:
        plan = await account.plan(org)
        print(plan)
        outcomes = await account.apply(plan, allow={"deletes-messages"})

Where no event loop runs, `plan`, `apply` and `status` take a target and connect by themselves. What a user has to read is
raised as a `CyborgError`: its subclasses are here as well.

The names in `__all__` are the library. Everything else may change with any version. See docs/how-to/library.md in the
repository.
"""

from __future__ import annotations

# To type checkers it is true; `typing` itself costs a command line 3 ms before it hears Ctrl-C.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from cyborg_infra.live.connection.target import Flags, Target, resolve
    from cyborg_infra.live.records.lease import LeaseHeld, LeaseLost
    from cyborg_infra.manifest.load import load, loads
    from cyborg_infra.model.changes import (
        Action,
        Adopt,
        Blocked,
        Change,
        Create,
        Delete,
        Hazard,
        HazardName,
        Replace,
        Update,
    )
    from cyborg_infra.model.organisation import Org
    from cyborg_infra.model.plan import Outcome, Plan, ResultStatus
    from cyborg_infra.model.problems import (
        ConnectFailed,
        CyborgError,
        ManifestInvalid,
        PlanRefused,
        PlanStale,
        Problem,
        ServerFault,
        SnapshotIncomplete,
        UsageInvalid,
    )
    from cyborg_infra.model.status import OrgStatus
    from cyborg_infra.operations.account import Account, apply, connect, plan, status

__version__ = "0.1.0"

__all__ = [
    "Account",
    "Action",
    "Adopt",
    "Blocked",
    "Change",
    "ConnectFailed",
    "Create",
    "CyborgError",
    "Delete",
    "Flags",
    "Hazard",
    "HazardName",
    "LeaseHeld",
    "LeaseLost",
    "ManifestInvalid",
    "Org",
    "OrgStatus",
    "Outcome",
    "Plan",
    "PlanRefused",
    "PlanStale",
    "Problem",
    "Replace",
    "ResultStatus",
    "ServerFault",
    "SnapshotIncomplete",
    "Target",
    "Update",
    "UsageInvalid",
    "__version__",
    "apply",
    "connect",
    "load",
    "loads",
    "plan",
    "resolve",
    "status",
]

_NAMES_OF = {
    "live.connection.target": ("Flags", "Target", "resolve"),
    "live.records.lease": ("LeaseHeld", "LeaseLost"),
    "manifest.load": ("load", "loads"),
    "model.organisation": ("Org",),
    "model.changes": (
        *("Action", "Adopt", "Blocked", "Change", "Create", "Delete", "Hazard", "HazardName"),
        *("Replace", "Update"),
    ),
    "model.plan": ("Outcome", "Plan", "ResultStatus"),
    "model.problems": (
        *("ConnectFailed", "CyborgError", "ManifestInvalid", "PlanRefused", "PlanStale", "Problem"),
        *("ServerFault", "SnapshotIncomplete", "UsageInvalid"),
    ),
    "model.status": ("OrgStatus",),
    "operations.account": ("Account", "apply", "connect", "plan", "status"),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}


if not TYPE_CHECKING:  # a type checker knows the names from above, and refuses all others

    def __getattr__(name: str) -> object:
        """Import what is asked for only then: a command line does not wait for the library."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
