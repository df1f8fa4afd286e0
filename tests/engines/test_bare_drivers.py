"""The limit that `bench-engines` compares with is of the same work: nothing claimed twice, nothing ended that is not held."""

from __future__ import annotations

import contextlib

import pytest

from callboard.cli.bench import certification, hands

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
