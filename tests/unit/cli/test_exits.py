"""Exit codes: one table, complete."""

from __future__ import annotations

import pytest

from callboard import errors
from callboard.cli import exits
from callboard.cli.exits import Exit


def every_error(root: type[errors.CallboardError] = errors.CallboardError) -> list[type[errors.CallboardError]]:
    return [
        root,
        *(each for below in root.__subclasses__() if below.__module__ == errors.__name__ for each in every_error(below)),
    ]


def test_every_exit_code_says_what_it_means():
    assert exits.MEANINGS.keys() == set(Exit)


def test_every_listed_code_is_an_errors_code():
    assert exits.OF_CODES.keys() <= {error.code for error in every_error()}


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.code)
def test_every_error_but_the_root_and_a_failed_job_has_a_code_of_its_own(error):
    of_a_service = (errors.CallError, errors.ServiceError, errors.InvalidResult, errors.AnsweredTwice)
    plain = error in (errors.CallboardError, errors.JobFailed, *of_a_service)
    assert (exits.of(error("x")) is Exit.FAILED) == plain


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidName, Exit.INVALID),
        (errors.TooLarge, Exit.INVALID),
        (errors.JobNotFound, Exit.NOT_FOUND),
        (errors.StateRefused, Exit.REFUSED),
        (errors.Forbidden, Exit.REFUSED),
        (errors.Unreachable, Exit.UNAVAILABLE),
        (errors.NotRunning, Exit.UNAVAILABLE),
        (errors.StoreFull, Exit.UNAVAILABLE),
        (errors.StoreCorrupt, Exit.STARTUP),
        (errors.PortInUse, Exit.STARTUP),
        (errors.WaitTimeout, Exit.UNFINISHED),
    ],
)
def test_errors_lead_to_codes(error, code):
    assert exits.of(error("x")) is code


def test_an_error_not_listed_has_the_code_of_the_one_above_it():
    class Narrow(errors.PortInUse):
        code = "narrow"

    assert exits.of(Narrow("x")) is Exit.STARTUP
