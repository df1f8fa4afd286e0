"""A whole node in this process: what it says of itself to the agent. Everything is real."""

from __future__ import annotations

from pathlib import Path

import pytest

from callboard import app, settings
from callboard.jobs.engines import memory
from callboard.kit import beat, uuid7
from callboard.node import assemble, entries, layout
from tests.conftest import Eventually


async def test_one_that_is_asked_to_leave_says_so_at_once(
    tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
):
    """Or the next agent, which may start a moment later, asks it again, and that cuts its grace off."""
    monkeypatch.setattr(assemble, "FACTS_SECONDS", 60.0)
    place = layout.Layout(tmp_path)
    place.prepare()
    given = settings.load(flags={"data": str(tmp_path)})
    record = layout.NodeRecord(incarnation=uuid7.make(1).hex(), role="registry", directory="/", settings=given)
    session = place.sessions().session(layout.session_name(record.incarnation))
    entries.put(session, record, entries.made(record))
    pulse = beat.Beat.create(place.beat(record.incarnation))
    node = assemble.Node(record, session, pulse, memory.open("memory:"), app.Callboard("shop"))
    await node.start()
    try:
        assert _state(place) == "serving"
        await node.drain(1)
        await eventually(lambda: _state(place) == "draining")
    finally:
        await node.stop()


def _state(place: layout.Layout) -> str:
    (entry,) = map(layout.entry, place.sessions().entries(layout.NODES))
    assert entry is not None
    return entry.state
