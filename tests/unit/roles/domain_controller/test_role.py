"""Domain controllers at a site in memory, over one store: who does what for whom, under which term."""

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination import presence
from callboard.coordination.engines import memory as coordination
from callboard.jobs import engine, model, submission, terms
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.kit import clock
from callboard.names import groups
from callboard.names import model as names
from callboard.roles import domain_controller, offices
from callboard.rpc import network
from callboard.settings import RetentionSettings

WORKER = b"w" * 16
SITE = "here"
LEASE = 0.5
SECONDS = 0.5
"""Of a session: as short as a busy machine lets it be."""


def session_of(incarnation):
    return f"node-{incarnation}"


class Controller:
    """One that stands for every group."""

    def __init__(self, town, incarnation, order, lease):
        self.lease = lease
        self.town = town
        self.incarnation = incarnation
        self.order = order

    async def start(self):
        self.session = await self.town.coordination.session(session_of(self.incarnation))
        self.presence = presence.Presence(self.session, self.town.clock)
        await self.presence.start()
        candidacy = offices.Candidacy(
            presence=self.presence,
            groups=self.town.groups,
            stands_for=self.town.groups.names,
            order=self.order,
            preempt=False,
            address=lambda: network.Address(self.incarnation, "127.0.0.1", 1),
            site=SITE,
        )
        self.role = domain_controller.DomainController(
            self.town.queue,
            self.session,
            candidacy,
            self.town.clock,
            session_of=session_of,
            lease_seconds=self.lease,
            retention=RetentionSettings(),
        )
        await self.role.start()

    async def stop(self):
        await self.role.stop()
        await self.presence.stop()
        await self.session.close()


class Town:
    """A site and a store, an agent that lists one worker, and whoever stands for the offices."""

    def __init__(self, grouping):
        self.clock = clock.SystemClock()
        self.groups = grouping
        self.site = coordination.Site()
        self.coordination = coordination.MemoryEngine(self.site, session_seconds=SECONDS)
        store: Any = memory.open("memory:")
        self.apply = store.apply
        store.apply = lambda units: self.apply(units)
        self.queue = queues.Queue(store, clock=self.clock)
        self.controllers = []

    async def open(self):
        await self.queue.start()
        self.agent = await self.coordination.session("agent-1")
        self.worker = await self.coordination.session(session_of(WORKER.hex()))

    async def close(self):
        self.site.resume()
        for each in self.controllers:
            await each.stop()
        for session in (self.agent, self.worker):
            await session.close()
        await self.queue.stop()

    async def stand(self, count=1, lease=LEASE):
        for _ in range(count):
            made = Controller(self, f"{len(self.controllers):032x}", len(self.controllers), lease)
            self.controllers.append(made)
            await made.start()
        return self.controllers

    async def list(self):
        body = msgspec.json.encode(names.Roster("agent-1", (WORKER.hex(),)))
        await self.agent.apply([seam.Create(f"{names.ROSTERS}/1", body, lasting=True)])

    async def running(self, domain="main", jobs=1):
        now = self.queue.clock.now()
        made = [submission.build(submission.Submission(kind="a.b", domain=domain), {}, now) for _ in range(jobs)]
        await self.queue.submit(made)
        take = engine.Take(domain, "default", model.Lane.LONG, (("a.b", (1,)),), jobs)
        await self.queue.exchange([], WORKER, [take], jobs)
        return made[0]

    async def state(self, job):
        return (await self.queue.get(job.domain, job.id)).state

    async def gone(self):
        """The server dies: nothing of it is heard any more."""
        await self.agent.close()
        await self.worker.close()


@pytest.fixture
async def town():
    made = Town(groups.Groups())
    await made.open()
    yield made
    await made.close()


def actives(town):
    return [each for each in town.controllers if each.role.active]


async def term(town, group="main"):
    return (await town.queue.document(".", terms.path(terms.scope(SITE, group)))).version


async def test_one_of_them_is_active_and_has_the_term(town, eventually):
    await town.stand(3)
    await eventually(lambda: actives(town))
    (active,) = actives(town)
    document = await town.queue.document(".", terms.path(terms.scope(SITE, "main")))
    holder = msgspec.json.decode(document.body, type=terms.Holder)
    assert (document.version, holder.incarnation) == (1, active.incarnation)
    assert active.role.facts() == {"active": {"main": holder.epoch}}
    assert active.role.admit("anything", holder.epoch) == holder.epoch
    assert (await active.role.ping())["rescued"] == 0
    with pytest.raises(errors.NotActive):
        next(each for each in town.controllers if each is not active).role.admit("main", 0)


