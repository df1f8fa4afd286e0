import pytest

from callboard import errors
from callboard.names import retries


@pytest.mark.parametrize(
    "error",
    [
        errors.NotActive("", ran="no"),
        errors.WrongEpoch("", ran="no"),
        errors.LeaseUnconfirmed("", ran="no"),
        errors.Overloaded("", ran="no"),
        errors.ConnectionLost("", ran="no"),
        errors.UnknownName("", ran="no"),
        errors.DomainNotServed("", ran="no"),
        errors.Unreachable(""),
        errors.WrongNode(""),
        errors.WrongSecret(""),
    ],
)
def test_what_surely_did_not_begin_is_asked_again(error):
    assert retries.again(error, idempotent=False)


@pytest.mark.parametrize("ran", ["yes", "unknown"])
@pytest.mark.parametrize("kind", [errors.ConnectionLost, errors.WrongEpoch, errors.LeaseUnconfirmed, errors.NotActive])
def test_what_broke_halfway_is_asked_again_only_where_that_does_no_harm(kind, ran):
    assert retries.again(kind("", ran=ran), idempotent=True)
    assert not retries.again(kind("", ran=ran), idempotent=False)


@pytest.mark.parametrize(
    "error",
    [
        errors.ServiceError("", ran="yes"),
        errors.UnknownMethod("", ran="no"),
        errors.InvalidArguments("", ran="no"),
        errors.TooLarge("", ran="no"),
        errors.InvalidResult("", ran="yes"),
        errors.AnsweredTwice("", ran="yes"),
        errors.DeadlineExceeded("", ran="unknown"),
        errors.Unreachable("", ran="yes"),
        errors.UnknownName("", ran="yes"),
        errors.Overloaded("", ran="yes"),
    ],
)
def test_what_is_said_for_good_is_not_asked_again(error):
    assert not retries.again(error, idempotent=True)


def test_only_where_nobody_answered_is_somebody_absent():
    assert retries.absent(errors.Unreachable(""))
    assert retries.absent(errors.WrongNode("", ran="no"))
    assert not retries.absent(errors.Unreachable("", ran="yes"))
    assert not retries.absent(errors.NotActive("", ran="no"))
