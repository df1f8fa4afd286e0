"""The statements of the MySQL engine by themselves: what several connections at once take, what guards hold back, odd texts."""

from __future__ import annotations

import contextlib
import random
import threading

import pytest

from callboard import databases
from callboard.jobs.engines.mysql import dialect as room
from callboard.jobs.engines.mysql import tables
from callboard.jobs.engines.sql import schema

NODE = b"n" * 16
OTHER = b"o" * 16
NOW = 1_700_000_000_000_000
DIALECT = room.MySql()


@pytest.fixture
def connect(mariadb_database):
    """Return connections to a database that has the tables, inside a transaction of READ COMMITTED."""
    database = databases.open(mariadb_database)
    with contextlib.ExitStack() as stack:

        def made():
            on = stack.enter_context(database.connect())
            on.begin()
            database.product.begin_plain(on.connection.driver_connection)
            return on

        on = made()
        for text in DIALECT.tables:
            on.exec_driver_sql(text)
        yield made


@pytest.fixture
def on(connect):
    return connect()


def job(number, *, route=1, priority=5, state=2, args=b"\x80", tags=None, meta=None, timeout=None):
    run_at = NOW + number
    sort = priority * schema.PRIORITY + run_at if state == 2 else run_at
    id = number.to_bytes(16, "little")
    return (1, id, route, state, sort, priority, run_at, 0, 1, 3, 1, b"d" * 16, args, tags, meta, 1_000_000, timeout, NOW)


def ended(row, state=6, **changes):
    given = {"fence": row[6], "sort": NOW + row[0], "attempts": 1, "deaths": 0, "result": None, "reason": None} | changes
    finished = given["sort"] if state >= 6 else None
    written = (given["sort"], row[5], given["attempts"], given["deaths"], finished, given["result"], given["reason"])
    return row[0], given["fence"], state, *written


def column(on, name, order="seq"):
    return [row[0] for row in on.exec_driver_sql(f"SELECT {name} FROM callboard_jobs ORDER BY {order}")]


def go_on(on):
    on.commit()
    on.begin()


# Putting


def test_what_is_put_is_claimed_unchanged(on):
    args = bytes(range(256)) + b"%s '\\"
    put = job(1, args=args, tags="a b,%s,\\,'\",\U0001f980", meta='{"k":"%\\\\\'\U0001f980"}', timeout=7)
    assert DIALECT.put(on, [put, job(2)])
    first, second = DIALECT.claim(on, [1], 10, NODE, NOW)
    columns = dict(zip(schema.CLAIMED.split(", "), first, strict=True))
    wanted = dict(zip(schema.INSERTED.split(", "), put, strict=True))
    assert columns == {name: wanted[name] for name in columns if name in wanted} | {
        "seq": columns["seq"],
        "fence": 1,
        "attempts": 0,
        "deaths": 0,
    }
    assert second[14:17] == (None, None, 1_000_000) and second[0] > first[0]


def test_what_is_put_claimed_runs_from_the_start_beside_what_waits(on):
    assert DIALECT.put(on, [(*job(1), None, None), (*job(2, state=3), NODE, NOW + 7), (*job(3, tags="a"), None, None)])
    assert column(on, "state") == [2, 3, 2]
    assert (column(on, "node"), column(on, "started_at")) == ([None, NODE, None], [None, NOW + 7, None])
    assert [row[6] for row in DIALECT.claim(on, [1], 10, NODE, NOW)] == [1, 1]
    assert column(on, "started_at") == [NOW, NOW + 7, NOW]


def test_jobs_are_found_by_their_ids(on):
    rows = [job(number) for number in range(1, 701)]
    assert DIALECT.put(on, rows)
    ids = [row[1] for row in rows]
    found = dict(DIALECT.places(on, 1, [*ids[:650], b"absent".ljust(16)]))
    assert sorted(found, key=found.__getitem__) == ids[:650]
    assert list(DIALECT.places(on, 2, ids[:1])) == []


def test_one_that_exists_lets_nothing_be_put_and_the_transaction_go_on(on):
    assert DIALECT.put(on, [job(1)])
    assert not DIALECT.put(on, [job(2), job(1), job(3)])
    assert DIALECT.put(on, [job(4)])
    go_on(on)
    assert column(on, "run_at") == [NOW + 1, NOW + 4]