async def test_the_next_one_takes_over_with_a_higher_term(town, eventually):
    await town.stand(2)
    await eventually(lambda: actives(town))
    (first,) = actives(town)
    await first.stop()
    town.controllers.remove(first)
    await eventually(lambda: actives(town))
    assert await term(town) == 2


async def test_due_jobs_of_its_domains_are_promoted(town, eventually):
    job = submission.build(submission.Submission(kind="a.b", delay=0.01), {}, town.clock.now())
    await town.queue.submit([job])
    await town.stand()

    async def available():
        return await town.state(job) is model.State.AVAILABLE

    await eventually(available)


async def test_the_claims_of_a_silent_server_are_ended(town, eventually):
    await town.list()
    job = await town.running()
    await town.stand()
    await eventually(lambda: actives(town))
    await town.gone()
    assert await town.state(job) is model.State.RUNNING

    async def available():
        return await town.state(job) is model.State.AVAILABLE

    async def rescued():
        return (await town.controllers[0].role.ping())["rescued"] == 1

    await eventually(available)
    await eventually(rescued)
    assert (await town.queue.get("main", job.id)).deaths == 1


async def spared(town, job, eventually):
    """Twice the lease passes, and the job runs."""
    over = town.clock.boot() + 2 * LEASE * 1e9
    await eventually(lambda: town.clock.boot() > over)
    return await town.state(job) is model.State.RUNNING


@pytest.mark.parametrize("sign", ["agent", "session", "renewals", "unknown"])
async def test_whoever_gives_a_sign_of_life_keeps_its_claims(town, eventually, sign):
    if sign != "unknown":
        await town.list()
    job = await town.running()
    await town.stand()
    await eventually(lambda: actives(town))
    if sign != "agent":
        await town.agent.close()
    if sign != "session":
        await town.worker.close()
    async with asyncio.TaskGroup() as group:
        renewing = group.create_task(renew(town, job)) if sign == "renewals" else None
        assert await spared(town, job, eventually)
        if renewing is not None:
            renewing.cancel()


async def renew(town, job):
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await town.queue.renew(WORKER, [("main", job.id, 1, None)])
            await asyncio.sleep(LEASE / 4)


async def test_while_coordination_is_away_nothing_is_expired(town, eventually):
    await town.list()
    job = await town.running()
    await town.stand()
    await eventually(lambda: actives(town))
    town.site.stop()
    assert await spared(town, job, eventually)
    town.site.resume()
    await town.gone()

    async def available():
        return await town.state(job) is model.State.AVAILABLE

    await eventually(available)


async def test_while_the_store_is_away_nothing_is_expired_and_then_all_have_time_to_come_back(town, eventually, monkeypatch):
    await town.list()
    job = await town.running()
    await town.stand()
    await eventually(lambda: actives(town))
    asked = []

    def away():
        asked.append(1)
        raise errors.StoreUnavailable("gone fishing")

    with monkeypatch.context() as broken:
        broken.setattr(town.queue.engine, "claimants", away)
        await town.gone()
        assert await spared(town, job, eventually) and len(asked) > 1
    back = town.clock.boot()

    async def available():
        return await town.state(job) is model.State.AVAILABLE

    await eventually(available)
    assert town.clock.boot() - back >= LEASE / 2 * 1e9


@pytest.mark.parametrize("away", ["store", "coordination"])
async def test_while_something_is_away_it_is_asked_at_an_even_pace(town, eventually, monkeypatch, away):
    """Also when somebody has not renewed for longer than the lease."""
    await town.list()
    await town.running()
    (controller,) = await town.stand()
    await eventually(lambda: actives(town))
    looks, looked = controller.role._looks, []
    looks.tell(lambda: looked.append(town.clock.boot()))

    def gone():
        raise errors.StoreUnavailable("gone fishing")

    if away == "store":
        monkeypatch.setattr(town.queue.engine, "claimants", gone)
    else:
        town.site.stop()
    over = town.clock.boot() + 4 * LEASE * 1e9
    await eventually(lambda: town.clock.boot() > over)
    assert 2 < len(looked) <= 4 * 6 + 5


