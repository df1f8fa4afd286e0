"""What `bench-engines` makes of its figures, and that its processes do what they say. Nothing here is timed."""

from __future__ import annotations

import asyncio

import pytest

from callboard import errors
from callboard.cli.bench import certification, engine_hand, engines, figures, hands, raw

ROUNDS = [
    {"raw insert": 100.0, "raw cycle": 50.0, "engine insert": 80.0, "end to end": 30.0},
    {"raw insert": 200.0, "raw cycle": 20.0, "engine insert": 100.0, "end to end": 15.0},
    {"raw insert": 300.0, "raw cycle": 30.0, "engine insert": 180.0, "end to end": 30.0},
]


def rows(product="mariadb", rounds=ROUNDS, beside=None):
    return {row.what: row for row in figures.of_rounds(product, rounds, beside)}


def test_ratios_are_of_the_same_round():
    found = rows()
    assert found["engine insert"].ratios == [0.8, 0.5, 0.6]
    assert found["end to end"].ratios == [0.6, 0.75, 1.0]
    assert found["end to end"].beside == "raw cycle"
    assert found["raw insert"].ratios == []


def test_a_row_is_told_by_its_median_and_its_spread():
    told = rows()["engine insert"].told()
    assert (told["median"], told["least"], told["greatest"]) == (100, 80, 180)
    assert told["ratio"] == {"median": 0.6, "least": 0.5, "greatest": 0.8}
    assert told["rounds"] == [80, 100, 180]
    assert rows()["engine insert"].cells() == [
        "mariadb",
        "engine insert",
        "100 jobs/s",
        "80 to 180",
        "0.60 of raw insert",
        "≥ 0.60",
    ]


def test_a_cluster_stands_beside_the_single_server():
    found = rows("galera", [{"end to end": 15.0, "certification failures": 0.5}] * 3, ROUNDS)
    assert found["end to end"].ratios == [0.5, 1.0, 0.5]
    assert found["certification failures"].goal == "< 1"


def test_without_a_bare_driver_there_is_no_ratio():
    found = rows("given", [{"engine insert": 80.0}])
    assert found["engine insert"].ratios == []


def test_an_ensemble_has_a_goal_of_its_own():
    found = rows("zookeeper")
    assert (found["end to end"].goal, found["engine insert"].goal) == ("≥ 0.40", "")


def test_a_bridge_stands_beside_the_faster_consumers_of_the_same_round():
    rounds = [
        {"raw, 1 process": 100.0, "raw, 2 processes": 80.0, "bridge": 70.0},
        {"bridge": 90.0, "raw, 2 processes": 100.0, "raw, 1 process": 50.0},
    ]
    found = {row.what: row for row in figures.of_messages("activemq", rounds)}
    assert (found["bridge"].ratios, found["bridge"].goal) == ([0.7, 0.9], "≥ 0.70")
    assert found["raw, 1 process"].values == [100.0, 50.0] and not found["raw, 1 process"].ratios


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("mysql://callboard:open-sesame@127.0.0.1:1/callboard", 1),
        ("zookeeper://a:1,b:2,c:3/callboard?backlog=5", 3),
        ("zookeeper://a:1,b:2", 2),
    ],
)
def test_the_servers_of_a_url_are_counted(url, servers):
    assert raw.hosts(url) == servers


@pytest.mark.parametrize(("value", "text"), [(0.012345, "0.0123"), (12.345, "12.3"), (123.4, "123"), (1234567.8, "1,234,568")])
def test_figures_have_the_digits_that_mean_something(value, text):
    assert figures.text(value) == text


def test_certification_failures_are_a_share_of_all_commits():
    before, after = certification.Counts(1_000, 5), certification.Counts(1_990, 15)
    assert certification.share(before, after) == {"certification failures": 1.0}
    assert certification.share(None, after) == {}
    assert certification.share(before, before) == {}


def test_new_ids_differ_and_grow_with_time():
    ids = raw.ids(100)
    assert len(set(ids)) == 100
    assert all(len(id) == 16 for id in ids)


def test_a_process_inserts_claims_and_ends_through_an_engine(tmp_path):
    hand = engine_hand.Hand(f"sqlite://{tmp_path}/callboard.db")
    worker = hands.Worker(hand)
    jobs = 2 * hands.BATCH
    assert worker.insert(jobs) == jobs
    assert worker.claim(10 * jobs) == jobs
    assert hand.finished() == 0
    assert worker.end(0) == jobs
    assert worker.cycle(jobs) == jobs
    assert hand.finished() == 2 * jobs
    hand.close()


async def test_two_processes_work_at_the_same_time(tmp_path):
    url = f"sqlite://{tmp_path}/callboard.db"
    async with asyncio.timeout(60), hands.pair("engine", url) as pair:
        await pair.create()
        for command in ("insert", "claim", "end"):
            assert await pair.rate(command, hands.BATCH) > 0
    hand = engine_hand.Hand(url)
    assert hand.finished() == hands.HANDS * hands.BATCH
    hand.close()


def test_what_is_unknown_is_refused():
    known = "mariadb, postgresql, galera, zookeeper, activemq"
    with pytest.raises(errors.InvalidInput, match=f"no such product: oracle; there are {known}"):
        engines.bench_engines(("oracle",))
    with pytest.raises(errors.InvalidInput, match="no such part"):
        engines.bench_engines(part=("speed",))
