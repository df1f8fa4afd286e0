from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from callboard.testing.engines import galera, haproxy, mariadb, packages, postgresql, zookeeper

COMMAND = [sys.executable, "-m", "callboard.testing.engines"]
FAKE = """#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >> {log}
"""


@pytest.fixture
def missing(monkeypatch):
    """A product that is missing, until it was installed."""
    product = packages.Product("thing", lambda: "there is no thing", ("thing-server", "thing-tools"))
    monkeypatch.setattr(packages, "PRODUCTS", (product,))


@pytest.fixture
def asked(monkeypatch, tmp_path: Path) -> Path:
    """A stand-in for apt-get that writes down what it was asked."""
    log = tmp_path / "asked"
    (tmp_path / "apt-get").write_text(FAKE.format(log=log))
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return log


def test_only_what_is_missing_is_installed(missing, asked, monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert packages.install() == 1  # The stand-in brings nothing.
    assert asked.read_text().splitlines() == [
        "noninteractive update -q",
        "noninteractive install -q -y --no-install-recommends thing-server thing-tools",
    ]
    assert "thing: there is no thing" in capsys.readouterr().out


def test_nothing_is_asked_when_all_is_there(asked, monkeypatch, capsys):
    monkeypatch.setattr(packages, "PRODUCTS", ())
    assert packages.install() == 0
    assert not asked.exists() and "is installed" in capsys.readouterr().out


def test_somebody_else_than_root_is_told(missing, asked, monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert packages.install() == 1
    said = capsys.readouterr().out
    assert "sudo make engines" in said and "thing-server thing-tools" in said and not asked.exists()


def test_another_system_is_told(missing, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.install() == 1
    assert "neither Debian nor Ubuntu" in capsys.readouterr().out


def test_a_failing_installer_is_told(missing, asked, monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    asked.with_name("apt-get").write_text("#!/bin/sh\nexit 100\n")
    assert packages.install() == 1
    assert "apt-get update failed with 100" in capsys.readouterr().out


def test_the_command_lists_and_explains_itself():
    ran = subprocess.run([*COMMAND, "list"], capture_output=True, text=True)
    assert len(ran.stdout.splitlines()) == len(packages.PRODUCTS)
    assert ran.stdout.startswith("zookeeper: ") and ran.returncode in (0, 1)
    assert "install | list" in subprocess.run(COMMAND, capture_output=True, text=True).stderr


def test_zookeeper_says_what_it_lacks(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert zookeeper.installed() == "there is no java"
    (tmp_path / "java").write_text("")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setattr(zookeeper, "_JARS", (tmp_path / "zookeeper.jar",))
    assert zookeeper.installed() == f"{tmp_path}/zookeeper.jar is missing"
    (tmp_path / "zookeeper.jar").write_text("")
    assert zookeeper.installed() is None


def test_databases_say_which_program_they_lack(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("callboard.testing.engines.servers.program", lambda name: None)
    monkeypatch.setattr(postgresql, "_HOME", tmp_path)
    assert mariadb.installed() == galera.installed() == "there is no mariadbd"
    assert postgresql.installed() == "there is no postgres"
    assert haproxy.installed() == "there is no haproxy"


def test_databases_say_which_account_they_lack(monkeypatch):
    monkeypatch.setattr("callboard.testing.engines.servers.program", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("callboard.testing.engines.ground.known", lambda name: False)
    assert mariadb.installed() == "there is no user mysql"
    assert postgresql.installed() == "there is no user postgres"


def test_galera_says_what_it_lacks_beside_the_server(monkeypatch, tmp_path):
    monkeypatch.setattr(mariadb, "installed", lambda: None)
    monkeypatch.setattr(galera, "_PROVIDERS", (tmp_path / "provider.so",))
    monkeypatch.setattr("callboard.testing.engines.servers.program", lambda name: None)
    assert galera.installed() == "Galera's library is missing"
    (tmp_path / "provider.so").write_text("")
    assert galera.installed() == "there is no rsync"


def test_the_newest_postgresql_is_taken(monkeypatch, tmp_path):
    for version in ("9.6", "13", "15"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "postgres").write_text("")
    monkeypatch.setattr(postgresql, "_HOME", tmp_path)
    assert postgresql._program("postgres") == f"{tmp_path}/15/bin/postgres"


def test_what_builds_the_driver_is_needed_until_it_is_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mariadb, "driver", lambda: None)
    assert mariadb.driver_installable() is None and mariadb.headers() is None
    monkeypatch.setattr(mariadb, "driver", lambda: "it is missing")
    assert mariadb.driver_installable() == "there is no gcc"
    (tmp_path / "gcc").symlink_to("/bin/true")
    (tmp_path / "pkg-config").symlink_to("/bin/false")
    assert mariadb.driver_installable() == "MariaDB's client library is missing"
    (tmp_path / "pkg-config").unlink()
    (tmp_path / "pkg-config").symlink_to("/bin/true")
    assert mariadb.driver_installable() is None
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    assert mariadb.headers() == "Python.h is missing"
