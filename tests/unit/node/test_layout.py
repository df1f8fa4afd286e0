"""What lies in a data directory: records, entries, and which nodes do the same work."""

import os
from pathlib import Path

import msgspec
import pytest

from callboard import errors, settings
from callboard.coordination import sessions
from callboard.node import layout

HEX = "01a20157fc5a76f99373c1ebf981f0e0"


@pytest.fixture
def place(tmp_path):
    made = layout.Layout(tmp_path / "data")
    made.prepare()
    return made


def record(role="worker", index=0, incarnation=HEX, **flags):
    given = settings.load(flags={name.replace("__", "."): value for name, value in flags.items()})
    return layout.NodeRecord(incarnation=incarnation, role=role, index=index, directory="/srv", settings=given)


def test_records_are_read_back_and_bad_ones_passed_over(place):
    place.record(HEX).write_bytes(msgspec.json.encode(record(worker__queues=("a",))))
    place.record("f" * 32).write_bytes(b"{half")
    assert list(place.records()) == [record(worker__queues=("a",))]
    assert record().node == bytes.fromhex(HEX)


def test_forgetting_keeps_the_latest_logs(place):
    names = [f"{number:032x}" for number in range(layout.KEPT_LOGS + 5)]
    for name in names:
        for path in (place.record(name), place.beat(name), place.door(name), place.log(name)):
            path.write_bytes(b"")
    for name in names[:-1]:
        place.forget(name)
    place.forget(names[0])
    assert {path.name for path in place.nodes.iterdir()} == {f"{names[-1]}.json", f"{names[-1]}.beat", f"{names[-1]}.door"} | {
        f"{name}.log" for name in names[-layout.KEPT_LOGS :]
    }


@pytest.mark.parametrize(
    ("role", "flags", "same"),
    [
        ("worker", {}, True),
        ("worker", {"worker__slots": 3}, False),
        ("worker", {"app": "m:other"}, False),
        ("worker", {"store__url": "sqlite:///other.db"}, False),
        ("worker", {"worker__count": 9, "gateway__port": 1, "agent__stall_seconds": 1, "retention__keep": 1}, True),
        ("gateway", {"worker__slots": 3, "gateway__count": 3}, True),
        ("gateway", {"gateway__port": 1}, False),
        ("gateway", {"registry__count": 2}, False),
        ("worker", {"registry__count": 2}, True),
        ("gateway", {"controller__count": 2}, False),
        ("gateway", {"controller__lease_seconds": 5}, False),
        ("gateway", {"retention__keep": 5}, False),
        ("worker", {"controller__count": 2, "controller__lease_seconds": 5}, True),
        ("domain-controller", {"controller__count": 5}, True),
        ("gateway", {"controller__site_count": 2}, False),
        ("worker", {"controller__site_count": 2}, True),
        ("site-controller", {"controller__site_count": 5, "controller__lease_seconds": 5, "retention__keep": 5}, True),
        ("domain-controller", {"retention__keep": 5}, False),
        ("worker", {"service__order": 7, "service__count": 5}, True),
        ("worker", {"service__groups": ("a=.",)}, False),
        ("worker", {"cluster": "other"}, False),
        ("service", {"service__order": 7}, False),
        ("service", {"service__count": 5, "worker__slots": 3}, True),
        ("registry", {"registry__count": 5}, True),
        ("service", {"stands": False}, False),
        ("gateway", {"stands": False}, False),
        ("site-controller", {"stands": False}, False),
        ("domain-controller", {"stands": False}, False),
        ("worker", {"stands": False}, True),
        ("registry", {"stands": False}, True),
        ("registry", {"coordination__url": "zookeeper://z:1"}, False),
    ],
)
def test_what_concerns_a_role_decides_whether_work_is_the_same(role, flags, same):
    assert record(role, incarnation="e" * 32).same_work(record(role, **flags)) is same


def test_another_place_or_directory_is_other_work():
    assert not record().same_work(record(index=1))
    assert not record().same_work(record("gateway"))
    assert not record().same_work(msgspec.structs.replace(record(), directory="/elsewhere"))


def test_sessions_name_nodes():
    assert layout.incarnation_of(layout.session_name(HEX)) == HEX
    assert layout.incarnation_of("agent") is None
    assert layout.incarnation_of("node-of-somebody") is None


def test_an_entry_that_makes_no_sense_is_none():
    assert layout.entry(sessions.Entry("nodes/x", b"{}", "node-x")) is None
    assert layout.entry(sessions.Entry("nodes/x", b'{"pid":1,"pid_started":2,"started_at":""}', "node-x")).process.started == 2


def test_a_place_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.DataUnusable, match="file"):
        layout.Layout(tmp_path / "file").prepare()


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user who may not write everywhere: run as one")
def test_a_place_that_is_not_writable_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(errors.DataUnusable, match="Permission denied"):
        layout.Layout(tmp_path).prepare()
    tmp_path.chmod(0o700)


def test_a_place_where_nothing_can_be_made_is_named():
    """Not even by root, as whom CI runs."""
    with pytest.raises(errors.DataUnusable, match="/proc/callboard cannot be used"):
        layout.Layout(Path("/proc/callboard")).prepare()


def test_local_access_is_read_back_or_none(place):
    assert layout.read_local(place.local) is None
    place.local.write_bytes(b'{"urls":["http://x"],"key":"cb_1_2"}')
    assert layout.read_local(place.local) == layout.LocalAccess(["http://x"], "cb_1_2")