async def test_a_store_that_answers_and_takes_nothing_starts_the_count_again(town, eventually, monkeypatch):
    """Whoever lives cannot renew either."""
    await town.list()
    job = await town.running()
    await town.stand()
    await eventually(lambda: actives(town))
    refused = []

    def full(units):
        refused.append(units)
        raise errors.StoreUnavailable("no room")

    with monkeypatch.context() as broken:
        broken.setattr(town, "apply", full)
        await town.gone()
        await eventually(lambda: len(refused) > 3)
        assert all(isinstance(op, engine.Renew) and not op.claims for units in refused for unit in units for op in unit)
    back = town.clock.boot()

    async def available():
        return await town.state(job) is model.State.AVAILABLE

    await eventually(available)
    assert town.clock.boot() - back >= LEASE / 2 * 1e9


async def test_while_somebody_renews_the_looks_write_nothing(town, eventually, monkeypatch):
    lease = 4.0
    await town.list()
    job = await town.running()
    await town.stand(2, lease)
    await eventually(lambda: actives(town))
    apply, written = town.apply, []

    def noted(units):
        written.extend(units)
        return apply(units)

    monkeypatch.setattr(town, "apply", noted)
    async with asyncio.TaskGroup() as group:
        renewing = group.create_task(renew(town, job))
        over = town.clock.boot() + 0.6 * lease * 1e9  # Whoever does not renew is overdue after half of it.
        await eventually(lambda: town.clock.boot() > over)
        renewing.cancel()
    assert {op.node for unit in written for op in unit if isinstance(op, engine.Renew)} == {WORKER}


async def test_what_was_seen_long_ago_ends_no_claims(town, eventually, monkeypatch):
    """The holder, or its question to coordination, is held up between the last look and the deed; the node renews meanwhile."""
    await town.list()
    job = await town.running()
    await town.stand()
    await eventually(lambda: actives(town))
    session, asked, renewing = town.controllers[0].session, [], []
    entries, passed = session.entries, asyncio.Event()

    async def held_up(folder):
        asked.append(folder)
        if asked.count(names.ROSTERS) == 2:
            renewing.append(asyncio.create_task(renew(town, job)))
            await spared(town, job, eventually)
            passed.set()
        return await entries(folder)

    monkeypatch.setattr(domain_controller.role.duty.rescue.Rescue, "_sweep", nothing)
    monkeypatch.setattr(session, "entries", held_up)
    await town.gone()
    await asyncio.wait_for(passed.wait(), 10)
    assert await spared(town, job, eventually)
    renewing[0].cancel()


async def nothing(self):
    """Of what a test has no use for."""


async def test_whoever_takes_office_knows_the_ages_already(town, eventually):
    lease = 4.0
    await town.list()
    job = await town.running()
    await town.stand(2, lease)
    await eventually(lambda: actives(town))
    await town.gone()
    silent = town.clock.boot()
    await eventually(lambda: town.clock.boot() > silent + 0.75 * lease * 1e9)
    (first,) = actives(town)
    await first.stop()
    town.controllers.remove(first)
    left = town.clock.boot()
    await eventually(lambda: actives(town))
    assert await town.state(job) is model.State.RUNNING

    async def available():
        return await town.state(job) is model.State.AVAILABLE

    await eventually(available)
    assert town.clock.boot() - left < 0.75 * lease * 1e9


async def test_the_next_one_ends_what_the_one_before_had_begun_to_end(town, eventually, monkeypatch):
    """More claims than one commit ends, and the holder is gone after the first."""
    jobs = queues.EXPIRED_PER_COMMIT + 100
    await town.list()
    await town.stand(2, 2.0)
    await eventually(lambda: actives(town))
    await town.running(jobs=jobs)
    (first,) = actives(town)
    apply, ends = town.apply, []

    def once(units):
        expires = any(isinstance(op, engine.Expire) for unit in units for op in unit)
        if expires and ends and any(isinstance(op, engine.Require) and op.version == 1 for unit in units for op in unit):
            raise errors.StoreUnavailable("cut off")  # Whatever the first one says from now on, also when it is gone.
        results = apply(units)
        if expires:
            ends.append(sum(len(one.jobs) for result in results for one in result if isinstance(one, engine.Expired)))
        return results

    monkeypatch.setattr(town, "apply", once)
    await town.gone()
    await eventually(lambda: ends)
    await first.stop()
    town.controllers.remove(first)

    async def none_run():
        return not await town.queue.claimants()

    await eventually(none_run)
    assert ends[0] == queues.EXPIRED_PER_COMMIT and sum(ends) == jobs
    assert await term(town) == 2


