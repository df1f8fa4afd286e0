"""The little makers of SQL texts."""

from __future__ import annotations

from callboard.jobs import model
from callboard.jobs.engines.sql import schema, texts
from callboard.testing.conformance.jobs import bench


def test_lists_have_a_place_for_each_value():
    assert texts.list_of([1, 2, 3]) == "(%s, %s, %s)"
    assert texts.lists_of(2, [(1, 2), (3, 4)]) == "((%s, %s), (%s, %s))"
    assert texts.flat([(1, 2), (3, 4)]) == [1, 2, 3, 4]


def test_an_insert_of_one_row_is_repeated():
    one = "INSERT INTO things(a, b) VALUES (%s, %s) ON CONFLICT (a) DO NOTHING"
    assert texts.repeated(one, 2, 3) == one.replace("(%s, %s)", "(%s, %s), (%s, %s), (%s, %s)")


def test_parts_keep_order_and_lose_nothing():
    assert [list(part) for part in texts.parts(list(range(7)), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(texts.parts([])) == []


def test_looks_are_merged_each_with_its_own_limit():
    look = "SELECT sort, seq FROM callboard_jobs WHERE route = %s"
    one = f"(SELECT * FROM ({look} ORDER BY sort, seq LIMIT 5) AS look)"
    assert texts.first(look, 2, 5) == f"{one} UNION ALL {one}"


def test_a_place_orders_by_priority_then_time():
    far = (1 << 56) - 1  # Of the year 4253.
    places = [schema.sort(model.State.AVAILABLE, priority, at, None) for priority in (0, 5, 9) for at in (0, bench.NOW, far)]
    assert places == sorted(places)
    assert places[-1] < 1 << 63


def test_a_place_is_the_time_that_a_state_waits_for_or_ended_at():
    assert schema.sort(model.State.SCHEDULED, 9, 17, None) == 17
    assert schema.sort(model.State.COMPLETED, 9, 17, 23) == 23


def test_what_a_job_is_written_with_has_a_value_for_each_column():
    made = bench.job()
    assert len(schema.inserted(made, 1, 1)) == schema.INSERTED.count(",") + 1
    assert len(schema.updated(1, made)) == schema.UPDATE.count("%s")
