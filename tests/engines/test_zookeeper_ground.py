"""Where a store in ZooKeeper may be made: below a node that others own, by a user who has a right to nothing above it."""

from __future__ import annotations

import time

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import engines
from callboard.testing.conformance.jobs.bench import NOW, equal, job

OURS = make_digest_acl("shop", "secret", all=True)
THEIRS = make_digest_acl("owner", "other", all=True)


@pytest.fixture
def place(zookeeper):
    """A node that lets in the user `shop` alone, below one that does not."""
    outer = f"/ground-{time.time_ns()}"
    owner = KazooClient(zookeeper.hosts, auth_data=[("digest", "owner:other")])
    owner.start()
    owner.create(outer, acl=[THEIRS])
    owner.create(f"{outer}/shop", acl=[OURS])
    owner.stop()
    owner.close()
    return f"{outer}/shop"


def put(url):
    """Put a job into a store, which is made if there is none."""
    engine = engines.open(url)
    try:
        (done,) = engine.apply([(seam.Put(job(), NOW),)])
        return list(done)
    finally:
        engine.close()


def test_a_store_is_made_where_its_user_may_write_and_the_nodes_above_are_let_be(zookeeper, place):
    for root in (f"{place}/jobs", f"{place}/a/b/c"):
        equal(put(zookeeper.url(root, "shop:secret")), [seam.Created()])


def test_a_store_is_not_made_where_its_user_may_not_write(zookeeper, place):
    outer = place.rpartition("/")[0]
    for login, root in (("shop:secret", f"{outer}/jobs"), ("bert:secret", f"{place}/jobs")):
        with pytest.raises(errors.StoreRefused, match=f"no right to {root}") as raised:
            put(zookeeper.url(root, login))
        assert "\n" not in str(raised.value) and "secret" not in str(raised.value)
