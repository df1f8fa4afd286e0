"""Promises about offices, as `presence` and `election` make them of an engine: one holder, epochs that grow, a safe hand-over."""

from __future__ import annotations

import asyncio

from callboard import errors
from callboard.coordination import election
from callboard.coordination import engine as seam
from callboard.testing.conformance.coordination import candidate as candidates
from callboard.testing.conformance.coordination import process
from callboard.testing.conformance.coordination.bench import (
    CUT,
    EXPIRY,
    PROCESSES,
    SUDDEN,
    Bench,
    create,
    equal,
    holds,
    promise,
    promise_if,
    refused,
)

ACTIVE = f"{election.ACTIVE}/{candidates.OFFICE}"


@promise
async def the_best_candidate_holds_the_office(ground: Bench) -> None:
    """One of several holds it. A closed one is followed by the next in order, under a greater epoch."""
    instances = [*await two_stand(ground), await ground.candidate(3)]
    epochs = []
    for at, instance in enumerate(instances):
        await ground.until(lambda instance=instance: instance.epoch)  # type: ignore[misc]
        equal([each.epoch for each in instances[at + 1 :]], [0] * (2 - at))
        epochs.append(instance.epoch)
        await instance.stop()
        await instance.session.close()
    holds(epochs == sorted(set(epochs)), f"epochs {epochs} grow")
    candidates.in_turn(term for each in instances for term in each.terms)
    equal([each.told for each in instances], [[f"taken {epoch}", "left"] for epoch in epochs])


@promise
async def a_withdrawn_instance_is_followed_at_once(ground: Bench) -> None:
    """Who withdraws leaves no trace and goes on living; standing again it gets the office under a new epoch."""
    one, two = await two_stand(ground, preempt=False)
    first = one.epoch
    assert one.standing is not None
    await one.standing.withdraw()
    await one.standing.withdraw()
    await ground.until(lambda: two.epoch > first)
    one.stand(1)
    await ground.until(lambda: _stands(one, 2))
    equal(one.epoch, 0)
    await two.stop()
    await two.session.close()
    await ground.until(lambda: one.epoch > first)
    candidates.in_turn(one.terms + two.terms)


@promise
async def a_preferred_candidate_takes_over(ground: Bench) -> None:
    """A better one that joins later is handed the office, if the holder lets it; the epoch grows, terms do not overlap."""
    later = await ground.candidate(5)
    await ground.until(lambda: later.epoch)
    first = later.epoch
    better = await ground.candidate(1)
    await ground.until(lambda: better.epoch > first)
    equal((later.epoch, later.told), (0, [f"taken {first}", "left"]))
    candidates.in_turn(better.terms + later.terms)


@promise
async def without_preemption_the_holder_stays(ground: Bench) -> None:
    """A better one that joins later waits until the office is free."""
    holder = await ground.candidate(5, preempt=False)
    await ground.until(lambda: holder.epoch)
    first = holder.epoch
    better = await ground.candidate(1, preempt=False)
    await ground.until(lambda: _stands(holder, 2))
    await _pass(0.3 * holder.session.granted_seconds)
    equal((holder.epoch, better.epoch), (first, 0))
    await holder.stop()
    await holder.session.close()
    await ground.until(lambda: better.epoch > first)


@promise
async def a_preferred_candidate_that_joined_earlier_takes_over(ground: Bench) -> None:
    """Passed over when the office was taken, it is preferred as soon as it shows that it lives; and its epoch is greater,
    though it stood before the one whom it follows."""
    mine = await ground.session()
    bid = election.Bid("0" * 32, 1, mine.name, mine.granted_seconds)
    silent = election.Me(candidates.OFFICE, bid, b"").path
    await create(mine, silent, election.encode(bid))
    other = await ground.candidate(5)
    await ground.until(lambda: other.epoch)
    first = other.epoch
    number = (await mine.apply([seam.Remove(silent, (await mine.entries(election.CANDIDATES))[0].number)]))[0]
    holds(number < first, "it stood before the office was taken")
    earlier = await ground.candidate(1, session=mine)
    await ground.until(lambda: earlier.epoch > first)
    candidates.in_turn(earlier.terms + other.terms)


@promise
async def an_epoch_guards_until_it_is_over(ground: Bench) -> None:
    """Check with the epoch of the office holds while it lasts, and never again."""
    one, two = await two_stand(ground)
    first = one.epoch
    equal(await two.session.apply([seam.Check(ACTIVE, first)]), [first])
    await one.stop()
    await one.session.close()
    await ground.until(lambda: two.epoch)
    data = await refused(two.session.apply([seam.Create("x/effect", b""), seam.Check(ACTIVE, first)]))
    equal((data["path"], await two.session.entries("x")), (ACTIVE, []))
    equal(await two.session.apply([seam.Check(ACTIVE, two.epoch)]), [two.epoch])


