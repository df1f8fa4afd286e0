"""What a server is called and where it is reached."""

import socket

import pytest

from callboard import errors
from callboard.cluster import hosts


@pytest.mark.parametrize(
    ("host", "known", "name"),
    [
        ("Alpha.acme.example", ["alpha"], "alpha"),
        ("alpha.acme.example", ["alpha", "alpha.acme.example"], "alpha.acme.example"),
        ("alpha.acme.example", ["beta"], "alpha.acme.example"),
        ("alpha", [], "alpha"),
    ],
)
def test_the_name_is_the_hosts_in_the_files_words(monkeypatch, host, known, name):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert hosts.own_name(known) == name


@pytest.mark.parametrize(
    "url",
    [
        "zookeeper://127.0.0.1:2181/x",
        "zookeeper://127.0.0.1",
        "mysql://u:p@127.0.0.1:3306,10.0.0.1/db",
        "zookeeper://nowhere.invalid,127.0.0.1/x",
    ],
)
def test_the_address_is_that_on_the_way_to_coordination(url):
    assert hosts.own_address(url) == "127.0.0.1"


def test_no_way_is_told():
    with pytest.raises(errors.InvalidSetting, match="say --address"):
        hosts.own_address("zookeeper://nowhere.invalid/x")
