"""A Galera node that hangs while it is asked how far its data reaches, as MariaDB's do once in a while."""

from __future__ import annotations

import uuid

import pytest

from callboard.testing.engines import galera, mariadb

STATE = str(uuid.UUID(int=7))


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setattr(mariadb, "START_SECONDS", 0.5)
    made = galera.Member.__new__(galera.Member)
    made._state = tmp_path / "grastate.dat"
    made._state.write_text(f"uuid: {STATE}\nseqno: -1\n")
    monkeypatch.setattr(made, "surroundings", dict, raising=False)

    def does(script):
        made._plain = ["sh", "-c", script]
        return made

    return does


def test_one_that_hangs_when_it_has_said_it(node):
    assert node(f"echo 'WSREP: Recovered position: {STATE}:12'; exec sleep 60").position() == (STATE, "12")


def test_one_that_hangs_before_is_asked_again(node, tmp_path):
    mark = tmp_path / "asked"
    script = f"test -e {mark} && echo 'Recovered position: {STATE}:12' && exit; touch {mark}; exec sleep 60"
    assert node(script).position() == (STATE, "12")


def test_one_that_hangs_each_time_is_said(node):
    with pytest.raises(TimeoutError, match="does not tell how far its data reaches: b'at work"):
        node("echo at work; exec sleep 60").position()
