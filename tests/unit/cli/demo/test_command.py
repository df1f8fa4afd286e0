"""How a signal ends the demo's story."""

from __future__ import annotations

import asyncio
import signal

import pytest

from callboard.cli.demo import command


@pytest.fixture
def termination():
    before = signal.signal(signal.SIGTERM, command._interrupted)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_signal_that_finds_another_task_at_work_ends_the_story_alone(termination):
    complaints, tidied = [], []

    async def other():
        signal.raise_signal(signal.SIGTERM)

    async def story():
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        task = asyncio.create_task(other())
        try:
            await asyncio.Event().wait()
        finally:
            tidied.append(task.done() and task.exception() is None)

    with pytest.raises(KeyboardInterrupt):
        command._run(story())
    assert (complaints, tidied) == ([], [True])
    assert signal.getsignal(signal.SIGTERM) is command._interrupted
