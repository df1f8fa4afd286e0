"""The lookout, turn by turn, on a clock of the test's."""

from __future__ import annotations

import gc
import socket

from callboard.databases import lookout, sockets


class Connection:
    """Something in flight since `since`, to a server that answers or not."""

    def __init__(self, since: float | None, alive: bool, server: object = None) -> None:
        self.since = since
        self.server = server or self
        self.asked = 0
        self.cuts = 0
        self._alive = alive

    def suspect(self, now: float) -> lookout.Suspicion | None:
        if self.since is None or now - self.since < lookout.PATIENCE_SECONDS:
            return None
        return lookout.Suspicion(self.since, self._ask)

    @property
    def busy(self) -> bool:
        return self.since is not None

    def _ask(self) -> bool:
        self.asked += 1
        return self._alive

    def cut(self, suspicion: lookout.Suspicion) -> None:
        self.cuts += 1

    def sever(self) -> None:
        self.since = None
        self.cuts += 1


def looked(*watched: Connection, now: float) -> lookout.Lookout:
    out = lookout.Lookout(clock=lambda: now, threads=False)
    for each in watched:
        out.add(each)
    out.turn()
    return out


def test_only_a_server_that_does_not_answer_is_cut_off():
    slow, dead, fresh, idle = Connection(0, True), Connection(0, False), Connection(9.5, False), Connection(None, False)
    looked(slow, dead, fresh, idle, now=10)
    assert [each.cuts for each in (slow, dead, fresh, idle)] == [0, 1, 0, 0]
    assert [each.asked for each in (slow, dead, fresh, idle)] == [1, 1, 0, 0]


def test_all_connections_of_a_dead_server_are_cut_off_and_it_is_asked_once():
    gone = [Connection(since, False, "one") for since in (None, 0, 0, 9.5)]
    other = Connection(None, True, "two")
    looked(*gone, other, now=10)
    assert [each.cuts for each in (*gone, other)] == [1, 1, 1, 1, 0]
    assert sum(each.asked for each in gone) == 1


def test_what_was_removed_is_let_alone():
    dead = Connection(0, False)
    out = lookout.Lookout(clock=lambda: 10, threads=False)
    out.add(dead)
    out.remove(dead)
    out.remove(dead)
    out.turn()
    assert dead.asked == 0


def test_what_nobody_holds_any_more_is_forgotten():
    out = looked(Connection(0, False), now=0)
    gc.collect()
    assert out.watched == 0


def test_one_that_fails_does_not_keep_it_from_the_others(caplog):
    class Broken(Connection):
        def suspect(self, now: float) -> lookout.Suspicion | None:
            raise OSError("broken")

    dead = [Connection(0, False), Connection(0, False)]
    looked(dead[0], Broken(0, False), dead[1], now=10)
    assert [each.cuts for each in dead] == [1, 1]
    assert "looking at a database failed" in caplog.text


def test_errands_are_run_once():
    ran = []
    out = lookout.Lookout(threads=False)
    out.errand("a", lambda: ran.append("first"))
    out.errand("a", lambda: ran.append("a"))
    out.errand("b", lambda: ran.append("b"))
    out.turn()
    out.turn()
    assert ran == ["a", "b"]


def test_a_guard_cuts_what_it_suspects_and_nothing_later():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guard = lookout.Guard(ours.fileno(), "here", lambda: False)
        guard.begin()
        assert guard.suspect(0) is None
        suspicion = guard.suspect(1e12)
        guard.end()
        guard.begin()
        guard.cut(suspicion)
        ours.sendall(b"still there")
        assert theirs.recv(100) == b"still there"
        guard.cut(guard.suspect(1e12))
        assert theirs.recv(100) == b""
        guard.close()
        guard.close()


def test_a_guard_of_a_dead_server_is_cut_at_rest_and_not_suspected_again():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guard = lookout.Guard(ours.fileno(), "here", lambda: False)
        guard.sever()
        assert theirs.recv(100) == b""
        guard.begin()
        assert guard.suspect(1e12) is None
        guard.close()
        guard.sever()


def test_who_answers():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = silent.getsockname()
        assert not sockets.answers(host, b"", 0.05)
    assert not sockets.answers(host, b"", 0.05)
