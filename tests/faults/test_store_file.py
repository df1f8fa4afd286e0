"""The store's file is not what it should be when a deployment starts: one line says so, nothing is changed or left running."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from callboard import errors
from callboard.cli import exits
from callboard.jobs import engines
from tests.faults.deployment import Deployment


def text(file: Path) -> None:
    file.write_text("Dear diary, this is no database. " * 200)


def foreign(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE diary(line)")


def newer(file: Path) -> None:
    engines.open(f"sqlite:///{file}").close()
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE store SET version = 900, min_reader = 900")
        database.commit()


def damaged(file: Path) -> None:
    """Every page but the first is overwritten."""
    engines.open(f"sqlite:///{file}").close()
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = file.stat().st_size
    with file.open("r+b") as open_:
        open_.seek(4096)
        open_.write(b"\xaa" * (size - 4096))


def directory(file: Path) -> None:
    file.mkdir()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (text, errors.StoreForeign),
        (foreign, errors.StoreForeign),
        (newer, errors.StoreTooNew),
        (damaged, errors.StoreCorrupt),
        (directory, errors.DataUnusable),
    ],
)
async def test_what_is_no_store_of_ours_is_refused(
    deployment: Deployment, spoil: Callable[[Path], None], error: type[errors.CallboardError]
):
    deployment.data.mkdir()
    file = deployment.data / "callboard.db"
    spoil(file)
    before = file.read_bytes() if file.is_file() else None
    started = await deployment.run("up", "--port", str(deployment.port))
    assert started.code == exits.Exit.STARTUP, started
    assert len(started.err.splitlines()) == 1, started
    assert error.code in started.err and str(file) in started.err, started
    assert before == (file.read_bytes() if file.is_file() else None)
    assert not deployment.nodes()


async def test_a_store_that_was_deleted_is_begun_anew(deployment: Deployment):
    """Also beside the log of the old one, which must not be taken for the new one's."""
    await deployment.up(workers=1)
    await deployment.submit("nap", 3)
    await deployment.finished()
    deployment.sweep()
    assert (deployment.data / "callboard.db-wal").exists()
    (deployment.data / "callboard.db").unlink()
    deployment.acknowledged.clear()

    await deployment.up(workers=1)
    assert [job async for job in deployment.client.jobs()] == []
    await deployment.submit("nap", 3)
    assert {job.state for job in await deployment.finished()} == {"completed"}
