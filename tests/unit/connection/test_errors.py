"""What is known of the errors that JetStream answers with: when asking again can help, and what to do where it cannot."""

from __future__ import annotations

import pytest

from cyborg_infra.live.api.errors import ERROR_HELP, ApiError, Retry
from cyborg_infra.model.error_codes import ErrorCode

PASSES = {
    ErrorCode.JSClusterNotAssignedErr,
    ErrorCode.JSClusterNotAvailErr,
    ErrorCode.JSClusterNotLeaderErr,
    ErrorCode.JSInsufficientResourcesErr,
    ErrorCode.JSStreamOfflineErr,
    ErrorCode.JSConsumerOfflineErr,
    ErrorCode.JSStreamDuplicateMessageConflict,
    ErrorCode.JSStreamExpectedLastSeqPerSubjectNotReady,
    ErrorCode.JSStreamTooManyRequests,
}
IN_PROGRESS = {
    ErrorCode.JSStreamMoveAndScaleErr,
    ErrorCode.JSStreamMoveInProgressErr,
    ErrorCode.JSClusterServerMemberChangeInflightErr,
    ErrorCode.JSStreamReconfigureInProgressErr,
}
LASTS = {
    *(
        ErrorCode.JSAccountResourcesExceededErr,
        ErrorCode.JSClusterNoPeersErrF,
        ErrorCode.JSConsumerCreateErrF,
        ErrorCode.JSConsumerNameExistErr,
        ErrorCode.JSConsumerNotFoundErr,
        ErrorCode.JSConsumerDurableNameNotMatchSubjectErr,
        ErrorCode.JSInvalidJSONErr,
        ErrorCode.JSMaximumConsumersLimitErr,
        ErrorCode.JSMaximumStreamsLimitErr,
        ErrorCode.JSMemoryResourcesExceededErr,
        ErrorCode.JSMirrorWithSourcesErr,
        ErrorCode.JSMirrorWithSubjectsErr,
        ErrorCode.JSNotEnabledForAccountErr,
        ErrorCode.JSStorageResourcesExceededErr,
        ErrorCode.JSStreamCreateErrF,
    ),
    *(
        ErrorCode.JSStreamInvalidConfigF,
        ErrorCode.JSStreamMirrorNotUpdatableErr,
        ErrorCode.JSStreamMismatchErr,
        ErrorCode.JSStreamNameExistErr,
        ErrorCode.JSStreamNotFoundErr,
        ErrorCode.JSStreamRestoreErrF,
        ErrorCode.JSStreamSubjectOverlapErr,
        ErrorCode.JSStreamUpdateErrF,
        ErrorCode.JSStreamReplicasNotSupportedErr,
        ErrorCode.JSNotEnabledErr,
        ErrorCode.JSConsumerPullRequiresAckErr,
        ErrorCode.JSConsumerPullWithRateLimitErr,
        ErrorCode.JSConsumerWQRequiresExplicitAckErr,
        ErrorCode.JSConsumerWQMultipleUnfilteredErr,
        ErrorCode.JSConsumerWQConsumerNotUniqueErr,
    ),
    *(
        ErrorCode.JSConsumerWQConsumerNotDeliverAllErr,
        ErrorCode.JSStreamMaxBytesRequired,
        ErrorCode.JSConsumerMaxDeliverBackoffErr,
        ErrorCode.JSNoLimitsErr,
        ErrorCode.JSConsumerMaxPendingAckExcessErrF,
        ErrorCode.JSStreamMaxStreamBytesExceeded,
        ErrorCode.JSConsumerReplicasExceedsStream,
        ErrorCode.JSConsumerNameContainsPathSeparatorsErr,
        ErrorCode.JSStreamNameContainsPathSeparatorsErr,
        ErrorCode.JSStreamNameExistRestoreFailedErr,
        ErrorCode.JSReplicasCountCannotBeNegative,
        ErrorCode.JSConsumerReplicasShouldMatchStream,
        ErrorCode.JSConsumerDuplicateFilterSubjects,
        ErrorCode.JSConsumerMultipleFiltersNotAllowed,
        ErrorCode.JSConsumerOverlappingSubjectFilters,
    ),
    *(
        ErrorCode.JSConsumerEmptyFilter,
        ErrorCode.JSMirrorWithFirstSeqErr,
        ErrorCode.JSConsumerAlreadyExists,
        ErrorCode.JSConsumerDoesNotExist,
        ErrorCode.JSPedanticErrF,
        ErrorCode.JSRequiredApiLevelErr,
        ErrorCode.JSStreamOfflineReasonErrF,
        ErrorCode.JSConsumerOfflineReasonErrF,
        ErrorCode.JSConsumerInvalidResetErr,
        ErrorCode.JSMessageSourceHdrNotAllowedErr,
    ),
}
"""Every err_code that a provisioner meets, measured on nats-server 2.10 to 2.15, by what helps."""


def refused(err_code: int, description: str = "refused") -> ApiError:
    return ApiError("updating S", code=500, err_code=err_code, description=description)


@pytest.mark.parametrize(
    ("codes", "retry"),
    [(PASSES, Retry.AFTER_REREAD), (IN_PROGRESS, Retry.AFTER_OPERATION), (LASTS, Retry.NEVER)],
)
def test_each_error_is_tried_again_exactly_where_that_can_help(codes: set[int], retry: Retry) -> None:
    assert {code for code in codes if refused(code).retry is not retry} == set()


def test_each_error_comes_with_what_to_do() -> None:
    assert (PASSES | IN_PROGRESS | LASTS) - ERROR_HELP.keys() == set()


def test_an_error_that_nobody_knows_is_not_tried_again_and_can_be_looked_up() -> None:
    fault = refused(19999, "something new")
    assert (fault.retry, fault.problems[0].hint) == (Retry.NEVER, "nats errors lookup 19999")


@pytest.mark.parametrize(
    "err_code",
    [
        ErrorCode.JSConsumerCreateErrF,
        ErrorCode.JSStreamUpdateErrF,
        ErrorCode.JSStreamStoreFailedF,
        ErrorCode.JSConsumerStoreFailedErrF,
    ],
)
def test_a_failed_write_is_known_by_its_text_whatever_its_number(err_code: int) -> None:
    fault = refused(err_code, "write /store/S/meta.inf.tmp: no space left on device")
    assert fault.is_disk_failure
    assert "make room there" in (fault.problems[0].hint or "")
    assert not refused(err_code, "deliver policy can not be updated").is_disk_failure


@pytest.mark.parametrize(
    ("why", "retry"), [("peer offline", Retry.AFTER_REREAD), ("tags not matched", Retry.NEVER)]
)
def test_a_server_that_is_back_and_not_heard_of_yet_is_waited_for(why: str, retry: Retry) -> None:
    """What does not fit never will."""
    assert refused(ErrorCode.JSClusterNoPeersErrF, f"no suitable peers for placement, {why}").retry is retry
