"""Which of a database's servers is used."""

from __future__ import annotations

import pytest

from callboard import errors
from callboard.databases import products

ONE, TWO, THREE = (("one", 3306), ("two", 3306), ("three", 3306))
FIT = products.Server("1")
DONOR = products.Server("1", galera=True, reluctant=True)
AWAY = products.Server("1", away="it is away")
UNFIT = products.Server("1", unfit="it is read-only: name another one")


def used(database) -> str:
    with database.connect() as on:
        return on.info["host"][0]


def test_the_first_one(three, hosts):
    assert used(three) == "one"
    assert len(hosts.connections) == 1


@pytest.mark.parametrize("first", [None, AWAY, UNFIT, OSError("lost"), PermissionError("no")])
def test_the_next_one_when_the_first_is_of_no_use(three, hosts, first):
    hosts.servers[ONE] = first
    assert used(three) == "two"
    assert hosts.given_up == len(hosts.connections)


def test_one_that_helps_others_is_used_when_there_is_no_better_one(three, hosts):
    hosts.servers[ONE] = hosts.servers[TWO] = DONOR
    assert used(three) == "three"
    hosts.servers[THREE] = None
    assert used(three) == "one"
    assert three.galera
    assert hosts.given_up == len(hosts.connections)


def test_one_that_was_just_silent_comes_last(three, hosts):
    assert three._alive(ONE)
    assert used(three) == "one"
    hosts.answering = False
    assert not three._alive(ONE)
    assert used(three) == "two"
    hosts.servers[TWO] = hosts.servers[THREE] = None
    assert used(three) == "one"


def test_what_passes_is_unavailable(three, hosts):
    hosts.servers = {ONE: None, TWO: UNFIT, THREE: AWAY}
    with pytest.raises(errors.StoreUnavailable, match=r"mysql at one:3306 does not answer.*three:3306: it is away"):
        three.connect()


def test_what_does_not_pass_is_told_by_its_first_host(three, hosts):
    hosts.servers = {ONE: PermissionError("wrong"), TWO: UNFIT, THREE: UNFIT}
    with pytest.raises(errors.StoreRefused, match=r"^mysql at one:3306: wrong: ask$"):
        three.connect()
    hosts.servers[ONE] = UNFIT
    with pytest.raises(errors.StoreUnfit, match="read-only"):
        three.connect()


def test_a_bug_is_not_hidden(three, hosts):
    hosts.servers[ONE] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        three.connect()


def test_it_returns_to_a_preferred_host_when_that_has_been_fit_for_a_time(three, hosts):
    hosts.servers[ONE] = None
    assert not three.returns.due(TWO, now=100)
    three.returns.look(TWO, now=100)
    assert not three.returns.due(TWO, now=200)
    hosts.servers[ONE] = FIT
    three.returns.look(TWO, now=200)
    assert not three.returns.due(TWO, now=204)
    three.returns.look(TWO, now=205)
    assert three.returns.due(TWO, now=205)
    hosts.servers[ONE] = DONOR
    three.returns.look(TWO, now=206)
    assert not three.returns.due(TWO, now=300)


def test_nothing_is_better_than_the_first_host(three):
    assert not three.better(ONE)
