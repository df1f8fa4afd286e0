"""What the fault tests share: a deployment that leaves nothing running, and figures that are told beside their bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment, Eventually

Measured = Callable[[str, float, float], None]
"""Tell how many seconds something took, and fail over the bound. Bounds are loose: machines that run tests are busy ones."""


@pytest.fixture
async def deployment(data: Path, tmp_path: Path, eventually: Eventually) -> AsyncIterator[Deployment]:
    made = Deployment(data, tmp_path, eventually)
    try:
        yield made
    finally:
        await made.close()
        made.sweep()


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    def tell(what: str, seconds: float, bound: float) -> None:
        figure = f"{what}: {seconds:.2f} s (bound {bound:g} s)"
        record_property("figure", figure)
        print(figure)
        assert seconds < bound, figure

    return tell
