"""Elections in a tiny model: whatever is late, lost, frozen, cut off, killed or deposed, no request is accepted under an epoch
after one was under a later epoch; and when faults stop, the best of the living holds the office and keeps it.

The model has a site (the ledger of the engines, sessions that expire), instances that do as `standing` does with what
`election` decides, and steps of which hypothesis makes histories. A second is the unit of time; sessions are granted six.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard import errors
from callboard.coordination import election
from callboard.coordination import engine as seam
from callboard.coordination.engines import ledger

OFFICE = "billing.main"
ACTIVE = f"{election.ACTIVE}/{OFFICE}"
GRANTED = 6
SECOND = 1_000_000_000
FOLDERS = (election.CANDIDATES, election.ACTIVE, election.DEPOSED)
STEPS = (
    *("tick", "turn", "turn", "confirmation"),  # What mostly happens, as one.
    *("read", "act", "deliver", "answer", "confirm", "confirmed"),  # The same in parts, so that others come between.
    *("lose", "freeze", "thaw", "kill", "born", "beat", "expire", "depose", "depose", "end", "back"),
)


class Site:
    def __init__(self) -> None:
        self.now = 0
        self.entries: dict[str, seam.Entry] = {}
        self.number = 0
        self.lives: dict[str, int] = {}
        self.heard: dict[str, int] = {}
        self._births = 0

    def begin(self, name):
        self._births += 1
        self.lives[name] = self._births
        self.heard[name] = self.now
        return self._births

    def end(self, name):
        self.lives.pop(name, None)
        self.entries = {path: each for path, each in self.entries.items() if each.session != name}

    def expire(self):
        for name in [name for name, heard in self.heard.items() if self.now - heard >= GRANTED]:
            self.end(name)

    def apply(self, name, life, operations):
        if self.lives.get(name) != life:
            return "gone"
        self.heard[name] = self.now
        try:
            done = ledger.apply(self.entries, operations, name, self.number)
        except errors.CoordinationConflict as error:
            return error
        self.number = done.number
        for path, entry in done.changed.items():
            if entry is None:
                del self.entries[path]
            else:
                self.entries[path] = entry
        return done.results


class Request:
    """Something under way: sent, then delivered, then answered; at each stage it may be lost."""

    def __init__(self, action, operations, sent):
        self.action, self.operations, self.sent = action, operations, sent
        self.outcome = None


class Instance:
    def __init__(self, site, order, rules):
        self.site, self.order, self.rules = site, order, rules
        self.number = order
        self.name = f"node-{order}"
        self.alive, self.frozen, self.connected = True, False, True
        self.life = site.begin(self.name)
        self.held = self.epoch = self.safe_until = self.stands_from = 0
        self.doubted = False
        self.vacancy = election.Vacancy()
        self.seen = {folder: () for folder in FOLDERS}
        self.sessions = frozenset()
        self.request = self.confirmation = None

    def accepts(self):
        return self.alive and not self.frozen and self.epoch > 0 and (self.site.now < self.safe_until or "safe" in self.rules)

    def read(self, folder=None):
        for each in FOLDERS if folder is None else (folder,):
            self.seen[each] = tuple(entry for path, entry in self.site.entries.items() if path.startswith(f"{each}/"))
        self.sessions = frozenset(self.site.lives)

    def leave(self):
        self.epoch = self.held = 0
        self.doubted = False

    def act(self):
        if self.request is not None or not self.connected:
            return
        if self.doubted:
            self.leave()
        seen = election.view(OFFICE, self.seen[FOLDERS[0]], self.seen[FOLDERS[1]], self.seen[FOLDERS[2]], self.sessions)
        now = self.site.now * SECOND
        self.vacancy = election.look(self.vacancy, seen, now)
        if "mark" in self.rules:
            seen = election.View(seen.candidates, seen.active, seen.mark, frozenset())
        bid = election.Bid(str(self.number), self.order, self.name, float(GRANTED))
        me = election.Me(OFFICE, bid, self.name.encode(), True, self.held, self.stands_from)
        action = election.decide(seen, me, self.vacancy, now)
        if isinstance(action, election.Lost | election.HandOver) and "stop" not in self.rules:
            self.leave()
        if not isinstance(action, election.Lost | election.Wait):
            self.request = Request(action, action.operations, self.site.now)

    def confirm(self):
        if self.confirmation is None and self.epoch:
            self.confirmation = Request(self.epoch, [seam.Check(ACTIVE, self.epoch)], self.site.now)

    def deliver(self, request):
        if request is not None and request.outcome is None:
            request.outcome = self.site.apply(self.name, self.life, request.operations)

    def answer(self, request):
        """What an answer makes of it; the caller has taken the request out of the way."""
        self.connected = True
        if request.outcome == "gone":
            self.lost()
        elif isinstance(request.outcome, errors.CoordinationConflict):
            if request is not self.confirmation:
                self.read()
            elif request.action == self.held:
                self.epoch, self.doubted = 0, True
        elif request.action == self.epoch:
            self.safe_until = max(self.safe_until, request.sent + GRANTED * 2 // 3)
        elif isinstance(request.action, election.Take):
            self.held = self.epoch = request.outcome[-1]
            self.safe_until = request.sent + GRANTED * 2 // 3
            self.read()
        elif not isinstance(request.action, int):
            if "stop" in self.rules and isinstance(request.action, election.HandOver):
                return  # Goes on accepting what it has handed over.
            self.read()

    def lost(self):
        """Its session is over: it begins a new one."""
        if self.site.lives.get(self.name) not in (None, self.life):
            return
        self.epoch, self.doubted = 0, True
        self.life = self.site.begin(self.name)
        self.vacancy = election.Vacancy()
        self.read()


class World:
    """`rules` names those that are left out, to see that the model notices."""

    def __init__(self, *rules):
        self.site = Site()
        self.instances = [Instance(self.site, order, rules) for order in (1, 2, 3)]
        self.accepted = 0

    def step(self, verb, who, other):
        mine = self.instances[who]
        runs = mine.alive and not mine.frozen
        match verb:
            case "tick":
                self.site.now += 1
            case "turn" if runs:
                mine.read()
                for part in ("act", "deliver", "answer"):
                    self.step(part, who, other)
            case "confirmation" if runs:
                for part in ("confirm", "deliver", "confirmed"):
                    self.step(part, who, other)
            case "read" if runs:
                mine.read(FOLDERS[other])
            case "act" if runs:
                mine.act()
            case "confirm" if runs:
                mine.confirm()
            case "deliver":  # Under way already: freezing and death do not stop it.
                mine.deliver(mine.request)
                mine.deliver(mine.confirmation)
            case "answer" if runs and mine.request is not None and mine.request.outcome is not None:
                request, mine.request = mine.request, None
                mine.answer(request)
            case "confirmed" if runs and mine.confirmation is not None and mine.confirmation.outcome is not None:
                mine.answer(mine.confirmation)
                mine.confirmation = None
            case "lose":
                mine.request = mine.confirmation = None
            case "freeze":
                mine.frozen = True
            case "thaw":
                mine.frozen = False
            case "kill" if other == 0:
                mine.alive = False
                mine.leave()
            case "born" if not mine.alive and mine.name not in self.site.lives:
                self.instances[who] = Instance(self.site, mine.number, mine.rules)
            case "beat" if mine.alive and self.site.lives.get(mine.name) == mine.life:
                self.site.heard[mine.name] = self.site.now  # By a thread of an engine's, though the loop may be frozen.
            case "expire":
                self.site.expire()
            case "end" if not mine.alive:
                self.site.end(mine.name)
            case "depose":
                self.depose(mine)
            case "back" if runs:
                mine.order = max(each.order for each in self.instances) + 1
        self.look()

    def depose(self, mine):
        active = self.site.entries.get(ACTIVE)
        if active is not None and self.site.lives.get(mine.name) == mine.life:
            mine.read()
            seen = election.view(OFFICE, *(mine.seen[folder] for folder in FOLDERS))
            self.site.apply(mine.name, mine.life, election.deposition(seen, OFFICE, active.number, float(GRANTED)))

    def look(self):
        for each in self.instances:
            if each.accepts():
                assert each.epoch >= self.accepted, f"epoch {each.epoch} after {self.accepted}"
                self.accepted = each.epoch
        assert sum(each.accepts() for each in self.instances) <= 1

    def recover(self):
        """Let faults stop: the frozen go on, the dead are ended, everything arrives. Then go on for a while."""
        for each in self.instances:
            each.frozen, each.connected = False, True
            if not each.alive:
                self.site.end(each.name)
        self.rounds(30)

    def rounds(self, number):
        for _ in range(number):
            for who, each in enumerate(self.instances):
                if each.alive and self.site.lives.get(each.name) != each.life:
                    each.lost()
                if each.alive:
                    each.read()
                for verb in ("beat", "act", "deliver", "answer", "confirm", "deliver", "confirmed"):
                    self.step(verb, who, 0)
            self.step("tick", 0, 0)


RETURN = [
    *(("kill", 0, 0), ("end", 0, 0), ("turn", 1, 0), ("turn", 1, 0), ("confirmation", 1, 0)),
    *(("born", 0, 0), ("turn", 0, 0)),
]
"""The favourite died, was followed, and stands again: a hand-over is due."""
histories = st.builds(
    lambda before, steps: before + steps,
    st.sampled_from([[], RETURN]),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2), st.integers(0, 2)), max_size=120),
)


def run(history, *rules):
    world = World(*rules)
    world.rounds(2)
    for step in history:
        world.step(*step)
    return world


@settings(max_examples=300, deadline=None)
@given(histories)
def test_no_epoch_is_accepted_after_a_later_one(history):
    run(history)


@settings(max_examples=150, deadline=None)
@given(histories)
def test_when_faults_stop_the_best_of_the_living_holds_the_office_and_keeps_it(history):
    world = run(history)
    world.recover()
    living = sorted((each for each in world.instances if each.alive), key=lambda each: (each.order, each.number))
    if living:
        epoch = living[0].epoch
        assert living[0].accepts() and [each.epoch for each in living[1:]] == [0] * (len(living) - 1)
        world.rounds(20)
        assert living[0].accepts() and living[0].epoch == epoch
        assert not [path for path in world.site.entries if path.startswith(f"{election.DEPOSED}/")]


@pytest.mark.parametrize("rule", ["safe", "mark", "stop"])
def test_a_rule_that_is_left_out_is_noticed(rule):
    """Without the bound of time, without the wait for the deposed, without stopping before the hand-over: each is caught."""
    for seed in range(1000):
        chance = random.Random(seed)
        history = RETURN + [(chance.choice(STEPS), chance.randrange(3), chance.randrange(3)) for _ in range(120)]
        try:
            run(history, rule)
        except AssertionError:
            return
    pytest.fail(f"1000 histories without the rule {rule!r}, and nothing was noticed")
