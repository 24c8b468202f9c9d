"""Find the name of the cluster whose JetStream answers; behind a domain or a leaf node it is not the one that we are connected to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyborg_infra.live.api.errors import ApiError
from cyborg_infra.live.api.paging import RequestApi, Rows
from cyborg_infra.live.connection.errors import PermissionDenied
from cyborg_infra.live.connection.replies import ServerIdentity
from cyborg_infra.model.buckets import LEASE_BUCKET, bucket_stream
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.server import UNNAMED_CLUSTER

_NOWHERE = "cyborg-infra-nowhere"
"""A stream that nobody has."""


def certain_cluster_name(witness: ServerIdentity, domain: str) -> str | None:
    """Return the name of the cluster that answers for this domain, empty for a single server; None if the witness cannot know.

    Not if JetStream is elsewhere, behind a leaf node. And a server that is a leaf node itself announces its own name as
    its cluster, alone as it is (2.10.26 to 2.15.1).
    """
    elsewhere = not witness.jetstream or witness.domain != domain
    if elsewhere or (witness.cluster and witness.cluster == witness.server):
        return None
    return witness.cluster


async def cluster_name_of_streams(witness: ServerIdentity, domain: str, rows: Rows, ask: RequestApi) -> str:
    """Return the name of the cluster as these streams of the account tell it; if they cannot, as JetStream's answers do.

    Of a stream a single server names no cluster. And it says that a stream whose consumers are listed does not exist,
    where a cluster lists none (2.10.26 to 2.15.1).
    """
    names = {name: cluster["name"] for name, row in rows.items() if (cluster := row.get("cluster"))}
    if not (names or (not rows and await _lists_what_is_not_there(ask))):
        return ""
    at_home = witness.jetstream and witness.domain == domain
    if witness.cluster in names.values() or (at_home and not names):
        return witness.cluster
    # Streams may be spread over clusters; our own bucket is where this connection puts what says nothing of it.
    lease = names.get(bucket_stream(LEASE_BUCKET))
    only = {*names.values()}
    return lease or (only.pop() if len(only) == 1 else UNNAMED_CLUSTER)


async def _lists_what_is_not_there(ask: RequestApi) -> bool:
    try:
        await ask(f"CONSUMER.LIST.{_NOWHERE}", {"offset": 0}, doing="asking whether this is a cluster")
    except ApiError as error:
        if error.err_code == ErrorCode.JSStreamNotFoundErr:
            return False
        raise
    except PermissionDenied:
        pass  # then it is not known: a cluster refuses nothing beforehand
    return True


def streams_of_page(page: Mapping[str, Any]) -> Rows:
    """Return the streams of one page of a listing."""
    return {row["config"]["name"]: row for row in page.get("streams") or ()}
