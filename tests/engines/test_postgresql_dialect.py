"""PostgreSQL's statements on a real server: rows come and go as they were given, concurrent claims share, plans do not decay."""

from __future__ import annotations

import itertools
import re
import threading

import pytest
import sqlalchemy as sa

from callboard.jobs.engines.postgresql import binary, dialect, tables
from callboard.jobs.engines.sql import schema

NODE, OTHER = b"n" * 16, b"o" * 16
NOW = 1_700_000_000_000_000
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def product():
    return dialect.PostgreSql()


@pytest.fixture(scope="module")
def stored(private_postgresql, product):
    """Connections as a program's own: a transaction begins with its first statement."""
    url = sa.make_url(private_postgresql.database()).set(drivername="postgresql+psycopg")
    made = sa.create_engine(url, poolclass=sa.NullPool)
    with made.begin() as on:
        for _ in range(2):  # A step may be run again after a part of it was.
            for text in product.tables:
                on.exec_driver_sql(text)
    return made


@pytest.fixture
def engine(postgresql, stored):
    with stored.begin() as on:
        on.exec_driver_sql("TRUNCATE callboard_jobs")
    return stored


@pytest.fixture
def on(engine):
    with engine.connect() as on, on.begin() as transaction:
        yield on
        transaction.rollback()


def fresh(route=1, sort=None, domain=1, **changes):
    """A row of `schema.INSERTED`; without `sort`, behind all that were made before."""
    number = next(_numbers)
    row = {
        "domain": domain,
        "id": number.to_bytes(16, "big"),
        "route": route,
        "state": 2,
        "sort": 5 * schema.PRIORITY + NOW + number if sort is None else sort,
        "priority": 5,
        "run_at": NOW + number if sort is None else sort,
        "fence": 0,
        "run": 1,
        "max_attempts": 3,
        "codec": 1,
        "digest": b"d" * 16,
        "args": b"\x80",
        "tags": None,
        "meta": None,
        "backoff": 1_000_000,
        "timeout": None,
        "submitted_at": NOW,
    } | changes
    return tuple(row.values())


def many(n, route=1):
    return [fresh(route) for _ in range(n)]


def ids(rows):
    """Of rows of INSERTED."""
    return [row[1] for row in rows]


def claimed_ids(rows):
    return [row[2] for row in rows]


def ended(row, state=6, **changes):
    """A row of `schema.ENDED` for a claimed one."""
    end = {"seq": row[0], "fence": row[6], "state": state, "sort": NOW, "run_at": row[5], "attempts": 1, "deaths": 0}
    end |= {"finished_at": NOW if state >= 6 else None, "result": b"\x00\xff", "reason": None}
    return tuple((end | changes).values())


def count(on, where="true"):
    return on.exec_driver_sql(f"SELECT count(*) FROM callboard_jobs WHERE {where}").scalar()


def test_what_is_put_is_claimed_as_it_was(on, product):
    big = bytes(range(256)) * 1024
    rows = [
        fresh(),
        fresh(args=big, digest=b"", tags="a,ü", meta='{"k":"\\u0000"}', timeout=7, backoff=2**40, run=3, fence=9, codec=2),
        fresh(route=2**31 - 1, domain=2**31 - 1, priority=9, sort=9 * schema.PRIORITY + NOW, run_at=NOW, tags="\U0001f600"),
    ]
    assert product.put(on, rows)
    claimed = product.claim(on, [1, 2**31 - 1], 10, NODE, NOW)
    columns = schema.INSERTED.replace(" ", "").split(",")
    read = schema.CLAIMED.replace(" ", "").split(",")
    for given, got in zip(rows, claimed, strict=True):
        before, after = dict(zip(columns, given, strict=True)), dict(zip(read, got, strict=True))
        assert after.pop("fence") == before.pop("fence") + 1
        assert after.pop("attempts") == after.pop("deaths") == 0
        assert all(before[name] == value for name, value in after.items() if name != "seq")
    assert [row[0] for row in claimed] == sorted(row[0] for row in claimed)


def test_what_is_put_claimed_runs_from_the_start_beside_what_waits(on, product):
    rows = [(*fresh(), None, None), (*fresh(state=3, fence=1, sort=NOW), NODE, NOW + 7), (*fresh(tags="a"), None, None)]
    assert product.put(on, rows)
    read = "SELECT id, state, fence, node, started_at FROM callboard_jobs ORDER BY seq"
    found = [tuple(bytes(each) if isinstance(each, memoryview) else each for each in row) for row in on.exec_driver_sql(read)]
    assert [row[1:] for row in found] == [(2, 0, None, None), (3, 1, NODE, NOW + 7), (2, 0, None, None)]
    assert claimed_ids(product.claim(on, [1], 10, NODE, NOW)) == [rows[0][1], rows[2][1]]


