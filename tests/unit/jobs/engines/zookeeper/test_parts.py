"""What the store on ZooKeeper decides without one: paths, contents, places in the order, shares."""

from __future__ import annotations

import msgspec
import pytest

from callboard.jobs import model, states
from callboard.jobs.engines.memory.tables import Written
from callboard.jobs.engines.zookeeper import codec, layout, replica, trial
from callboard.testing.conformance.jobs.bench import NODE, NOW, OTHER, job, new_id

WHERE = layout.Layout("/team/jobs")


def test_names_of_jobs_are_names_of_nodes_and_differ():
    ids = [bytes([number]) * 16 for number in range(256)]
    paths = {WHERE.job((domain, id)) for id in ids for domain in ("main", "team.acme")}
    assert len(paths) == 512
    assert all(path.startswith("/team/jobs/jobs/") and path.count("/") == 5 for path in paths)
    assert WHERE.part(("main", ids[255]), layout.result(7)) == "/team/jobs/parts/3f/_____________________w.main!r7"


def test_a_document_s_path_is_one_name():
    assert WHERE.document("main", "keys/ü %") == "/team/jobs/documents/main:keys%2F%C3%BC%20%25"


def test_the_number_of_an_entry_is_read_from_its_name():
    assert layout.number(WHERE.entry(3, 41)) == 41
    assert WHERE.entry(3, 41).startswith(WHERE.next_entry(3))


def test_a_job_comes_back_from_its_node():
    claimed = states.claimed(job(tags=("blue",), meta={"a": "b"}, timeout=5), NODE, NOW)
    claimed = msgspec.structs.replace(claimed, progress=model.Progress(1, 2, "half"), result=b"r")
    body = codec.Body(codec.fixed(claimed, 3), codec.moving(claimed, (1, 2)), claimed.args, b"r")
    read = codec.decode_body(codec.encode(body))
    assert codec.job(read) == claimed
    assert (read.fixed.index, read.moving.fences) == (3, (1, 2))


def test_who_reads_ignores_what_was_appended():
    head = codec.decode_head(codec.encode((1, 1, 5, "new")))
    assert head == codec.Head(1, 1, 5)


def test_the_order_is_that_of_commits_and_then_of_places_in_them():
    places = [(1, 0, 1), (1, 0, 2), (1, 1, 1), (1, 10_000, 9), (2, 0, 1)]
    orders = [replica.order(*place) for place in places]
    assert orders == sorted(orders)
    assert [order & replica.INDEX for order in orders] == [place[2] for place in places]


def test_shares_differ_and_end(monkeypatch):
    now = 0.0
    monkeypatch.setattr(replica.time, "monotonic", lambda: now)
    one, other = replica.Spread(), replica.Spread()
    assert one.share() is None
    one.begin([OTHER])
    assert one.share() is None, "who claims nothing has no share"
    one.node, other.node = NODE, OTHER
    one.begin([OTHER])
    other.begin([NODE, OTHER])
    assert (one.share(), other.share()) == ((2, 0), (2, 1))
    now = replica.SPREAD_SECONDS + 1
    assert one.share() is None


def test_who_spreads_takes_its_own_share_first_and_then_any():
    held = replica.Replica(100)
    jobs = [job() for _ in range(40)]
    for made in jobs:
        held.write(made)
    held.spread.node = NODE
    held.spread.begin([OTHER])
    (bucket,) = held.ready.values()
    mine = held.first([bucket], 5)
    assert len(mine) == 5 and {item[-1][1][-1] % 2 for item in mine} == {0}
    for made in jobs[::1]:
        if made.id[-1] % 2 == 0:
            held.remove(made.key)
    assert len(held.first([bucket], 5)) == 5


def test_an_entry_about_what_was_made_here_shows_that_the_replica_is_wrong():
    held = replica.Replica(100)
    key = ("main", new_id())
    entry = codec.Entry(b"", 1, removed=(key,))
    assert held.follow(entry, 1, 0)
    assert not held.follow(entry, 1, 0, own={key})


@pytest.mark.parametrize("loading", [True, False])
def test_a_change_of_an_unknown_job_fits_only_while_loading(loading):
    moving = codec.moving(states.claimed(job(), NODE, NOW), ())
    entry = codec.Entry(b"", 1, changed=(codec.Changed("main", new_id(), 1, moving),))
    assert replica.Replica(100).follow(entry, 1, 0, loading=loading) is loading


def test_a_refused_unit_leaves_the_replica_as_it_was():
    held = replica.Replica(100)
    made = job()
    held.write(made)
    held.keep()
    held.append_error(made.key, model.AttemptError(run=1, fence=1, attempt=1, code="failed"))
    held.write_document("main", "a", Written(1, b"x"))
    held.remove(made.key)
    held.take_back()
    assert (held.job(*made.key), held.fences.get(made.key, ()), held.documents["main"]) == (made, (), {})


def test_what_a_unit_brings_is_counted():
    big = job(args=bytes(200_000))
    assert 200_000 < trial.content_bytes((trial.seam.Put(big, NOW),)) < 203_000
