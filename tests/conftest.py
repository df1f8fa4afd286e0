"""What all tests share: a data directory, waiting with a deadline, private servers, and an honest account at the end of what
was not run. With CALLBOARD_TEST_ALL_ENGINES=1, as CI has it, a run that lacks a server fails; so does a whole run that saw
other promises kept than README's table shows. Properties are tried with the same examples every time, or with new and more
ones where HYPOTHESIS_PROFILE=long."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
import structlog
from hypothesis import HealthCheck, settings

from callboard.kit import ports
from callboard.testing.engines import activemq as activemqs
from callboard.testing.engines import galera as galeras
from callboard.testing.engines import mariadb as mariadbs
from callboard.testing.engines import postgresql as postgresqls
from callboard.testing.engines import zookeeper as zookeepers
from tests.conformance import table

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ci", derandomize=True, database=None, deadline=None, max_examples=100, suppress_health_check=CHECKS)
settings.register_profile("long", print_blob=True, database=None, deadline=None, max_examples=3000, suppress_health_check=CHECKS)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

POLL_SECONDS = 0.01
INSTALL = "make engines"
SHARED = ("zookeeper", "mariadb", "galera", "postgresql", "activemq")
"""Fixtures of servers that are started once: all tests that use one run in the same worker."""


class Eventually(Protocol):
    """Wait until a condition holds; fail, naming it, when it does not within `seconds`."""

    async def __call__(self, condition: Callable[[], object], seconds: float = 10) -> None: ...


async def _eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await _value(condition):
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        if not await _value(condition):  # It may have come true while this process stood still.
            pytest.fail(f"not true after {seconds:g} s: {inspect.getsource(condition).strip()}")


async def _value(condition: Callable[[], object]) -> object:
    found = condition()
    return await found if isinstance(found, Awaitable) else found


@pytest.fixture
def eventually() -> Eventually:
    """Poll a condition (sync or async) with a deadline: `await eventually(lambda: done, 5)`."""
    return _eventually


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What a command sets up for its own process ends with the test: its stream is the test's."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture(scope="session")
def private_zookeeper() -> Iterator[zookeepers.Ensemble]:
    if reason := zookeepers.installed():
        pytest.skip(f"needs ZooKeeper ({reason}): {INSTALL}")
    with zookeepers.Ensemble() as ensemble:
        yield ensemble


@pytest.fixture
def zookeeper(private_zookeeper: zookeepers.Ensemble) -> Iterator[zookeepers.Ensemble]:
    """A ZooKeeper ensemble of three servers that all serve. A test may do to them what it likes; after it they serve again."""
    yield private_zookeeper
    for member in private_zookeeper.members:
        member.cont()
    private_zookeeper.start()


@pytest.fixture(scope="session")
def private_mariadb() -> Iterator[mariadbs.MariaDb]:
    if reason := mariadbs.installed() or mariadbs.driver():
        pytest.skip(f"needs MariaDB ({reason}): {INSTALL}")
    with mariadbs.MariaDb() as server:
        yield server


@pytest.fixture
def mariadb(private_mariadb: mariadbs.MariaDb) -> Iterator[mariadbs.MariaDb]:
    """A MariaDB server that serves. A test may do to it what it likes; after it it serves again, set as it was."""
    yield private_mariadb
    private_mariadb.mend()


@pytest.fixture
def mariadb_database(mariadb: mariadbs.MariaDb) -> str:
    """The URL of a new empty database."""
    return mariadb.database()


@pytest.fixture(scope="session")
def private_galera() -> Iterator[galeras.Cluster]:
    if reason := galeras.installed() or mariadbs.driver():
        pytest.skip(f"needs Galera ({reason}): {INSTALL}")
    with galeras.Cluster() as cluster:
        yield cluster


@pytest.fixture
def galera(private_galera: galeras.Cluster) -> Iterator[galeras.Cluster]:
    """A Galera cluster of three servers that all serve. A test may do to them what it likes; after it they serve again."""
    yield private_galera
    private_galera.mend()


@pytest.fixture
def galera_database(galera: galeras.Cluster) -> str:
    """The URL of a new empty database, with all hosts."""
    return galera.database()


@pytest.fixture(scope="session")
def private_postgresql() -> Iterator[postgresqls.PostgreSql]:
    if reason := postgresqls.installed():
        pytest.skip(f"needs PostgreSQL ({reason}): {INSTALL}")
    with postgresqls.PostgreSql() as server:
        yield server


@pytest.fixture
def postgresql(private_postgresql: postgresqls.PostgreSql) -> Iterator[postgresqls.PostgreSql]:
    """A PostgreSQL server that serves. A test may do to it what it likes; after it it serves again."""
    yield private_postgresql
    private_postgresql.mend()


@pytest.fixture
def postgresql_database(postgresql: postgresqls.PostgreSql) -> str:
    """The URL of a new empty database."""
    return postgresql.database()


@pytest.fixture(scope="session")
def private_activemq() -> Iterator[activemqs.Broker]:
    if reason := activemqs.installed():
        pytest.skip(f"needs ActiveMQ ({reason}): {INSTALL}")
    with activemqs.Broker(users={activemqs.USER: activemqs.PASSWORD}) as broker:
        yield broker


@pytest.fixture
def activemq(private_activemq: activemqs.Broker) -> Iterator[activemqs.Broker]:
    """An ActiveMQ broker that serves, with no queues. A test may do to it what it likes; after it it serves again."""
    private_activemq.mend()
    yield private_activemq


def pytest_configure() -> None:
    """Give each of several workers ports of its own."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = len(ports._FREE) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports._FREE = ports._FREE[number * share :][:share]  # type: ignore[misc]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests that take minutes")
    parser.addoption("--renew", action="store_true", help="write README's table of the promises that engines keep")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        shared = [name for name in SHARED if name in _asked(item)]
        if shared:  # One group: of a second server that it asks for there may be two.
            item.add_marker(pytest.mark.xdist_group(shared[0]))
    if not config.getoption("--long"):
        skip = pytest.mark.skip(reason="takes minutes: make faults, make soak")
        for item in items:
            if "long" in item.keywords:
                item.add_marker(skip)


