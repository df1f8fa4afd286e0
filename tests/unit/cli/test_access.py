"""Whom a command talks to, with which key, under which settings."""

from __future__ import annotations

import msgspec
import pytest

from callboard import errors
from callboard.cli import access, configuration
from callboard.node import layout

URL = "http://127.0.0.1:8321"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("CALLBOARD_DATA", "CALLBOARD_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place(data):
    """A data directory where something lives."""
    made = layout.Layout(data)
    made.prepare()
    made.local.write_bytes(msgspec.json.encode(layout.LocalAccess([URL], "cb_local_key")))
    session = made.sessions().session(layout.AGENT)
    yield made
    session.close()


def found(**options):
    """The URLs and the key that a client would be made of."""
    given = access.Access(**options)
    return given._told() if given.url else given._here()


def test_the_data_directory_tells_url_and_key(place, data):
    assert found(data=str(data)) == ([URL], "cb_local_key")
    assert found(data=str(data), key="cb_other") == ([URL], "cb_other")


def test_the_environment_and_the_settings_file_name_the_data_directory(place, data, monkeypatch, tmp_path):
    monkeypatch.setenv("CALLBOARD_DATA", str(data))
    assert found() == ([URL], "cb_local_key")
    monkeypatch.delenv("CALLBOARD_DATA")
    (tmp_path / "callboard.toml").write_text(f'data = "{data}"\n')
    assert found() == ([URL], "cb_local_key")


def test_the_local_key_goes_to_the_local_gateways_only(place, data):
    assert found(data=str(data), url=URL) == ([URL], "cb_local_key")
    assert found(data=str(data), url="http://elsewhere:8321") == (["http://elsewhere:8321"], None)
    assert found(data=str(data), url=f"{URL},http://elsewhere:8321")[1] is None
    assert found(data=str(data), url="http://elsewhere:8321", key="cb_x")[1] == "cb_x"


def test_several_urls_have_commas_between(place):
    assert found(url="http://a:1, http://b:2,")[0] == ["http://a:1", "http://b:2"]


def test_a_directory_where_nobody_lives_is_not_asked_for_long(data):
    made = layout.Layout(data)
    made.prepare()
    made.local.write_bytes(msgspec.json.encode(layout.LocalAccess([URL], "cb_local_key")))
    with pytest.raises(errors.NotRunning, match="nothing runs for"):
        found(data=str(data))


def test_a_server_without_a_gateway_says_so(place, data):
    place.local.unlink()
    with pytest.raises(errors.NotRunning, match="has no gateway, or only starts"):
        found(data=str(data))


def test_flags_are_over_the_environment_over_the_file(tmp_path, monkeypatch):
    (tmp_path / "callboard.toml").write_text("[worker]\ncount = 3\nslots = 3\n[gateway]\nport = 3333\n")
    monkeypatch.setenv("CALLBOARD_WORKER_SLOTS", "4")
    monkeypatch.setenv("CALLBOARD_GATEWAY_PORT", "4444")
    given = configuration.load(None, {"gateway.port": 5555, "data": None})
    assert (given.worker.count, given.worker.slots, given.gateway.port, given.data) == (3, 4, 5555, ".callboard")


def test_a_named_settings_file_must_be_there(tmp_path, monkeypatch):
    (tmp_path / "other.toml").write_text("[worker]\ncount = 7\n")
    assert configuration.load(tmp_path / "other.toml", {}).worker.count == 7
    monkeypatch.setenv("CALLBOARD_CONFIG", "other.toml")
    assert configuration.load(None, {}).worker.count == 7
    monkeypatch.setenv("CALLBOARD_CONFIG", "none.toml")
    with pytest.raises(errors.InvalidSetting, match=r"none\.toml"):
        configuration.load(None, {})


def test_settings_by_name():
    assert configuration.assigned(("worker.grace_seconds=3", "worker.queues=a,b")) == {
        "worker.grace_seconds": "3",
        "worker.queues": ["a", "b"],
    }