def test_jobs_are_found_by_their_ids(on, product):
    rows = many(700)
    assert product.put(on, [*rows, fresh(domain=2)])
    found = {bytes(id): seq for id, seq in product.places(on, rows[0][0], [*ids(rows[:650]), b"absent".ljust(16)])}
    assert sorted(found, key=found.__getitem__) == ids(rows[:650])
    assert list(product.places(on, 99, ids(rows[:1]))) == []


def test_numbers_grow_in_the_order_of_the_rows(on, product):
    rows = many(700)
    assert product.put(on, rows)
    stored = on.exec_driver_sql("SELECT id FROM callboard_jobs ORDER BY seq").scalars()
    assert list(stored) == ids(rows)


def test_a_duplicate_leaves_nothing_and_the_transaction_goes_on(on, product):
    first = many(3)
    assert product.put(on, first)
    assert not product.put(on, [*many(1000), first[1], *many(1000)])
    assert count(on) == 3
    assert product.put(on, many(2))
    assert not product.put(on, first[:1])
    assert count(on) == 5
    assert product.put(on, [])


def test_putting_may_be_the_first_statement_of_a_programs_transaction(engine, product):
    rows = many(2)
    with engine.connect() as on:
        with on.begin():
            assert product.put(on, rows)
        with on.begin() as transaction:
            assert not product.put(on, rows[:1])
            transaction.rollback()
        with on.begin():
            assert count(on) == 2


def test_of_two_who_put_the_same_job_one_is_told(engine, product):
    row = fresh()
    told = []
    with engine.connect() as on, on.begin() as transaction:
        assert product.put(on, [row])

        def rival():
            with engine.begin() as other:
                told.append(product.put(other, [fresh(), row]))

        thread = threading.Thread(target=rival)
        thread.start()
        transaction.commit()
        thread.join(10)
    assert told == [False]


def test_a_claim_takes_the_first_ones_in_their_order(on, product):
    late, urgent, early = fresh(sort=300), fresh(sort=100), fresh(sort=200)
    equal = fresh(sort=200)
    waiting = fresh(sort=1, state=1)
    assert product.put(on, [late, urgent, early, equal, waiting])
    assert claimed_ids(product.claim(on, [1], 3, NODE, NOW)) == ids([urgent, early, equal])
    assert claimed_ids(product.claim(on, [1], 3, NODE, NOW)) == ids([late])
    assert product.claim(on, [1], 3, NODE, NOW) == []
    written = on.exec_driver_sql("SELECT DISTINCT state, fence, node, started_at FROM callboard_jobs WHERE state <> 1").all()
    assert written == [(3, 1, NODE, NOW)]


def test_a_claim_merges_any_number_of_routes(on, product):
    rows = [fresh(route=1 + number * 7 % 300) for number in range(600)]
    assert product.put(on, rows)
    routes = list(range(1, 301))
    taken = product.claim(on, routes, 250, NODE, NOW) + product.claim(on, routes, 1000, NODE, NOW)
    assert claimed_ids(taken) == ids(rows)
    assert product.claim(on, routes, 5, NODE, NOW) == []
    assert product.claim(on, [], 5, NODE, NOW) == []


@pytest.mark.parametrize("routes", [[1], [1, 2], list(range(1, 200))])
def test_a_claim_passes_over_what_another_holds(engine, product, routes):
    rows = [fresh(route=1 + number % min(len(routes), 2)) for number in range(100)]
    with engine.begin() as on:
        assert product.put(on, rows)
    with engine.begin() as first, engine.begin() as second:
        assert claimed_ids(product.claim(first, routes, 40, NODE, NOW)) == ids(rows[:40])
        assert claimed_ids(product.claim(second, routes, 2, OTHER, NOW)) == ids(rows[40:42])
        assert claimed_ids(product.claim(second, routes, 100, OTHER, NOW)) == ids(rows[42:])
        assert product.claim(first, routes, 10, NODE, NOW) == []
    with engine.begin() as on:
        assert count(on, "state = 3") == 100


