"""Hints inside one process."""

from __future__ import annotations

from callboard.jobs import hints

READY = hints.Hint(ready=(("main", "default"),))


def test_every_listener_gets_what_is_published() -> None:
    carrier = hints.LocalHints()
    first: list[hints.Hint] = []
    second: list[hints.Hint] = []
    stop = carrier.listen(first.append)
    carrier.listen(second.append)
    carrier.publish(READY)
    stop()
    carrier.publish(hints.Hint(finished=(b"x",)))
    assert first == [READY]
    assert second == [READY, hints.Hint(finished=(b"x",))]


def test_a_listener_may_stop_while_it_is_called() -> None:
    carrier = hints.LocalHints()
    heard: list[hints.Hint] = []

    def once(hint: hints.Hint) -> None:
        heard.append(hint)
        stop()

    stop = carrier.listen(once)
    carrier.listen(heard.append)
    carrier.publish(READY)
    carrier.publish(READY)
    assert heard == [READY] * 3


def test_somebody_waits_until_all_took_it_back() -> None:
    carrier = hints.LocalHints()
    assert not carrier.awaited
    first, second = carrier.await_finished(), carrier.await_finished()
    first()
    first()
    assert carrier.awaited
    second()
    assert not carrier.awaited
