"""The judge of simulations finds each kind of breach, and none where there is none."""

from __future__ import annotations

import pytest

from tests.scenarios import history

SEAT = ("ledger", "north")


def book():
    return history.History(dead_slack_seconds=5.0)


def accepted(at, epoch, meant=0, incarnation="a"):
    return history.Accepted(at, SEAT, epoch, meant, incarnation)


def called(**changes):
    facts = dict(
        begun=1.0, at=2.0, name="ledger@acme", token="t", code="ok", ran="", timeout=3.0, disturbed=False, idempotent=False
    )
    return history.Called(**facts | changes)


def gathered(mode="all", recipients=("x/1", "x/2"), statuses=("ok", "ok")):
    outcomes = tuple(zip(recipients, statuses, strict=False))
    return history.Gathered(3.0, mode, "k", tuple(recipients), outcomes)


def test_a_good_history_has_no_violations():
    good = book()
    good.accepted += [accepted(1, 5), accepted(2, 5, 5), accepted(3, 9, 9, "b"), history.Accepted(4, ("other", "x"), 2, 2, "c")]
    good.died, good.granted = {"a": 2.0}, {"a": 3.0, "b": 3.0}
    good.looked += [history.Looked(9.9, "ledger", ("a",), False, "c"), history.Looked(99, "ledger", ("a",), True, "c")]
    good.died["b"], good.coordination_back = 20.0, [25.0, 90.0]
    good.looked.append(history.Looked(32.0, "ledger", ("b",), False, "c"))
    good.ran["t"] = ["a"]
    good.called += [called(), called(token="u", code="not_active", ran="no"), called(token="v", at=9, disturbed=True, code="x")]
    good.acted["k"] = ["1"]
    good.gathered += [gathered(), gathered("elect", statuses=("ok", "elsewhere"))]
    good.probed.append(history.Probed(30, "ledger", "c", "ok"))
    good.deposed.append(history.Deposed(5, SEAT, 5, "a", "r", well=False))
    assert good.violations() == []


def plant(fill):
    bad = book()
    fill(bad)
    return bad.violations()


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lambda bad: bad.accepted.extend([accepted(1, 6), accepted(2, 5)]), "accepted under 5 by a after 6"),
        (lambda bad: bad.accepted.extend([accepted(1, 6, 6), accepted(2, 6, 5)]), "meant for 5 after one for 6"),
        (lambda bad: bad.accepted.extend([accepted(1, 6), accepted(2, 6, 0, "b")]), "two instances"),
        (
            lambda bad: (bad.died.update(a=1.0), bad.looked.append(history.Looked(9.5, "ledger", ("a",), False, "c"))),
            "dead for 8.500",
        ),
        (lambda bad: bad.called.append(called(code="x", at=4.5)), "took 3.500 s"),
        (lambda bad: bad.called.append(called()), "ended well and had not run"),
        (lambda bad: (bad.ran.update(t=["a"]), bad.called.append(called(code="x", ran="no"))), "ran=no, and it had run"),
        (lambda bad: (bad.ran.update(t=["a", "b"]), bad.called.append(called())), "ran 2 times"),
        (lambda bad: bad.gathered.append(gathered(statuses=("ok",))), "one for one"),
        (lambda bad: (bad.acted.update(k=["1", "2"]), bad.gathered.append(gathered("elect"))), "2 acted, 2 said so"),
        (lambda bad: bad.gathered.append(gathered("elect", statuses=("elsewhere",) * 2)), "nobody acted"),
        (lambda bad: bad.deposed.append(history.Deposed(5, SEAT, 5, "a", "r", well=True)), "which was well"),
        (lambda bad: bad.probed.append(history.Probed(30, "ledger", "c", "not_active")), "long after healing: not_active"),
        (lambda bad: bad.complaints.append("a task failed"), "a task failed"),
    ],
)
def test_each_breach_is_found(fill, said):
    found = plant(fill)
    assert len(found) == 1 and said in found[0]