def test_concurrent_claims_and_ends_share_all_jobs_without_a_deadlock(engine, product):
    with engine.begin() as on:
        assert product.put(on, many(600) + many(600, route=2))
    taken, failures = [], []

    def work(node):
        try:
            with engine.connect() as on:
                while True:
                    with on.begin():
                        rows = product.claim(on, [1, 2], 30, node, NOW)
                    if not rows:
                        return
                    with on.begin():
                        assert product.end(on, node, [ended(row) for row in reversed(rows)]) == len(rows)
                    taken.extend(claimed_ids(rows))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(bytes([number]) * 16,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    assert len(taken) == len(set(taken)) == 1200


def test_an_end_touches_only_claims_that_are_held(on, product):
    assert product.put(on, many(6))
    held, wished, foreign, fenced, over, retried = product.claim(on, [1], 6, NODE, NOW)
    on.exec_driver_sql("UPDATE callboard_jobs SET cancel_requested = 1 WHERE seq = %s", (wished[0],))
    on.exec_driver_sql("UPDATE callboard_jobs SET node = %s WHERE seq = %s", (OTHER, foreign[0]))
    on.exec_driver_sql("UPDATE callboard_jobs SET progress = '[1,2,\"\"]'")
    assert product.end(on, NODE, [ended(over)]) == 1
    assert product.end(on, NODE, [ended(each) for each in (wished, foreign, over)]) == 0
    assert product.end(on, NODE, [ended(fenced, fence=fenced[6] + 1)]) == 0
    assert product.end(on, OTHER, [ended(held)]) == 0
    again = ended(retried, 4, sort=NOW + 5, run_at=NOW + 5, deaths=2, result=None)
    assert product.end(on, NODE, [again, ended(held, 7, reason="failed", result=None)]) == 2
    assert product.end(on, NODE, []) == 0
    columns = "state, sort, run_at, attempts, deaths, finished_at, result, reason, node, progress"
    query = f"SELECT {columns} FROM callboard_jobs WHERE seq = %s"
    assert on.exec_driver_sql(query, (retried[0],)).one() == (4, NOW + 5, NOW + 5, 1, 2, None, None, None, None, None)
    assert on.exec_driver_sql(query, (held[0],)).one() == (7, NOW, held[5], 1, 0, NOW, None, "failed", None, '[1,2,""]')
    assert on.exec_driver_sql(query, (over[0],)).one()[6] == b"\x00\xff"


def test_an_upsert_adds_changes_or_leaves(on, product):
    columns, key = ("route", "state", "slot", "jobs"), ("route", "state", "slot")
    adding = product.upsert("callboard_counts", columns, key, {"jobs": "callboard_counts.jobs + {new}"})
    on.exec_driver_sql(adding, (1, 2, 3, 10))
    on.exec_driver_sql(adding.replace("(%s, %s, %s, %s)", "(%s, %s, %s, %s), (%s, %s, %s, %s)"), (1, 2, 3, -4, 1, 2, 4, 1))
    on.exec_driver_sql(product.upsert("callboard_counts", columns, key, {}), (1, 2, 3, 99))
    assert on.exec_driver_sql("SELECT slot, jobs FROM callboard_counts ORDER BY slot").all() == [(3, 6), (4, 1)]


def test_names_are_compared_bytewise(on):
    on.exec_driver_sql("INSERT INTO callboard_domains(name) VALUES ('b'), ('a.b'), ('a-c'), ('B')")
    assert list(on.exec_driver_sql("SELECT name FROM callboard_domains ORDER BY name").scalars()) == ["B", "a-c", "a.b", "b"]


def test_tidying_needs_no_more_than_the_tables_owner(engine):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
        on.exec_driver_sql(tables.TIDY)


def test_plans_made_on_an_empty_table_look_by_index(engine, product):
    """A plan is kept for all that comes later: none reads the table from end to end."""
    with engine.begin() as on:
        on.exec_driver_sql(dialect.PLANNING)
        on.exec_driver_sql("ANALYZE callboard_jobs")
        for number, text in enumerate((dialect._CLAIM, dialect._HOLD, dialect._END, dialect._merged(8)[0])):
            on.exec_driver_sql(f"PREPARE p{number} AS {text}")
            nothing = ", ".join(["NULL"] * max(map(int, re.findall(r"\$(\d+)", text))))
            plan = "\n".join(on.exec_driver_sql(f"EXPLAIN EXECUTE p{number}({nothing})").scalars())
            assert not re.search("Seq Scan|Hash|Sort|Materialize", plan.replace("Sort Key", "")), plan
            assert "Index" in plan


@pytest.mark.parametrize(
    ("array", "type", "values"),
    [
        (binary.smallints, "smallint", [0, -1, 32767]),
        (binary.ints, "integer", [0, -1, 2**31 - 1]),
        (binary.bigints, "bigint", [0, -1, 2**63 - 1]),
        (binary.bigints, "bigint", [None, 5, None]),
        (binary.byteas, "bytea", [b"", None, bytes(range(256))]),
        (binary.texts, "text", ["", None, "ü\U0001f600"]),
        (binary.texts, "text", [None]),
    ],
)
def test_arrays_are_read_as_they_were(on, array, type, values):
    rows = on.exec_driver_sql(f"SELECT * FROM unnest(%s::{type}[])", (array(values),)).scalars()
    assert list(rows) == values