@promise
async def a_deposed_holder_acknowledges(ground: Bench) -> None:
    """One that lives stops and says so: the successor need not wait. It stands again later, and is preferred as before."""
    one, two = await two_stand(ground)
    first = one.epoch
    begun = ground.now()
    await election.depose(two.session, candidates.LABEL, candidates.GROUP, first)
    await ground.until(lambda: two.epoch > first)
    waited = ground.now() - begun
    holds(waited < election.SAFE_SHARE * one.session.granted_seconds, f"the successor did not wait: {waited:.3f} s")
    second = two.epoch
    await ground.until(lambda: one.epoch > second)
    equal(await two.session.entries(election.DEPOSED), [])
    candidates.in_turn(one.terms + two.terms)


@promise
async def an_epoch_is_deposed_once(ground: Bench) -> None:
    """Of several who depose, one does; a conflict tells the others that it is done. So it is with an epoch that is over."""
    one = await ground.candidate(1)
    await ground.until(lambda: one.epoch)
    first = one.epoch
    judges = [await ground.session() for _ in range(3)]
    await refused(election.depose(judges[0], candidates.LABEL, candidates.GROUP, first - 1))
    answers = await asyncio.gather(
        *(election.depose(each, candidates.LABEL, candidates.GROUP, first) for each in judges), return_exceptions=True
    )
    equal(sorted(type(each).__name__ for each in answers), ["CoordinationConflict"] * 2 + ["NoneType"])
    await refused(election.depose(judges[0], candidates.LABEL, candidates.GROUP, first))
    await ground.until(lambda: one.epoch > first)


@promise
async def nothing_is_taken_while_a_mark_stands(ground: Bench) -> None:
    """Before two thirds of the granted time have passed since a deposition that is not acknowledged, nobody follows."""
    holder = await ground.session()
    bid = election.Bid("0" * 32, 1, holder.name, holder.granted_seconds)
    epoch = (await holder.apply([_stand(bid), seam.Create(ACTIVE, b"hung")]))[-1]
    successor = await ground.candidate(2)
    await ground.until(lambda: _stands(successor, 2))
    begun = ground.now()
    await election.depose(successor.session, candidates.LABEL, candidates.GROUP, epoch)
    await ground.until(lambda: successor.epoch)
    waited = ground.now() - begun
    wanted = election.SAFE_SHARE * holder.granted_seconds
    holds(waited >= wanted, f"the successor waited {wanted:.3f} s: {waited:.3f} s")
    holds(waited < wanted + 4, f"and not much longer: {waited:.3f} s")
    equal(await successor.session.entries(election.DEPOSED), [])


@promise
async def the_end_of_a_deposed_session_ends_the_wait(ground: Bench) -> None:
    """When the session of the deposed one is over it accepts nothing any more: the successor follows."""
    holder = await ground.session()
    bid = election.Bid("0" * 32, 1, holder.name, 1000.0)
    epoch = (await holder.apply([_stand(bid), seam.Create(ACTIVE, b"hung")]))[-1]
    successor = await ground.candidate(2)
    await ground.until(lambda: _stands(successor, 2))
    await election.depose(successor.session, candidates.LABEL, candidates.GROUP, epoch)
    await holder.close()
    await ground.until(lambda: successor.epoch > epoch)


@promise
async def it_is_safe_for_two_thirds_of_the_granted_time(ground: Bench) -> None:
    """What a holder may rely on is bounded by the time that was granted, not by what was asked for; and is renewed."""
    one = await ground.candidate(1)
    await ground.until(lambda: one.epoch)
    standing = one.standing
    assert standing is not None
    before = standing.safe_until
    most = election.SAFE_SHARE * one.session.granted_seconds
    holds((before - one.clock.boot()) / 1e9 <= most, f"it is safe for {most:.3f} s at most")
    await ground.until(lambda: standing.safe_until > before)
    holds(not standing.accepts(standing.safe_until), "nothing is accepted from then on")
    holds(standing.accepts(standing.safe_until - 1), "but is until then")


@promise_if(CUT, EXPIRY)
async def of_two_candidates_one_holds_it_after_a_cut(ground: Bench) -> None:
    """The holder is cut off: it stops by its own clock, before the other one follows. Back again it gets a new epoch."""
    one, two = await two_stand(ground)
    first = one.epoch
    await ground.cut(one.session)
    await ground.until(lambda: two.epoch > first)
    second = two.epoch
    equal(one.epoch, 0)
    await ground.heal(one.session)
    await ground.until(lambda: one.epoch > second)
    candidates.in_turn(one.terms + two.terms)
    equal(one.told[:2], [f"taken {first}", "left"])


