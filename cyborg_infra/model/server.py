"""What is known of a server and an account: version, limits, usage."""

from __future__ import annotations

from cyborg_infra.model.last_applied import AppliedRecord
from cyborg_infra.model.server_versions import Version
from cyborg_infra.model.valueclass import NamedTuple

UNNAMED_CLUSTER = "?"
"""The cluster of a JetStream that is reached from outside and has no stream that would tell."""


class Limits(NamedTuple):
    """What the account may have; -1 is unlimited. From `$JS.API.INFO`.

    0 is none at all of storage and memory, and unlimited of all else (2.10.26, 2.15.1).
    """

    max_streams: int = -1
    max_consumers: int = -1
    max_storage: int = -1
    max_memory: int = -1
    max_ack_pending: int = -1
    max_file_stream: int = -1  # largest max_bytes of one stream
    max_memory_stream: int = -1
    max_bytes_required: bool = False
    streams: int = 0
    consumers: int = 0
    storage: int = 0
    memory: int = 0

    def without_usage(self) -> Limits:
        """Return the limits without what is used of them."""
        return self._replace(streams=0, consumers=0, storage=0, memory=0)


class ServerInfo(NamedTuple):
    """What the server says of itself and of the account. Holds no secret."""

    version: Version  # the oldest that answers for the API: see live.api.jetstream
    level: int
    server: str = ""
    url: str = ""
    account: str = ""
    cluster: str = ""  # of the JetStream that answers; empty for a single server
    domain: str = ""
    peers: int = 0  # servers that can hold a replica, as far as we know: others may be down; 0 is unknown
    context: str = ""
    source: str = ""  # where url and context came from
    limits: Limits = Limits()
    max_payload: int = 0  # bytes that a request may have; 0 is unknown
    applied_record: AppliedRecord | None = None  # what the account remembers of the organisation
    record_error: str = ""  # as a clause, why that is not known; empty if it is


def require_server_info(server_info: ServerInfo | None) -> ServerInfo:
    """Return the server info of a snapshot, or of a plan that was made from one. Raises ValueError if there is none."""
    if server_info is None:
        raise ValueError("what was read from a server has its server info")
    return server_info
