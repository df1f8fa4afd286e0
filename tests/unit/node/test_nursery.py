"""Which nodes should run."""

import pytest

from callboard import errors, settings
from callboard.node import nursery, report


@pytest.mark.parametrize(
    ("flags", "registry", "controller", "service", "worker", "gateway"),
    [
        ({}, 0, 0, 0, 2, 1),
        ({"app": "shop:app"}, 0, 0, 2, 2, 1),
        ({"controller.count": 2}, 0, 2, 0, 2, 1),
        ({"controller.site_count": 2}, 0, 0, 0, 2, 1),
        ({"app": "shop:app", "service.count": 0, "registry.count": 3, "worker.count": 0, "gateway.count": 2}, 3, 0, 0, 0, 2),
    ],
)
def test_without_an_app_nobody_serves_and_all_else_is_as_it_is_set(flags, registry, controller, service, worker, gateway):
    given = settings.load(flags=flags)
    wanted = {"registry": registry, "domain-controller": controller, "service": service, "worker": worker, "gateway": gateway}
    assert nursery.wanted(given) == {**wanted, "site-controller": given.controller.site_count}


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (report.Report(errors.StoreUnavailable.code, "the server is away"), nursery.AWAY_DELAY_SECONDS),
        (report.Report(errors.AppNotFound.code, "no such module"), 20),
        (report.Report(), 20),
        (None, 20),
    ],
)
def test_who_lacked_what_is_away_for_a_while_is_soon_tried_again(said, seconds):
    assert nursery.delay_after(said, 20) == seconds
    assert nursery.delay_after(said, 0.1) == 0.1