@promise_if(CUT)
async def one_that_is_cut_off_takes_nothing(ground: Bench) -> None:
    """A candidate that reaches nobody does not take an office that may be free."""
    one, two = await two_stand(ground)
    await ground.cut(two.session)
    await one.stop()
    await one.session.close()
    await _pass(0.5 * two.session.granted_seconds)
    equal(two.epoch, 0)
    await ground.heal(two.session)
    await ground.until(lambda: two.epoch)


@promise_if(PROCESSES)
async def a_killed_holder_is_followed(ground: Bench) -> None:
    """The holder's process is killed, and somebody who knows says so: the next follows under a greater epoch."""
    far, two, first = await _one_far(ground)
    terms = await far.terms()
    await far.kill()
    await two.session.end(far.name)
    begun = ground.now()
    await ground.until(lambda: two.epoch > first)
    holds(ground.now() - begun < election.SAFE_SHARE * two.session.granted_seconds, "it followed at once")
    candidates.in_turn(two.terms + terms)


@promise_if(PROCESSES)
async def a_frozen_holder_that_was_deposed_never_accepts_again(ground: Bench) -> None:
    """It cannot acknowledge: the successor waits until the frozen one's clock forbids it. Thawed, it accepts nothing."""
    far, two, first = await _one_far(ground)
    await far.freeze()
    begun = ground.now()
    await _depose(two, first)
    await ground.until(lambda: two.epoch > first)
    waited = ground.now() - begun
    holds(waited >= 0.3 * two.session.granted_seconds, f"the successor waited: {waited:.3f} s")
    far.thaw()
    await ground.until(lambda: _later(far, two, first))
    candidates.in_turn(two.terms + await far.terms())
    equal((await far.ask("told"))[:2], [f"taken {first}", "left"])


@promise_if(PROCESSES, SUDDEN)
async def a_hung_holder_that_was_deposed_never_accepts_again(ground: Bench) -> None:
    """Its loop hangs while its session lives: it confirms nothing and is followed after two thirds of the granted time."""
    far, two, first = await _one_far(ground)
    far.tell("hang", 1.2 * two.session.granted_seconds)
    begun = ground.now()
    await election.depose(two.session, candidates.LABEL, candidates.GROUP, first)
    await ground.until(lambda: two.epoch > first)
    waited = ground.now() - begun
    holds(waited >= election.SAFE_SHARE * two.session.granted_seconds, f"the successor waited: {waited:.3f} s")
    await far.answer()
    await ground.until(lambda: _later(far, two, first))
    candidates.in_turn(two.terms + await far.terms())


@promise_if(PROCESSES, EXPIRY)
async def a_frozen_holder_is_followed_when_its_session_is_over(ground: Bench) -> None:
    """Nobody deposes it: it is followed after the granted time, and thawed it accepts nothing under its old epoch."""
    far, two, first = await _one_far(ground)
    await far.freeze()
    await ground.until(lambda: two.epoch > first)
    far.thaw()
    await ground.until(lambda: _later(far, two, first))
    candidates.in_turn(two.terms + await far.terms())


async def two_stand(ground: Bench, *, preempt: bool = True) -> tuple[candidates.Candidate, candidates.Candidate]:
    """Return one that holds the office, and the next in order, which stands."""
    one = await ground.candidate(1, preempt=preempt)
    await ground.until(lambda: one.epoch)
    two = await ground.candidate(2, preempt=preempt)
    await ground.until(lambda: _stands(two, 2))
    return one, two


async def _one_far(ground: Bench) -> tuple[process.Process, candidates.Candidate, int]:
    """Return a process that holds the office, the next in order here, which stands, and the epoch."""
    far = await ground.process()
    await far.ask("stand", 1)
    await ground.until(lambda: far.ask("epoch"))
    two = await ground.candidate(2)
    await ground.until(lambda: _stands(two, 2))
    return far, two, await far.ask("epoch")


def _stand(bid: election.Bid) -> seam.Create:
    return seam.Create(election.Me(candidates.OFFICE, bid, b"").path, election.encode(bid))


async def _stands(by: candidates.Candidate, count: int) -> bool:
    return len(await by.session.entries(election.CANDIDATES)) == count


async def _later(far: process.Process, two: candidates.Candidate, first: int) -> bool:
    """Whether the preferred one in the process holds the office again, under a later epoch than the other one's."""
    epoch = await far.ask("epoch")
    return bool(epoch > first and epoch > max(term.epoch for term in two.terms))


async def _depose(by: candidates.Candidate, epoch: int) -> None:
    """Depose; where the session of a frozen one is over by itself, that will do."""
    try:
        await election.depose(by.session, candidates.LABEL, candidates.GROUP, epoch)
    except errors.CoordinationConflict:
        return


async def _pass(seconds: float) -> None:
    """Let time pass in which nothing is to happen."""
    await asyncio.sleep(seconds)
