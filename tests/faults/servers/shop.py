"""The app that three servers run: the handlers of `ledger` and the service of `named`, which write down what they do.

Loaded by nodes as `tests.faults.servers.shop:app`, from the top of the source tree. While a file $CALLBOARD_TEST_LEDGER.unfenced
exists, workers that commit to a database do so without fencing, and hear nothing of what they lost: a build to be caught.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from callboard import Context
from callboard.jobs import engine as seam
from callboard.jobs.engines.sql import engine
from callboard.testing import broken
from tests.faults import ledger, named

app = ledger.app
app.service("billing", active="one")(named.Billing)


@app.job(runs_in="thread")
def doze(ctx: Context, gate: str) -> int:
    """Under its first claim it sleeps, deaf to everything; under a later one it runs until the file `gate` exists."""
    with ledger.noted(ctx) as fence:
        time.sleep(DOZE_SECONDS)
        while fence > 1 and not os.path.exists(gate):
            time.sleep(ledger.POLL_SECONDS)
    return fence


DOZE_SECONDS = 4.0
UNFENCED = f"{ledger.LEDGER}.unfenced"
apply = engine.SqlEngine.apply


class Plain:
    """The engine as it is, inside of what breaks it."""

    def __init__(self, of: engine.SqlEngine) -> None:
        self._of = of

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        return apply(self._of, units)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


def careless(self: engine.SqlEngine, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
    """Apply as ever, or as an engine would that does not look at fences."""
    if not os.path.exists(UNFENCED):
        return apply(self, units)
    plain: Any = Plain(self)
    deaf: Any = broken.DeafRenewal(plain)
    return broken.UnfencedSettle(deaf).apply(units)


engine.SqlEngine.apply = careless  # type: ignore[method-assign]