def _asked(item: pytest.Item) -> set[object]:
    """The fixtures of a test, and those that its parameters name."""
    callspec = getattr(item, "callspec", None)
    named = callspec.params.values() if callspec else ()
    return {*getattr(item, "fixturenames", ()), *(value for value in named if isinstance(value, str))}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what was measured, and what was not run."""
    _tell_figures(terminalreporter)
    _tell_skips(terminalreporter)
    _tell_promises(terminalreporter)


def _tell_figures(terminalreporter: pytest.TerminalReporter) -> None:
    """List what tests gave to `record_property("figure", ...)`; reports carry it, from xdist's workers too."""
    tests = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    figures = [
        (report.nodeid.rpartition("::")[2], value) for report in tests for key, value in report.user_properties if key == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
    for test, figure in sorted(figures):
        terminalreporter.write_line(f"{figure}  ({test})")


def _tell_skips(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was not run. A skip's reason says what it lacks and the command that brings it: `needs mysql: make engines`."""
    reasons = _not_run(terminalreporter)
    terminalreporter.section("not run")
    for reason, tests in sorted(reasons.items()):
        terminalreporter.write_line(f"{tests} tests: {reason}")
    if not reasons:
        terminalreporter.write_line("nothing: all tests that exist here were run")
    if _lacking(terminalreporter):
        terminalreporter.write_line("failed: CALLBOARD_TEST_ALL_ENGINES is set, and a server that tests need is missing")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    if session.exitstatus != pytest.ExitCode.OK:
        return
    if (found := _promises(reporter)) and session.config.getoption("--renew"):
        table.renew(found)
    if _lacking(reporter) or _untold(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _promises(terminalreporter: pytest.TerminalReporter) -> table.Seen | None:
    """What became of the shipped suites' promises; None when some were not asked."""
    kinds = ("passed", "failed", "error", "skipped")
    found = table.seen((kind, report) for kind in kinds for report in terminalreporter.stats.get(kind, []))
    return found if table.whole(found) else None


def _untold(terminalreporter: pytest.TerminalReporter) -> bool:
    """Whether README's table shows something else than this run saw."""
    found = _promises(terminalreporter)
    return found is not None and table.differs(found)


def _tell_promises(terminalreporter: pytest.TerminalReporter) -> None:
    renewed = terminalreporter.config.getoption("--renew")
    if not renewed and _untold(terminalreporter):
        terminalreporter.write_line(
            f"failed: README's table of the engines shows other promises kept than this run saw: {table.RENEW}"
        )


def _not_run(terminalreporter: pytest.TerminalReporter) -> Counter[str]:
    reports = terminalreporter.stats.get("skipped", [])
    return Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)


def _lacking(terminalreporter: pytest.TerminalReporter) -> bool:
    """Whether tests were not run for lack of a server, where none may be."""
    demanded = os.environ.get("CALLBOARD_TEST_ALL_ENGINES") == "1"
    return demanded and any(reason.endswith(INSTALL) for reason in _not_run(terminalreporter))
