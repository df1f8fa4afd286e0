"""Delays grow, are bounded and spread, and begin again after a success."""

import pytest

from callboard.kit import backoff


def test_delays_double_up_to_the_most():
    delays = backoff.Backoff(1.0, 10.0, chance=lambda: 0.5)
    assert [delays.failed() for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_success_begins_again():
    delays = backoff.Backoff(1.0, 10.0, chance=lambda: 0.5)
    delays.failed()
    delays.failed()
    delays.succeeded()
    assert delays.failed() == 1.0


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.75), (1.0, 1.25)])
def test_chance_spreads_by_a_quarter(chance, factor):
    assert backoff.Backoff(8.0, 100.0, chance=lambda: chance).failed() == 8.0 * factor


def test_many_failures_do_not_overflow():
    delays = backoff.Backoff(0.1, 30.0, chance=lambda: 0.5)
    assert [delays.failed() for _ in range(5000)][-1] == 30.0
