"""Ports for servers."""

from __future__ import annotations

import socket

import pytest

from callboard import errors
from callboard.kit import ports


def test_free_ports_are_in_a_row_and_free():
    row = ports.free(3)
    assert len(row) == 3
    for port in row:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", port))


def test_no_port_is_one_of_the_clients():
    given = ports.clients()
    assert given and all(ports.free()[0] not in given for _ in range(50))


def test_a_kernel_that_does_not_say_gives_none(monkeypatch, tmp_path):
    monkeypatch.setattr(ports, "_GIVEN", tmp_path / "nothing")
    assert not ports.clients()


def test_where_nothing_is_free_it_says_so(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        monkeypatch.setattr(ports, "_FREE", range(taken.getsockname()[1], taken.getsockname()[1] + 1))
        with pytest.raises(errors.PortInUse, match="no 1 free ports"):
            ports.free()


def test_no_port_is_given_twice():
    given = [port for count in (1, 3, 2) * 20 for port in ports.free(count)]
    assert len(given) == len(set(given))