async def test_one_whose_term_is_over_writes_nothing_and_stands_again_later(town, eventually):
    """Another coordination, or an old belief: the store's word counts."""
    await town.list()
    job = await town.running()
    await town.stand()
    await eventually(lambda: actives(town))
    await terms.take(town.queue, terms.scope(SITE, "main"), terms.Holder(incarnation="f" * 32, epoch=9, at=1))
    await town.gone()
    await eventually(lambda: not actives(town))
    assert await town.state(job) is model.State.RUNNING
    await eventually(lambda: actives(town))
    assert await term(town) == 3

    async def available():
        return await town.state(job) is model.State.AVAILABLE

    await eventually(available)


async def test_one_that_cannot_reach_the_store_for_long_does_not_serve(town, eventually, monkeypatch):
    """Registries ask, and depose it."""
    await town.stand()
    await eventually(lambda: actives(town))
    role = town.controllers[0].role
    epoch = role.admit("main", 0)
    monkeypatch.setattr(domain_controller.role.looks, "STALLED_SECONDS", 0.2)
    monkeypatch.setattr(domain_controller.role.looks, "REST_SECONDS", 0.01)

    def away():
        raise errors.StoreUnavailable("gone fishing")

    def refused():
        with pytest.raises(errors.NotActive, match="cannot reach the store"):
            role.admit("main", epoch)
        return True

    def admitted():
        with contextlib.suppress(errors.NotActive):
            return role.admit("main", 0) == epoch

    await eventually(admitted)
    with monkeypatch.context() as broken:
        broken.setattr(town.queue.engine, "claimants", away)
        over = town.clock.boot() + 0.5e9
        await eventually(lambda: town.clock.boot() > over)
        assert refused()
    await eventually(admitted)


async def test_a_server_that_was_cut_off_from_coordination_for_long_and_dies_then_is_found(town, eventually, monkeypatch):
    """It had no claims while rosters were swept; then it claimed, and lost its power."""
    sweeps = swept(monkeypatch)
    await town.list()
    await town.stand()
    await eventually(lambda: actives(town))
    await town.gone()
    await eventually(lambda: len(sweeps) > 4)
    job = await town.running()

    async def available():
        return await town.state(job) is model.State.AVAILABLE

    await eventually(available)


async def test_the_roster_of_an_agent_whose_nodes_another_one_answers_for_is_removed_soon(town, eventually, monkeypatch):
    swept(monkeypatch)
    await town.list()
    await town.stand()
    await eventually(lambda: actives(town))
    await town.gone()
    next_one = await town.coordination.session("agent-2")
    body = msgspec.json.encode(names.Roster("agent-2", (WORKER.hex(),)))
    await next_one.apply([seam.Create(f"{names.ROSTERS}/2", body, lasting=True)])

    async def one_left():
        return [entry.name for entry in await next_one.entries(names.ROSTERS)] == ["2"]

    await eventually(one_left)
    await next_one.close()


def swept(monkeypatch):
    """Have sweeps come often; return what grows with each."""
    rescue, sweeps = domain_controller.role.duty.rescue, []
    sweep = rescue.Rescue._sweep

    async def noted(self):
        await sweep(self)
        sweeps.append(self)

    monkeypatch.setattr(rescue, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(rescue.Rescue, "_sweep", noted)
    return sweeps


async def test_rosters_of_agents_that_are_long_gone_are_removed(town, eventually, monkeypatch):
    swept(monkeypatch)
    monkeypatch.setattr(domain_controller.role.duty.rescue, "KEPT_SECONDS", 0.2)
    await town.list()
    await town.stand()
    await eventually(lambda: actives(town))
    await town.worker.close()
    assert await town.controllers[0].session.entries(names.ROSTERS)
    await town.agent.close()

    async def removed():
        return not await town.controllers[0].session.entries(names.ROSTERS)

    await eventually(removed)


async def test_groups_are_apart():
    made = Town(groups.Groups({"north": ("acme",), "south": (".",)}))
    await made.open()
    try:
        await made.stand()
        jobs = []
        for domain in ("acme", "shop", "team.acme"):
            job = submission.build(submission.Submission(kind="a.b", domain=domain, delay=0.01), {}, made.clock.now())
            await made.queue.submit([job])
            jobs.append(job)
        async with asyncio.timeout(10):
            while [await made.state(job) for job in jobs] != [model.State.AVAILABLE] * 3:
                await asyncio.sleep(0.01)
        assert (await term(made, "north"), await term(made, "south")) == (1, 1)
    finally:
        await made.close()