def test_nothing_is_put_of_several_statements_either(on, monkeypatch):
    monkeypatch.setattr(room, "STATEMENT_BYTES", 1000)
    assert DIALECT.put(on, [job(number, args=b"x" * 300) for number in range(10)])
    assert not DIALECT.put(on, [job(number, args=b"x" * 300) for number in (*range(20, 30), 9)])
    assert DIALECT.put(on, [job(number, args=b"x" * 300) for number in range(30, 40)])
    go_on(on)
    assert column(on, "run_at") == [NOW + number for number in (*range(10), *range(30, 40))]


def test_a_large_batch_fits_the_smallest_packet(mariadb, connect):
    mariadb.sql("SET GLOBAL max_allowed_packet = 1048576")
    on = connect()
    payload = random.Random(1).randbytes(256 * 1024)
    assert DIALECT.put(on, [job(number, args=payload) for number in range(12)])
    rows = DIALECT.claim(on, [1], 12, NODE, NOW)
    assert [row[13] for row in rows] == [payload] * 12
    assert DIALECT.end(on, NODE, [ended(row, result=payload) for row in rows]) == 12
    assert column(on, "result") == [payload] * 12


def test_other_errors_are_not_taken_for_an_existing_job(on):
    with pytest.raises(Exception, match=r"1366|1406|1264|1048"):
        DIALECT.put(on, [job(1, priority=1 << 40)])


