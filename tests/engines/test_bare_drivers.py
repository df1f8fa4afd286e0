"""The limit that `bench-engines` compares with is of the same work: nothing claimed twice, nothing ended that is not held."""

from __future__ import annotations

import contextlib

import pytest

from callboard.cli.bench import certification, hands, raw_stomp
from callboard.testing.engines import servers

JOBS = 500


@pytest.fixture(params=["mariadb", "postgresql"])
def url(request):
    return request.getfixturevalue(f"{request.param}_database")


@pytest.fixture
def pair(url):
    with contextlib.closing(hands.take("raw", url)) as one, contextlib.closing(hands.take("raw", url)) as other:
        one.create()
        yield one, other


def test_what_one_inserts_both_claim_but_none_twice(pair):
    one, other = pair
    one.insert(JOBS)
    claims = [claim for hand in (one, other, one, other) for claim in hand.claim(JOBS // 4)]
    assert len({seq for seq, _ in claims}) == len(claims) == JOBS
    assert {fence for _, fence in claims} == {1}
    assert one.claim(1) == other.claim(1) == []


def test_only_what_is_held_is_ended_and_once(pair):
    one, other = pair
    one.insert(JOBS)
    claims = one.claim(JOBS)
    assert other.end(claims) == 0
    assert one.end([(seq, fence + 1) for seq, fence in claims]) == 0
    assert one.end(claims) == JOBS
    assert one.end(claims) == 0
    assert one.end([]) == 0


def test_a_turn_ends_and_claims(pair):
    one, _ = pair
    one.insert(JOBS)
    first = one.turn([], JOBS // 2)
    second = one.turn(first, JOBS)
    assert len(first) == len(second) == JOBS // 2
    assert one.end(first) == 0
    assert one.end(second) == JOBS // 2


def test_a_cluster_counts_its_write_sets(galera, galera_database):
    before = certification.counts(galera_database)
    with contextlib.closing(hands.take("raw", galera_database)) as hand:
        hand.create()
        hand.insert(JOBS)
        hand.claim(JOBS)
    after = certification.counts(galera_database)
    assert after.sent >= before.sent + 2
    assert certification.share(before, after) == {"certification failures": 0.0}


def test_an_ensemble_takes_each_write_once(zookeeper):
    """As everything is known to who inserted it, there is nothing to claim twice; a claim that was ended is not ended again."""
    with contextlib.closing(hands.take("raw", zookeeper.url())) as hand:
        hand.create()
        hand.create()
        hand.insert(JOBS)
        claims = hand.claim(JOBS // 2)
        assert len(set(claims)) == JOBS // 2
        second = hand.turn(claims, JOBS)
        assert len(second) == JOBS // 2 and not set(second) & set(claims)
        with pytest.raises(hands.driver(zookeeper.url()).FAILURES):
            hand.end(claims)
        assert hand.end(second) == JOBS // 2
        assert hand.end([]) == 0


def test_an_ensembles_finished_jobs_are_counted(zookeeper):
    url = zookeeper.url("/counted")
    with (
        contextlib.closing(hands.take("engine", url)) as engine,
        contextlib.closing(
            hands.take(
                "raw",
                url,
            )
        ) as hand,
    ):
        engine.insert(5)
        assert hand.finished() == 0
        engine.end(engine.claim(3))
        assert hand.finished() == 3


def test_what_consumers_take_is_gone(activemq):
    raw_stomp.fill(activemq.url(), "raw", "{}", 100)
    assert activemq.queue("raw").size == 100
    with raw_stomp.consuming(activemq.url(), "raw"):
        servers.wait_for(lambda: activemq.queue("raw").dequeued == 100, "all are taken", 20)
    assert activemq.queue("raw").size == 0
