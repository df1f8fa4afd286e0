"""Which nodes should run."""

import pytest

from callboard import settings
from callboard.node import nursery


@pytest.mark.parametrize(
    ("flags", "registry", "service", "worker", "gateway"),
    [
        ({}, 0, 0, 2, 1),
        ({"app": "shop:app"}, 0, 2, 2, 1),
        ({"app": "shop:app", "service.count": 0, "registry.count": 3, "worker.count": 0, "gateway.count": 2}, 3, 0, 0, 2),
    ],
)
def test_without_an_app_nobody_serves_and_all_else_is_as_it_is_set(flags, registry, service, worker, gateway):
    given = settings.load(flags=flags)
    assert nursery.wanted(given) == {"registry": registry, "service": service, "worker": worker, "gateway": gateway}