def test_the_same_put_twice_at_once_is_put_once(connect):
    rows = [job(number) for number in range(200)]
    done = []

    def put(on, given):
        done.append(DIALECT.put(on, given))
        on.commit()

    threads = [threading.Thread(target=put, args=(connect(), rows)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(done) == [False, True]


# Claiming


def test_claims_go_by_priority_and_time_and_mark_the_row(on):
    rows = [job(number, priority=number % 3) for number in range(30)]
    assert DIALECT.put(on, rows)
    claimed = DIALECT.claim(on, [1], 12, NODE, NOW + 99)
    assert [row[5] for row in claimed] == [row[6] for row in sorted(rows, key=lambda row: row[4])[:12]]
    go_on(on)
    marks = set(on.exec_driver_sql("SELECT node, fence, started_at FROM callboard_jobs WHERE state = 3"))
    assert marks == {(NODE, 1, NOW + 99)}
    assert column(on, "count(*)", "1") == [30]


def test_only_what_is_available_in_these_routes_is_claimed(on):
    assert DIALECT.put(on, [job(1, state=1), job(2, route=2), job(3, route=3), job(4, route=1)])
    assert [row[3] for row in DIALECT.claim(on, [1, 3, 77], 10, NODE, NOW)] == [3, 1]
    assert DIALECT.claim(on, [1, 3], 10, NODE, NOW) == []
    assert DIALECT.claim(on, [], 10, NODE, NOW) == [] == DIALECT.claim(on, [2], 0, NODE, NOW)


@pytest.mark.parametrize("routes", [2, 30, 700])
def test_many_routes_are_merged_in_order(on, routes):
    for number in range(1, routes + 1):
        on.exec_driver_sql("INSERT INTO callboard_routes VALUES (%s, 1, %s, 2, 'k', 1)", (number, f"q{number}"))
    chance = random.Random(routes)
    rows = [job(number, route=chance.randint(1, routes), priority=chance.randint(0, 9)) for number in range(300)]
    assert DIALECT.put(on, rows)
    order = [row[6] for row in sorted(rows, key=lambda row: row[4])]
    asked = list(range(1, routes + 1))
    assert [row[5] for row in DIALECT.claim(on, asked, 120, NODE, NOW)] == order[:120]
    assert [row[5] for row in DIALECT.claim(on, asked, 1000, NODE, NOW)] == order[120:]


def test_what_another_transaction_holds_is_passed_over(connect, on):
    assert DIALECT.put(on, [job(number) for number in range(40)])
    go_on(on)
    other = connect()
    first = DIALECT.claim(on, [1], 10, NODE, NOW)
    second = DIALECT.claim(other, [1], 10, OTHER, NOW)
    assert [row[5] - NOW for row in first] == list(range(10))
    assert [row[5] - NOW for row in second] == list(range(10, 20))
    assert [row[5] - NOW for row in DIALECT.claim(other, [1], 100, OTHER, NOW)] == list(range(20, 40))
    on.rollback()
    on.begin()
    assert [row[5] - NOW for row in DIALECT.claim(other, [1], 100, OTHER, NOW)] == list(range(10))


def test_claimers_at_once_take_all_and_none_twice(connect, on):
    assert DIALECT.put(on, [job(number, priority=number % 10) for number in range(2000)])
    on.commit()
    taken = []

    def claim(on, node):
        while rows := DIALECT.claim(on, [1], 23, node, NOW):
            taken.extend(row[0] for row in rows)
            go_on(on)

    threads = [threading.Thread(target=claim, args=(connect(), bytes([number]) * 16)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) == len(set(taken)) == 2000


def test_claims_and_ends_are_looked_up_by_index(on):
    assert DIALECT.put(on, [job(number) for number in range(50)])
    plans = []
    for text in (
        f"SELECT seq {room._READY} 1 ORDER BY sort, seq LIMIT 10",
        "SELECT seq FROM callboard_jobs WHERE state = 3",
        "SELECT domain, id FROM callboard_tags WHERE domain = 1 AND tag = 'x' AND id < 'y'",
        room._ending(NODE, [(number, 1, 6, number, number, 1, 0, number, None, None) for number in range(1, 20)]),
    ):
        plans += [(row[5], "filesort" in row[9]) for row in on.exec_driver_sql(f"EXPLAIN {text}")]
    assert plans == [("place", False), ("place", False), ("PRIMARY", False), ("PRIMARY", False)]


# Ending claims


def test_ends_write_what_each_row_says(on):
    assert DIALECT.put(on, [job(number) for number in range(7)])
    rows = DIALECT.claim(on, [1], 7, NODE, NOW)
    on.exec_driver_sql("UPDATE callboard_jobs SET progress = '[1,2,\"\"]'")
    ends = [
        ended(rows[0], result=b"\x00'%s\\"),
        ended(rows[1], result=b""),
        ended(rows[2]),
        ended(rows[3], 4, sort=NOW * 3, attempts=2),
        ended(rows[4], 7, reason="\U0001f980 '\\%s"),
        ended(rows[5], 2, sort=5 * schema.PRIORITY + NOW, deaths=2),
        ended(rows[6], 8, reason="timeout"),
    ]
    assert DIALECT.end(on, NODE, random.Random(1).sample(ends, 7)) == 7
    text = (
        "SELECT seq, fence, state, sort, run_at, attempts, deaths, finished_at, result, reason FROM callboard_jobs ORDER BY seq"
    )
    assert list(on.exec_driver_sql(text)) == ends
    assert column(on, "node") == [None] * 7
    assert column(on, "progress is null") == [0, 0, 0, 1, 0, 1, 0]


GAPS = {
    "none": list(range(40)),
    "few": [number for number in range(60) if number % 3],
    "many": list(range(0, 60, 5)),
    "two runs": [*range(20), *range(50, 70)],
    "one": [7],
}


@pytest.mark.parametrize("chosen", GAPS.values(), ids=GAPS.keys())
def test_ends_find_their_rows_whatever_lies_between(on, chosen):
    assert DIALECT.put(on, [job(number) for number in range(70)])
    rows = DIALECT.claim(on, [1], 70, NODE, NOW)
    ends = [ended(rows[number], sort=NOW * 2 - number, attempts=number, result=b"%d" % number) for number in chosen]
    assert DIALECT.end(on, NODE, ends) == len(chosen)
    text = "SELECT seq, fence, state, sort, run_at, attempts, deaths, finished_at, result, reason FROM callboard_jobs"
    assert list(on.exec_driver_sql(f"{text} WHERE state = 6 ORDER BY seq")) == ends
    assert column(on, "count(*)", "1") == [70]


@pytest.mark.parametrize("chosen", GAPS.values(), ids=GAPS.keys())
def test_a_condition_names_these_rows_and_no_others(on, chosen):
    assert DIALECT.put(on, [job(number) for number in range(70)])
    seqs = column(on, "seq")
    wanted = [seqs[number] for number in chosen]
    found = on.exec_driver_sql(f"SELECT seq FROM callboard_jobs WHERE {room._among(wanted)} ORDER BY seq")
    assert [row[0] for row in found] == wanted


def test_a_job_may_be_large_everywhere(on):
    args = random.Random(2).randbytes(256 * 1024)
    tags = ",".join(f"{number:02}" + "\U0001f980" * 62 for number in range(16))
    assert DIALECT.put(on, [job(1, args=args, tags=tags, meta="m" * 8000)])
    (row,) = DIALECT.claim(on, [1], 1, NODE, NOW)
    assert row[13:16] == (args, tags, "m" * 8000)
    on.exec_driver_sql("UPDATE callboard_jobs SET progress = %s", ("p" * 60_000,))
    assert DIALECT.end(on, NODE, [ended(row, 7, result=args[::-1], reason="\U0001f980" * 64)]) == 1
    assert list(on.exec_driver_sql("SELECT result, reason, length(progress) FROM callboard_jobs")) == [
        (args[::-1], "\U0001f980" * 64, 60_000)
    ]


def test_ends_that_all_agree(on):
    assert DIALECT.put(on, [job(number) for number in range(3)])
    rows = DIALECT.claim(on, [1], 3, NODE, NOW)
    assert DIALECT.end(on, NODE, [ended(row, sort=NOW) for row in rows]) == 3
    assert column(on, "finished_at") == [NOW] * 3


def test_each_guard_holds_back_its_row(on):
    assert DIALECT.put(on, [job(number) for number in range(6)])
    rows = DIALECT.claim(on, [1], 6, NODE, NOW)
    on.exec_driver_sql("UPDATE callboard_jobs SET cancel_requested = 1 WHERE seq = %s", (rows[1][0],))
    on.exec_driver_sql("UPDATE callboard_jobs SET node = %s WHERE seq = %s", (OTHER, rows[2][0]))
    on.exec_driver_sql("UPDATE callboard_jobs SET state = 2, node = NULL WHERE seq = %s", (rows[3][0],))
    on.exec_driver_sql("DELETE FROM callboard_jobs WHERE seq = %s", (rows[4][0],))
    assert DIALECT.end(on, NODE, [ended(row, fence=2 if row is rows[5] else 1) for row in rows]) == 1
    assert column(on, "state") == [6, 3, 3, 2, 3]
    assert DIALECT.end(on, NODE, []) == 0


def test_fences_above_what_a_float_holds(on):
    assert DIALECT.put(on, [job(number) for number in range(2)])
    rows = DIALECT.claim(on, [1], 2, NODE, NOW)
    high = (1 << 53) + 1
    on.exec_driver_sql("UPDATE callboard_jobs SET fence = %s WHERE seq = %s", (high, rows[0][0]))
    assert DIALECT.end(on, NODE, [ended(rows[0], fence=high - 1), ended(rows[1], fence=1)]) == 1
    assert DIALECT.end(on, NODE, [ended(rows[0], fence=high)]) == 1


# Upserts


def test_upserts_add_or_change_or_leave(on):
    def run(text, rows):
        columns = len(rows[0])
        one = "(" + ", ".join(["%s"] * columns) + ")"
        on.exec_driver_sql(text.replace(one, ", ".join([one] * len(rows)), 1), tuple(value for row in rows for value in row))

    counts = ("route", "state", "slot", "jobs")
    grows = DIALECT.upsert("callboard_counts", counts, counts[:3], {"jobs": "callboard_counts.jobs + {new}"})
    run(grows, [(1, 2, 0, 5), (1, 3, 0, 2)])
    run(grows, [(1, 2, 0, -2), (1, 6, 0, 2)])
    assert list(on.exec_driver_sql("SELECT state, jobs FROM callboard_counts ORDER BY state")) == [(2, 3), (3, 2), (6, 2)]
    keeps = DIALECT.upsert("callboard_tags", ("domain", "tag", "id"), ("domain", "tag", "id"), {})
    for _ in range(2):
        run(keeps, [(1, "a", NODE), (1, "a ", NODE), (1, "A", NODE), (1, "\U0001f980" * 64, NODE)])
    count = "SELECT count(*) FROM callboard_tags WHERE domain = 1 AND tag = %s"
    assert [on.exec_driver_sql(count, (tag,)).scalar() for tag in ("a", "a ", "A", "\U0001f980" * 64, "b")] == [1, 1, 1, 1, 0]


def test_values_that_are_not_sent_are_those_of_the_table(on):
    text = (
        "SELECT column_name, column_default FROM information_schema.columns"
        " WHERE table_schema = database() AND table_name = 'callboard_jobs'"
    )
    found = {name.lower(): value for name, value in on.exec_driver_sql(text)}
    said = {name: None if found[name] in (None, "NULL") else int(found[name]) for name in tables.DEFAULTS}
    assert said == tables.DEFAULTS
