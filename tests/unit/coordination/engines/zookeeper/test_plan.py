from __future__ import annotations

import itertools

from callboard.coordination import engine as seam
from callboard.coordination.engines.zookeeper import layout, plan
from callboard.ensembles import requests

WHERE = layout.Layout("/c")
HOLDER = plan.Holder("me", "life")
KNOWN = plan.Known(layout.Header("other.7", "other"), 5)


def _made(operations, known=None):
    counter = itertools.count()
    created = plan.created(operations, HOLDER, lambda: f"life.{next(counter)}")
    return plan.make(WHERE, operations, HOLDER, created, known or {})


def _paths(made):
    """What a request touches, in order."""
    sent = requests.Multi(made.steps).serialize()
    return [sent.count(path) for path in (b"/c/seals/life.0", b"/c/seals/other.7", b"/c/seals/never")]


def test_every_request_is_guarded_by_the_session():
    made = _made([seam.Check("active/x", 1)])
    assert made.owners[0] == plan.SESSION and b"/c/seals/life" in requests.Multi(made.steps).serialize()


def test_seals_of_creations_come_first():
    made = _made([seam.Absent("active/x"), seam.Create("active/x", b""), seam.Create("active/y", b"", lasting=True)])
    assert made.owners == [plan.SESSION, plan.SEAL, plan.SEAL, 0, 0, 1, 2]
    assert made.witness == "life.0"


def test_a_creation_belongs_to_the_session_unless_it_lasts():
    made = _made([seam.Create("active/x", b"X"), seam.Create("active/y", b"Y", lasting=True)])
    assert b"1 life.0 me\nX" in requests.Multi(made.steps).serialize()
    assert b"1 life.1 -\nY" in requests.Multi(made.steps).serialize()


def test_what_is_known_is_guarded_by_its_seal_and_what_is_not_must_fail():
    operations = [seam.Check("active/x", 1), seam.Remove("active/x", 1)]
    assert _paths(_made(operations, {0: KNOWN, 1: KNOWN})) == [0, 2, 0]
    assert _paths(_made(operations, {1: KNOWN})) == [0, 1, 1]


def test_a_replaced_entry_keeps_its_header_and_those_who_watch_the_folder_hear_of_it():
    made = _made([seam.Replace("active/x", b"new", 1, b"old")], {0: KNOWN})
    assert b"1 other.7 other\nnew" in requests.Multi(made.steps).serialize()
    assert made.owners == [plan.SESSION, 0, 0, 0]


def test_the_first_failure_counts():
    made = _made([seam.Check("active/x", 1), seam.Remove("active/y", 2)], {0: KNOWN, 1: KNOWN})
    results = [requests.Result(), requests.Result(), requests.Result(requests.NO_NODE), requests.Result(requests.SKIPPED)]
    assert made.failure(results) == (1, requests.NO_NODE)
    assert made.failure([requests.Result()] * 4) is None


def test_a_number_for_each_operation():
    operations = [seam.Create("a/x", b""), seam.Absent("a/y"), seam.Check("a/z", 3), seam.Remove("a/v", 4)]
    assert plan.numbers(operations, 17) == [17, 0, 3, 4]
