from __future__ import annotations

import pytest

from callboard import ensembles, errors
from callboard.ensembles import client, fitness


@pytest.mark.parametrize(
    ("number", "level"),
    [
        ((3, 5, 9), "unfit"),
        ((3, 6, 0), "warning"),
        ((3, 8, 3), "warning"),
        ((3, 8, 4), "fit"),
        ((3, 9, 1), "warning"),
        ((3, 9, 2), "fit"),
        ((3, 9, 3), "warning"),
        ((3, 9, 4), "fit"),
        ((3, 10, 0), "fit"),
        ((4, 0, 0), "fit"),
    ],
)
def test_versions(number, level):
    assert fitness.judged(number)[0] == level


def test_what_is_near():
    near = [fitness._near(name) for name in ("localhost", "127.0.0.1", "::1", "zk1", "10.0.0.1")]
    assert near == [True, True, True, False, False]


def test_a_url_that_says_nothing():
    with pytest.raises(errors.InvalidSetting, match="no option"):
        ensembles.check("zookeeper://h?backlog=3")


@pytest.mark.parametrize(("cuts", "level"), [(0, "fit"), (1, "fit"), (1000, "unfit")])
def test_one_cut_does_not_make_requests_too_large(cuts, level):
    class Asked:
        def commit(self, steps):
            nonlocal cuts
            cuts -= 1
            if cuts >= 0:
                raise client.Interrupted("cut")

    ((found, _, _),) = fitness._size(Asked(), "/callboard")
    assert found == level
