"""What is known of the errors that JetStream answers with: when asking again can help, and what to do where it cannot."""

from __future__ import annotations

import pytest

from cyborg_infra.live.faults import ADVICE, ApiError, Retry

PASSES = {10007, 10008, 10009, 10023, 10118, 10119, 10158, 10163, 10167}
IN_PROGRESS = {10123, 10124, 10202, 10226}
LASTS = {
    *(
        10002,
        10005,
        10012,
        10013,
        10014,
        10017,
        10025,
        10026,
        10027,
        10028,
        10031,
        10034,
        10039,
        10047,
        10049,
    ),
    *(
        10052,
        10055,
        10056,
        10058,
        10059,
        10062,
        10065,
        10069,
        10074,
        10076,
        10084,
        10086,
        10098,
        10099,
        10100,
    ),
    *(
        10101,
        10113,
        10116,
        10120,
        10121,
        10122,
        10126,
        10127,
        10128,
        10130,
        10133,
        10134,
        10136,
        10137,
        10138,
    ),
    *(10139, 10143, 10148, 10149, 10157, 10185, 10194, 10195, 10204, 10227),
}
"""Every err_code that a provisioner meets, measured on nats-server 2.10 to 2.15, by what helps."""


def refused(err_code: int, description: str = "refused") -> ApiError:
    return ApiError("updating S", code=500, err_code=err_code, description=description)


@pytest.mark.parametrize(
    ("codes", "retry"), [(PASSES, Retry.RETRY), (IN_PROGRESS, Retry.WAIT), (LASTS, Retry.NONE)]
)
def test_each_error_is_tried_again_exactly_where_that_can_help(codes: set[int], retry: Retry) -> None:
    assert {code for code in codes if refused(code).retry is not retry} == set()


def test_each_error_comes_with_what_to_do() -> None:
    assert (PASSES | IN_PROGRESS | LASTS) - ADVICE.keys() == set()


def test_an_error_that_nobody_knows_is_not_tried_again_and_can_be_looked_up() -> None:
    fault = refused(19999, "something new")
    assert (fault.retry, fault.problems[0].hint) == (Retry.NONE, "nats errors lookup 19999")


@pytest.mark.parametrize("err_code", [10012, 10069, 10077, 10104])
def test_a_failed_write_is_known_by_its_text_whatever_its_number(err_code: int) -> None:
    fault = refused(err_code, "write /store/S/meta.inf.tmp: no space left on device")
    assert fault.unwritten
    assert "make room there" in (fault.problems[0].hint or "")
    assert not refused(err_code, "deliver policy can not be updated").unwritten


@pytest.mark.parametrize(("why", "retry"), [("peer offline", Retry.RETRY), ("tags not matched", Retry.NONE)])
def test_a_server_that_is_back_and_not_heard_of_yet_is_waited_for(why: str, retry: Retry) -> None:
    """What does not fit never will."""
    assert refused(10005, f"no suitable peers for placement, {why}").retry is retry
