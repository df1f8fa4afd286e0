"""Jobs in a user's own transaction: what is refused without a server, and how a handler completes its job."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from callboard import errors
from callboard.app import Callboard, Context
from callboard.jobs import model, transactions
from callboard.kit import uuid7
from tests.unit.app.test_context import JOB, Port

app = Callboard("t")


@app.job
async def work(ctx: Context, n: int = 0) -> int:
    return n


def test_an_argument_must_not_be_called_connection() -> None:
    with pytest.raises(errors.InvalidInput, match="'connection', which submit keeps for itself: rename it"):

        @app.job
        async def dial(connection: str) -> None: ...


async def test_sqlite_cannot() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as on, pytest.raises(errors.Unsupported, match="SQLite has one writer at a time"):
        await work.submit(connection=on)
    with orm.Session(engine) as session, pytest.raises(errors.Unsupported, match="MySQL or PostgreSQL"):
        await work.submit(connection=session)
    engine.dispose()


@pytest.mark.parametrize("store", ["memory:", "sqlite"])
async def test_an_app_whose_own_store_cannot(store: str, tmp_path: Any) -> None:
    async with app.connect(f"sqlite:///{tmp_path}/callboard.db" if store == "sqlite" else store):
        with pytest.raises(errors.Unsupported, match="takes no jobs inside your own transaction"):
            await work.submit(connection=object())


async def test_what_is_no_connection() -> None:
    for given in ("mysql://", sa.create_engine("sqlite://")):
        with pytest.raises(errors.InvalidInput, match="is no connection: give a SQLAlchemy Connection or Session"):
            await work.submit(connection=given)


async def test_the_arguments_are_checked_first() -> None:
    with pytest.raises(errors.InvalidArguments):
        await work.submit(connection=object(), n="x")


class Joined:
    """What `transactions.complete` was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        monkeypatch.setattr(transactions, "complete", self._complete)

    def _complete(self, connection: Any, job: model.Job, result: bytes | None, now: int) -> None:
        if self.error is not None:
            raise self.error
        self.asked.append((connection, job, result))


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Joined:
    return Joined(monkeypatch)


def made() -> tuple[Context, Port]:
    port = Port()
    return Context(JOB, port, lambda value: work.handler.result.encode_within(100, value)), port


def test_completing(joined: Joined) -> None:
    ctx, port = made()
    assert ctx.complete_in("connection", 7) is None
    assert joined.asked == [("connection", JOB, msgspec.msgpack.encode(7))]
    assert port.joined
    with pytest.raises(errors.InvalidInput, match="once in an attempt"):
        ctx.complete_in("connection", 7)


def test_completing_with_what_is_no_result(joined: Joined) -> None:
    ctx, port = made()
    with pytest.raises(errors.InvalidInput, match="cannot be kept"):
        ctx.complete_in("connection", "seven")
    assert (joined.asked, port.joined) == ([], False)
    large = Context(JOB, port, lambda value: work.handler.result.encode_within(3, value))
    with pytest.raises(errors.TooLarge):
        large.complete_in("connection", 1 << 40)


def test_completing_what_is_lost_can_be_tried_again(joined: Joined) -> None:
    ctx, port = made()
    joined.error = errors.ClaimLost("gone")
    with pytest.raises(errors.ClaimLost):
        ctx.complete_in("connection", 7)
    assert not port.joined
    joined.error = None
    ctx.complete_in("connection", 7)
    assert port.joined


def test_completing_on_sqlite() -> None:
    ctx, port = made()
    engine = sa.create_engine("sqlite://")
    with engine.connect() as on, pytest.raises(errors.Unsupported, match="SQLite"):
        ctx.complete_in(on, 7)
    engine.dispose()
    assert not port.joined
    assert uuid7.text(JOB.id) == ctx.id
