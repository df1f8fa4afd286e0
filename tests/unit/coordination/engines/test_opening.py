"""Engines are found by the scheme of their URL."""

import pytest

from callboard import errors
from callboard.coordination import engines


def test_the_scheme_names_the_engine(tmp_path):
    assert engines.open("memory:").name == "memory"
    assert engines.open(f"local://{tmp_path}/coordination").name == "local"
    assert not (tmp_path / "coordination").exists()  # Opening touches nothing.


@pytest.mark.parametrize("url", ["etcd://somewhere", "memory", "", "/var/lib"])
def test_unknown_ones_are_refused(url):
    with pytest.raises(errors.InvalidSetting, match="begin the URL with one of local, memory, zookeeper"):
        engines.open(url)


@pytest.mark.parametrize("url", ["local://relative/path", "local:relative", "local:", "local:///x?y=1"])
def test_a_local_one_names_a_directory(url):
    with pytest.raises(errors.InvalidSetting, match="names no directory"):
        engines.open(url)
