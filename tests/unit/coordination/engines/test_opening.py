"""Engines are found by the scheme of their URL."""

import subprocess
import sys

import pytest

from callboard import errors
from callboard.coordination import engines


def test_the_scheme_names_the_engine(tmp_path):
    assert engines.open("memory:").name == "memory"
    assert engines.open(f"local://{tmp_path}/coordination").name == "local"
    assert not (tmp_path / "coordination").exists()  # Opening touches nothing.


@pytest.mark.parametrize("url", ["etcd://somewhere", "memory", "", "/var/lib"])
def test_unknown_ones_are_refused(url):
    with pytest.raises(errors.InvalidSetting, match="one of local, mariadb, memory, mysql, postgres, postgresql, zookeeper"):
        engines.open(url)


@pytest.mark.parametrize("url", ["local://relative/path", "local:relative", "local:", "local:///x?y=1"])
def test_a_local_one_names_a_directory(url):
    with pytest.raises(errors.InvalidSetting, match="names no directory"):
        engines.open(url)


def test_a_missing_package_is_named_with_what_installs_it():
    """In a process of its own: what was imported here stays as it is."""
    program = """
import sys
sys.modules["kazoo"] = None
from callboard import errors
from callboard.coordination import engines
try:
    engines.open("zookeeper://127.0.0.1:2181/x")
except errors.InvalidSetting as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == (
        "coordination by zookeeper needs the package kazoo: pip install 'callboard[zookeeper]'\n",
        "",
    )
