"""Clocks: never falling, shared by processes, moved by hand in tests."""

from __future__ import annotations

import threading
import time

import pytest

from callboard.kit import clock


class SteppedClock(clock.SystemClock):
    """A system clock whose CLOCK_BOOTTIME is told."""

    def __init__(self, boot: int) -> None:
        self.told = boot
        super().__init__()

    def boot(self) -> int:
        return self.told


def test_now_is_the_time_of_the_day() -> None:
    before = time.time_ns() // 1000
    now = clock.SystemClock().now()
    assert before - 1000 <= now <= time.time_ns() // 1000 + 1000


def test_boot_goes_on_while_the_machine_sleeps() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert before <= clock.SystemClock().boot() <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_now_never_falls_in_any_thread() -> None:
    system = clock.SystemClock()
    falls: list[int] = []

    def look() -> None:
        last = 0
        for _ in range(20_000):
            now = system.now()
            if now < last:
                falls.append(last - now)
            last = now

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert falls == []


def test_a_clock_set_back_goes_on_at_the_pace_of_boottime(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = 1_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: wall)
    stepped = SteppedClock(500)
    first = stepped.now()
    wall, stepped.told = 0, 500 + 3_000_000
    assert stepped.now() == first + 3_000
    wall, stepped.told = 9_000_000_000, 500 + 4_000_000
    assert stepped.now() == 9_000_000


def test_a_freeze_between_two_readings_does_not_run_ahead_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    passed, freeze = 0, 60_000_000_000

    class Freezing(clock.SystemClock):
        """Its process stands still for a minute after each reading of CLOCK_BOOTTIME."""

        def boot(self) -> int:
            nonlocal passed
            passed += freeze
            return passed - freeze

    monkeypatch.setattr(time, "time_ns", lambda: passed)
    freezing = Freezing()
    freezing.now()
    freeze = 0
    assert freezing.now() == passed // 1000


def test_a_manual_clock_moves_when_told() -> None:
    manual = clock.ManualClock(5)
    manual.advance(1.5)
    assert (manual.now(), manual.boot()) == (1_500_005, 1_500_005_000)
    with pytest.raises(ValueError, match="fall"):
        manual.advance(-1)
