from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from callboard.testing.engines import packages, zookeeper

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
