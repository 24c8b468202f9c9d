"""Errors of the JetStream API: what the server answers with, whether asking again can help, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from cyborg_infra.live.connection.errors import NoReply, Unanswered
from cyborg_infra.model.error_codes import ErrorCode
from cyborg_infra.model.problems import Problem, ServerFault
from cyborg_infra.model.valueclass import NamedTuple
from cyborg_infra.model.wording import Command, worded

WRONG_LAST_SEQUENCE = (
    ErrorCode.JSStreamWrongLastSequenceErrF,
    ErrorCode.JSStreamWrongLastSequenceConstantErr,
)
"""Somebody else has written since, or is writing: what was to be stored behind a message is not stored."""

NOBODY_HOLDS = "no server answers for it: most of its copies are on servers that are down, or it gets a new leader within seconds"


class NoHolder(NoReply):
    """No server that holds a stream or consumer has answered for as long as a cluster needs to elect another one."""

    def __init__(self, fault: NoReply, held: str) -> None:
        self.subject = fault.subject
        ServerFault.__init__(
            self,
            Problem(
                "missing",
                f"{held} could not be read: {NOBODY_HOLDS}",
                None,
                worded("bring its servers back: {} tells more", Command("plan")),
            ),
        )


class NotReached(ServerFault):
    """JetStream answers, behind an API prefix or in a domain, and what is published here does not get to its streams."""

    def __init__(self, subject: str, prefix: str) -> None:
        self.subject = subject
        super().__init__(
            Problem(
                "not-reached",
                f"no stream takes what is published on {subject}: the JetStream behind {prefix} answers requests, but this subject does not lead there",
                hint=f'let it through: in the account that has JetStream exports: [{{service: "{_wide(subject)}"}}], and in this one '
                f'imports: [{{service: {{account: ..., subject: "{_wide(subject)}"}}}}]; over a leaf node, do not deny it',
            )
        )


def _wide(subject: str) -> str:
    """Return the pattern to allow for this subject: all keys of its bucket, all fenced streams, or the subject alone."""
    first, *rest = subject.split(".")
    return f"{first}.{rest[0]}.>" if first == "$KV" else f"{first}.*" if first == "_parked" else subject


class NoLeader(Unanswered):
    """The answer came from a server that does not lead the stream or consumer: what it says may be old (measured 2.15.1)."""

    def __init__(self, doing: str) -> None:
        super().__init__(
            Problem(
                "no-leader",
                f"{doing}: it has no leader at the moment",
                None,
                "more than half of the servers that hold it have to be up",
            )
        )


class NotStored(ServerFault):
    """A stream with replicas refused a message, and takes its id for that of one it has (2.10.26: `seq` 0, `duplicate`)."""

    def __init__(self, doing: str) -> None:
        super().__init__(
            Problem(
                "not-stored",
                f"{doing}: the server refused it a moment ago, remembers its id, and says that it has it, which it has not",
                None,
                "try again after the stream's duplicate_window (2m by default)",
            )
        )


class Retry(Enum):
    """Whether asking again can help."""

    NEVER = "asking again gives the same answer"
    AFTER_REREAD = "soon, after reading what holds now"
    AFTER_OPERATION = "when what is in progress has ended"


class ErrorHelp(NamedTuple):
    """What to do about an err_code, and whether asking again can help."""

    text: str
    retry: Retry = Retry.NEVER


_STORE = ErrorHelp(
    "the server could not write to its disk: make room there and apply again; a stream that could not store a message "
    "stores none until the server is restarted (since 2.14)"
)

_DISK_FAILURE = (
    "no space left on device|file too large|disk quota exceeded|input/output error|read-only file system"
    "|creating store for consumer"
)
"""What the server says of a failed write, under whatever err_code it came up (10012, 10069, 10077, 10104)."""

_HA_LIMIT = ErrorHelp(
    "a server has as many replicated streams and consumers as max_ha_assets allows: raise it, or use fewer replicas"
)

_PEERS = "some servers of the cluster are down or have just started"

_CHANGING = "the cluster is still carrying out an earlier change of this stream"

ERROR_HELP: Mapping[int, ErrorHelp] = {
    ErrorCode.JSAccountResourcesExceededErr: ErrorHelp("the account has no resources left; raise its limits"),
    ErrorCode.JSClusterNoPeersErrF: ErrorHelp(
        "no server fits: check replicas, placement tags, free storage and max_ha_assets, and that no server is down"
    ),
    ErrorCode.JSClusterNotAssignedErr: ErrorHelp(_PEERS, Retry.AFTER_REREAD),
    ErrorCode.JSClusterNotAvailErr: ErrorHelp("the cluster has no leader at the moment", Retry.AFTER_REREAD),
    ErrorCode.JSClusterNotLeaderErr: ErrorHelp(_PEERS, Retry.AFTER_REREAD),
    ErrorCode.JSConsumerCreateErrF: ErrorHelp(
        "the server changes this field of a consumer only by deleting and creating it"
    ),
    ErrorCode.JSConsumerNameExistErr: ErrorHelp(
        "another consumer uses this name or deliver_subject; give it one of its own"
    ),
    ErrorCode.JSConsumerNotFoundErr: ErrorHelp("the consumer is gone; plan again"),
    ErrorCode.JSConsumerDurableNameNotMatchSubjectErr: ErrorHelp(
        "the name in the request and in the configuration differ: this is a bug, please report it"
    ),
    ErrorCode.JSInsufficientResourcesErr: ErrorHelp(
        f"{_PEERS}, or have as many replicated streams and consumers as max_ha_assets allows",
        Retry.AFTER_REREAD,
    ),
    ErrorCode.JSConsumerMaxRequestBatchExceededF: ErrorHelp(
        "max_batch is more than the server allows (max_request_batch)"
    ),
    ErrorCode.JSInvalidJSONErr: ErrorHelp(
        "the server does not know a field or its form; is it older than the manifest expects?"
    ),
    ErrorCode.JSMaximumConsumersLimitErr: ErrorHelp(
        "the account or the stream may have no more consumers; delete some or raise the limit"
    ),
    ErrorCode.JSMaximumStreamsLimitErr: ErrorHelp(
        "the account may have no more streams; delete some or raise the limit"
    ),
    ErrorCode.JSMemoryResourcesExceededErr: ErrorHelp(
        "the server or account has too little memory for this max_bytes"
    ),
    ErrorCode.JSMirrorWithSourcesErr: ErrorHelp(
        "a mirror stores no subjects of its own; remove sources or mirror"
    ),
    ErrorCode.JSMirrorWithSubjectsErr: ErrorHelp(
        "a mirror stores no subjects of its own; remove subjects or mirror"
    ),
    ErrorCode.JSNotEnabledForAccountErr: ErrorHelp(
        "enable JetStream for this account, or use credentials of another one"
    ),
    ErrorCode.JSStorageResourcesExceededErr: ErrorHelp(
        "the server or account has too little storage for this max_bytes"
    ),
    ErrorCode.JSStreamCreateErrF: _STORE,
    ErrorCode.JSStreamInvalidConfigF: ErrorHelp(
        "the server refuses this stream configuration; its text names the field"
    ),
    ErrorCode.JSStreamMirrorNotUpdatableErr: ErrorHelp("a mirror can be removed (since 2.12), not changed"),
    ErrorCode.JSStreamMismatchErr: ErrorHelp(
        "the name in the request and in the configuration differ: this is a bug, please report it"
    ),
    ErrorCode.JSStreamNameExistErr: ErrorHelp(
        "a stream of this name exists with another configuration; plan again"
    ),
    ErrorCode.JSStreamNotFoundErr: ErrorHelp("the stream is gone; plan again"),
    ErrorCode.JSStreamRestoreErrF: ErrorHelp("the backup cannot be restored"),
    ErrorCode.JSStreamSubjectOverlapErr: ErrorHelp(
        "another stream stores some of these subjects; a subject belongs to one stream"
    ),
    ErrorCode.JSStreamUpdateErrF: ErrorHelp("the stream's limits exclude consumers that it has"),
    ErrorCode.JSStreamWrongLastSequenceErrF: ErrorHelp("somebody else wrote at the same time; read again"),
    ErrorCode.JSStreamReplicasNotSupportedErr: ErrorHelp("more than 1 replica needs a cluster"),
    ErrorCode.JSNotEnabledErr: ErrorHelp("JetStream is not enabled on this server"),
    ErrorCode.JSStreamStoreFailedF: ErrorHelp(
        "the stream is full and takes nothing new (discard new): publish again when a message is acknowledged,"
        " or see whether dead letters keep their places in it"
    ),
    ErrorCode.JSConsumerPullRequiresAckErr: ErrorHelp("a workqueue needs ack_policy explicit"),
    ErrorCode.JSConsumerPullWithRateLimitErr: ErrorHelp("only a push consumer has rate_limit_bps"),
    ErrorCode.JSConsumerWQRequiresExplicitAckErr: ErrorHelp("a workqueue needs ack_policy explicit"),
    ErrorCode.JSConsumerWQMultipleUnfilteredErr: ErrorHelp(
        "on a workqueue only one consumer may have no filter"
    ),
    ErrorCode.JSConsumerWQConsumerNotUniqueErr: ErrorHelp(
        "on a workqueue the filters of two consumers must not overlap"
    ),
    ErrorCode.JSConsumerWQConsumerNotDeliverAllErr: ErrorHelp("a workqueue needs deliver_policy all"),
    ErrorCode.JSStreamMaxBytesRequired: ErrorHelp("this account needs max_bytes on every stream"),
    ErrorCode.JSConsumerMaxDeliverBackoffErr: ErrorHelp(
        "max_deliver must be larger than the number of backoff steps"
    ),
    ErrorCode.JSStreamOfflineErr: ErrorHelp(_PEERS, Retry.AFTER_REREAD),
    ErrorCode.JSConsumerOfflineErr: ErrorHelp(_PEERS, Retry.AFTER_REREAD),
    ErrorCode.JSNoLimitsErr: ErrorHelp("the account has no limits for this number of replicas"),
    ErrorCode.JSConsumerMaxPendingAckExcessErrF: ErrorHelp(
        "max_ack_pending is more than the account, the server or the stream's consumer_limits allow"
    ),
    ErrorCode.JSStreamMaxStreamBytesExceeded: ErrorHelp(
        "max_bytes is more than the account allows for one stream"
    ),
    ErrorCode.JSStreamMoveAndScaleErr: ErrorHelp(
        _CHANGING, Retry.AFTER_OPERATION
    ),  # or both at once, which we never send
    ErrorCode.JSStreamMoveInProgressErr: ErrorHelp(_CHANGING, Retry.AFTER_OPERATION),
    ErrorCode.JSConsumerReplicasExceedsStream: ErrorHelp(
        "a consumer cannot have more replicas than its stream"
    ),
    ErrorCode.JSConsumerNameContainsPathSeparatorsErr: ErrorHelp("a consumer's name has no / and no \\"),
    ErrorCode.JSStreamNameContainsPathSeparatorsErr: ErrorHelp("a stream's name has no / and no \\"),
    ErrorCode.JSStreamNameExistRestoreFailedErr: ErrorHelp("a stream of this name exists"),
    ErrorCode.JSReplicasCountCannotBeNegative: ErrorHelp("num_replicas cannot be negative"),
    ErrorCode.JSConsumerReplicasShouldMatchStream: ErrorHelp(
        "on an interest or workqueue stream a consumer has as many replicas as its stream"
    ),
    ErrorCode.JSConsumerDuplicateFilterSubjects: ErrorHelp("give either filter_subject or filter_subjects"),
    ErrorCode.JSConsumerMultipleFiltersNotAllowed: ErrorHelp(
        "a consumer with several filters has none in the request: this is a bug, please report it"
    ),
    ErrorCode.JSConsumerOverlappingSubjectFilters: ErrorHelp("two of the consumer's filters overlap"),
    ErrorCode.JSConsumerEmptyFilter: ErrorHelp("one of the consumer's filters is empty"),
    ErrorCode.JSMirrorWithFirstSeqErr: ErrorHelp(
        "a mirror has the sequence numbers of its origin; remove first_seq"
    ),
    ErrorCode.JSConsumerAlreadyExists: ErrorHelp(
        "a consumer of this name exists with another configuration; plan again"
    ),
    ErrorCode.JSConsumerDoesNotExist: ErrorHelp("the consumer is gone; plan again"),
    ErrorCode.JSPedanticErrF: ErrorHelp(
        "the server would change a value that was given; set it to what its text says"
    ),
    ErrorCode.JSStreamDuplicateMessageConflict: ErrorHelp(
        "the same message is being stored right now", Retry.AFTER_REREAD
    ),
    ErrorCode.JSStreamExpectedLastSeqPerSubjectNotReady: ErrorHelp(
        "the stream has just changed its leader", Retry.AFTER_REREAD
    ),
    ErrorCode.JSStreamWrongLastSequenceConstantErr: ErrorHelp(
        "somebody else wrote at the same time; read again"
    ),
    ErrorCode.JSStreamTooManyRequests: ErrorHelp(
        "the server has more requests than it can take", Retry.AFTER_REREAD
    ),
    ErrorCode.JSRequiredApiLevelErr: ErrorHelp(
        "this server version is too old for a field of the configuration"
    ),
    ErrorCode.JSStreamOfflineReasonErrF: ErrorHelp(
        "the stream was written by a newer server version, and this one cannot run it"
    ),
    ErrorCode.JSConsumerOfflineReasonErrF: ErrorHelp(
        "the consumer was written by a newer server version, and this one cannot run it"
    ),
    ErrorCode.JSClusterServerMemberChangeInflightErr: ErrorHelp(_CHANGING, Retry.AFTER_OPERATION),
    ErrorCode.JSConsumerInvalidResetErr: ErrorHelp(
        "the consumer cannot be placed there: before its own start, or it begins with new messages"
    ),
    ErrorCode.JSStreamReconfigureInProgressErr: ErrorHelp(_CHANGING, Retry.AFTER_OPERATION),
    ErrorCode.JSMessageSourceHdrNotAllowedErr: ErrorHelp("this header is the server's own"),
}
"""What a provisioner meets, by err_code; the HTTP-like `code` says too little to decide by."""


class ApiError(ServerFault):
    """JetStream answered with an error; `retry` says whether asking again can help.

    `is_disk_failure` says that the server could not write to its disk. What it tells of a stream afterwards is in its memory
    alone, and gone after a restart (measured 2.15.1).
    """

    def __init__(self, doing: str, *, code: int, err_code: int, description: str) -> None:
        self.code = code
        self.err_code = err_code
        self.description = description
        unwritten = re.search(_DISK_FAILURE, description)
        full = _HA_LIMIT if "system limit reached" in description else None
        advice = _STORE if unwritten else full or ERROR_HELP.get(err_code)
        self.is_disk_failure = advice is _STORE
        self.retry = advice.retry if advice else Retry.NEVER
        if err_code == ErrorCode.JSClusterNoPeersErrF and "offline" in description:
            # It may be back, and not heard of yet: 1.5s after its start (measured 2.15.1).
            self.retry = Retry.AFTER_REREAD
        lookup = f"nats errors lookup {err_code}"
        super().__init__(
            Problem(
                "api-error",
                f"{doing}: {description} (err_code {err_code})",
                hint=f"{advice.text}; {lookup}" if advice else lookup,
            )
        )


def raise_for_error(reply: Mapping[str, Any], doing: str) -> None:
    """Raise ApiError, saying what was being done, if the API's reply holds an error."""
    if (error := reply.get("error")) is not None:
        raise ApiError(
            doing,
            code=error.get("code", 0),
            err_code=error.get("err_code", 0),
            description=error.get("description", ""),
        )
