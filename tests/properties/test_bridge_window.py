"""The arithmetic of acknowledgements, against a broker that sends as much as it may: intake stays in bounds and never stops."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from callboard.jobs import lanes, model
from callboard.roles.bridge.window import WARM_SECONDS, Windows


class Machine(RuleBasedStateMachine):
    """Subscriptions of one node; every job takes a slot or goes into the store without one."""

    @initialize(slots=some.integers(1, 5), subscriptions=some.integers(1, 3))
    def begin(self, slots: int, subscriptions: int) -> None:
        self.slots = slots
        self.now = 0.0
        self.windows: Windows[int] = Windows(slots)
        self.all = [self.windows.opened(slots) for _ in range(subscriptions)]
        self.waiting = [0] * subscriptions
        self.running = 0
        self.overflow = 0

    @property
    def limits(self) -> lanes.Limits:
        free = self.slots - self.running
        return lanes.Limits(free, free)

    @rule(which=some.integers(0, 2), number=some.integers(1, 8))
    def send(self, which: int, number: int) -> None:
        self.waiting[which % len(self.all)] += number
        self.deliver()

    def deliver(self) -> None:
        """The broker sends what it may; all of it is stored at once."""
        moved = True
        while moved:
            moved = False
            for place, window in enumerate(self.all):
                number = min(self.waiting[place], window.credit)
                if number > 0:
                    moved = True
                    self.waiting[place] -= number
                    window.arrived(number)
                    for _ in range(number):
                        window.stored.append(1)
                        if self.running < self.slots:
                            self.running += 1
                        else:
                            self.overflow += 1
                            self.windows.strand(model.Lane.SHORT, self.limits)
            self.look()

    def look(self) -> None:
        free, before = self.limits.short, self.windows.asked
        for window, taken in self.windows.due(self.limits, self.now):
            assert taken
            assert window.credit <= free
        assert self.windows.asked <= max(free, before)

    @precondition(lambda self: self.running)
    @rule()
    def end_a_job(self) -> None:
        self.running -= 1
        self.windows.left(model.Lane.SHORT)
        self.look()
        self.deliver()

    @rule()
    def wait(self) -> None:
        self.now += WARM_SECONDS
        self.windows.cool(self.now)
        self.look()
        self.deliver()

    @rule(number=some.integers(1, 3))
    def run_others(self, number: int) -> None:
        """The store's jobs take slots, too."""
        self.running = min(self.slots, self.running + number)

    @invariant()
    def nothing_is_more_than_the_prefetch(self) -> None:
        for window in getattr(self, "all", ()):
            assert 0 <= window.credit <= window.prefetch
            assert len(window.stored) <= window.unacked

    def teardown(self) -> None:
        """Whatever waits is taken in the end."""
        if not hasattr(self, "all"):
            return
        for _ in range(1000):
            if not any(self.waiting):
                return
            if self.running:
                self.end_a_job()
            self.wait()
        raise AssertionError(f"messages are stuck: {self.waiting}")


TestMachine = Machine.TestCase


@given(slots=some.integers(1, 20), messages=some.integers(1, 100))
def test_one_destination_never_outgrows_the_slots(slots: int, messages: int) -> None:
    windows: Windows[int] = Windows(slots)
    window = windows.opened(slots)
    left, running = messages, 0
    while left or running:
        number = min(left, window.credit)
        left -= number
        window.arrived(number)
        window.stored.extend(range(number))
        running += number
        assert running <= slots
        running -= bool(running)
        windows.due(lanes.Limits(slots - running, slots - running), 0)
