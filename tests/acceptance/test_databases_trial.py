"""What a new user of a database met on the way: mistakes are named, few rights are enough, and `up` says where the jobs go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from callboard.cli import configuration, deployment, program
from callboard.node import agent
from callboard.testing.engines import mariadb as mariadbs
from callboard.testing.engines import postgresql as postgresqls

SECRET = "open-sesame"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line here; return its exit code and what it printed, which never shows the password."""
    monkeypatch.chdir(tmp_path)

    def run(*tokens: str) -> tuple[int, str, str]:
        code = program.run(tokens)
        out, err = capsys.readouterr()
        assert SECRET not in out + err
        return code, out, err

    return run


def found(run: Run, url: str, level: str) -> list[str]:
    """What `check` says of a level, each with its mend."""
    _, out, err = run("check", url, "--json")
    assert not err
    return [f"{each['found']}: {each['mend']}" for each in json.loads(out) if each["level"] == level]


@pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
def test_a_host_that_nobody_knows_is_named(run: Run, scheme: str) -> None:
    (said,) = found(run, f"{scheme}://callboard:{SECRET}@nobody.invalid/callboard", "unfit")
    assert "nobody.invalid" in said and said.endswith("correct the host in the URL, or make the name known")


@pytest.mark.parametrize("place", ["%2Frun%2Fmysqld.sock", ""])
def test_a_socket_file_is_no_host(run: Run, place: str) -> None:
    code, out, err = run("check", f"mysql://callboard:{SECRET}@{place}/callboard")
    assert (code, out) == (2, "") and "socket file" in err and err.count("\n") == 1


def test_a_setting_of_a_wrong_type_does_not_show_the_password(run: Run) -> None:
    Path("callboard.toml").write_text(f'[store]\nurl = ["mysql://callboard:{SECRET}@db/callboard"]\n')
    code, _, err = run("check")
    assert code == 2 and "store.url" in err and "invalid_setting" in err


def test_a_setting_without_its_flag_counts(run: Run) -> None:
    code, _, err = run("up", "--data", "data", "--set", f"store.url=mysql://callboard:{SECRET}@127.0.0.1:1/callboard")
    assert code == 5 and "127.0.0.1:1 does not answer" in err


def test_up_says_where_the_jobs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)

    def announced(url: str) -> str:
        given = configuration.load(None, {"store.url": url})
        deployment._announce(given, agent.Started(str(tmp_path), [], None, 0), None, json=False)
        return capsys.readouterr().out

    url = f"mysql://callboard:{SECRET}@db/jobs"
    said = announced(url)
    assert "mysql://callboard@db:3306/jobs" in said and SECRET not in said
    assert "app.connect() opens another store here" in said  # It was told by a flag, and programs know none.
    Path("callboard.toml").write_text(f'[store]\nurl = "{url}"\n')
    assert "app.connect()" not in announced(url)


def test_few_rights_are_enough_on_mariadb(run: Run, mariadb: mariadbs.MariaDb) -> None:
    owner = mariadb.database()
    name = owner.rpartition("/")[2]
    login = f"IDENTIFIED BY '{SECRET}'"
    mariadb.sql(f"""
        CREATE OR REPLACE USER `odd@name`@`%` {login}, few@`%` {login}, acting@`%` {login};
        GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX ON {name}.* TO `odd@name`@`%`;
        GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO few@`%`;
        CREATE OR REPLACE ROLE actor; GRANT ALL ON {name}.* TO actor; GRANT actor TO acting@`%`;
        SET DEFAULT ROLE actor FOR acting@`%`""")
    few, odd, acting = (f"mysql://{user}:{SECRET}@127.0.0.1:{mariadb.port}/{name}" for user in ("few", "odd%40name", "acting"))
    assert [each for each in found(run, few, "unfit") if "lacks CREATE" in each]
    assert run("migrate", few)[0] == 6
    assert not found(run, odd, "unfit") and run("migrate", odd)[0] == 0
    assert not found(run, few, "unfit") and "callboard migrate" in found(run, few, "warning")[0]
    assert run("migrate", few)[1].startswith("nothing to do")
    assert not found(run, acting, "unfit") and "role" in found(run, acting, "warning")[0]
    (wrong,) = found(run, f"{owner} ", "unfit")
    assert wrong.endswith("correct the name of the database in the URL")


def test_few_rights_are_enough_on_postgresql(run: Run, postgresql: postgresqls.PostgreSql) -> None:
    owner = postgresql.database()
    name = owner.rpartition("/")[2]
    postgresql.sql(f"CREATE ROLE few_{name} LOGIN PASSWORD '{SECRET}'")
    few = f"postgresql://few_{name}:{SECRET}@127.0.0.1:{postgresql.port}/{name}"
    try:
        assert "GRANT CREATE" in found(run, few, "unfit")[0]
        assert run("migrate", owner)[0] == 0
        assert "GRANT SELECT" in found(run, few, "unfit")[0]
        postgresql.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO few_{name}", name)
        assert not found(run, few, "unfit") and "callboard migrate" in found(run, few, "warning")[0]
        assert run("migrate", few)[1].startswith("nothing to do")
        postgresql.sql(f"ALTER ROLE few_{name} SET search_path = nowhere")
        assert "search_path" in found(run, few, "unfit")[0]
        code, _, err = run("migrate", few)
        assert code == 6 and "search_path" in err
        assert "no PostgreSQL" not in found(run, f"{owner}?sslmode=odd", "unfit")[0]
        assert "correct sslmode" in found(run, f"{owner}?sslmode=odd", "unfit")[0]
    finally:
        postgresql.sql(f"DROP OWNED BY few_{name}; DROP ROLE few_{name}", name)


def test_the_other_products_port_is_named(run: Run, mariadb: mariadbs.MariaDb) -> None:
    (said,) = found(run, f"postgresql://callboard:{SECRET}@127.0.0.1:{mariadb.port}/callboard", "unfit")
    assert said.endswith("what answers there is no PostgreSQL")
