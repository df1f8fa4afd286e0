"""Answers as a real server gave them."""

from __future__ import annotations

from kazoo.protocol import serialization

from callboard.ensembles import requests

HEADER = bytes.fromhex("00000007" + "0000000100000059" + "00000000")
REFUSED = "ffffffff00ffffff92ffffff92" + "ffffffff00fffffffefffffffe" + "ffffffff01ffffffff"
CREATED = (
    "000000010000000000"
    + "0000001d2f612f622f7365616c732f363464303634626130336266353438642e30"
    + "0000000d0000000000"
    + "ffffffff01ffffffff"
)
WRITTEN = (
    "000000050000000000"
    + "00000001000000120000000100000059000001a201d4da3c000001a201d4e23a"
    + "00000001000000000000000001000004ba7500000000001a000000000000000100000012"
    + "ffffffff01ffffffff"
)


def _understood(answer):
    return requests.Multi.deserialize(HEADER + bytes.fromhex(answer), len(HEADER))


def test_a_refusal_names_the_step():
    assert _understood(REFUSED) == [requests.Result(requests.NODE_EXISTS), requests.Result(requests.SKIPPED)]


def test_a_written_step_tells_the_transaction():
    assert _understood(WRITTEN) == [requests.Result(zxid=0x100000059, version=1)]


def test_a_creation_and_a_guard_say_that_they_are_done():
    path = "/a/b/seals/64d064ba03bf548d.0"
    assert _understood(CREATED) == [requests.Result(zxid=0x100000059, path=path), requests.Result()]


def test_a_request_knows_its_size():
    made = requests.Multi(
        [requests.exists("/a"), requests.delete("/b"), requests.write("/c", b"x"), requests.create("/d", b"", ephemeral=True)]
    )
    assert len(made) == len(made.serialize())


def test_contents_of_many_and_of_none():
    stat = serialization.stat_struct.pack(0x10, 0x20, 0, 0, 3, 0, 0, 77, 4, 0, 0x10)
    lasting = serialization.stat_struct.pack(0x11, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0x11)
    there = bytes.fromhex("000000040000000000" + "00000004") + b"body" + stat
    bare = bytes.fromhex("000000040000000000" + "ffffffff") + lasting
    missing = bytes.fromhex("ffffffff00ffffff9b" + "ffffff9b")
    end = bytes.fromhex("ffffffff01ffffffff")
    assert requests.Contents.deserialize(there + missing + bare + end, 0) == [
        requests.Content(b"body", 0x10, 3, True, 0x20),
        requests.NO_NODE,
        requests.Content(b"", 0x11, 0, False, 0x20),
    ]
