"""Settings: file < environment < flags, and one-line errors that name the place, the key and the mend."""

import msgspec
import pytest

from callboard import errors, settings


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / settings.FILE
        path.write_text(text)
        return path

    return write


def test_defaults():
    given = settings.load()
    assert (given.gateway.port, given.worker.count, given.worker.slots) == (8321, 2, 16)
    assert (given.worker.grace_seconds, given.agent.stall_seconds) == (10.0, 120.0)
    assert (given.retention.age_seconds, given.retention.keep) == (7 * 86_400, 1_000_000)


def test_defaults_of_names():
    given = settings.load(None, None, {"data": "/srv/x"})
    assert (given.cluster, given.site, given.service.count, given.registry.count) == ("callboard", "main", 2, 0)
    assert (given.service.groups, given.service.group, given.service.order, given.service.preempt) == (
        ("main=.",),
        None,
        None,
        False,
    )
    assert given.coordination_url == "local:///srv/x/coordination" and given.coordination.session_seconds == 3.0
    assert settings.load(None, {"CALLBOARD_COORDINATION_URL": "zookeeper://z:1"}).coordination_url == "zookeeper://z:1"
    assert settings.load(None, {"CALLBOARD_SERVICE_GROUPS": "north=acme, south=."}).service.groups == ("north=acme", "south=.")
    assert settings.load(None, {"CALLBOARD_SERVICE_PREEMPT": "false"}).service.preempt is False


def test_file_under_environment_under_flags(file):
    path = file("app = 'a:b'\n[worker]\nslots = 1\ncount = 1\n[gateway]\nport = 1\n")
    environment = {"CALLBOARD_WORKER_SLOTS": "2", "CALLBOARD_WORKER_COUNT": "2", "HOME": "/root"}
    given = settings.load(path, environment, {"worker.slots": 3, "gateway.host": None})
    assert (given.gateway.port, given.worker.count, given.worker.slots) == (1, 2, 3)
    assert given.app == "a:b"
    assert given.gateway.host == "127.0.0.1"


def test_lists_in_file_and_environment(file):
    assert settings.load(file("[worker]\nqueues = ['a', 'b']\n")).worker.queues == ("a", "b")
    assert settings.load(None, {"CALLBOARD_WORKER_QUEUES": "a, b"}).worker.queues == ("a", "b")
    assert settings.load(None, {"CALLBOARD_WORKER_DOMAINS": "main,x.y"}).worker.domains == ("main", "x.y")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[worker]\nslot = 1", "worker.slot is not a setting: did you mean worker.slots?"),
        ("slots = 1", "slots is not a setting: did you mean worker.slots?"),
        ("[worker]\nslots = 0", "worker.slots = 0: Expected `int` >= 1"),
        ("[log]\nlevel = 'loud'", "log.level = 'loud'"),
        ("[gateway]\nport = 70000", "gateway.port = 70000"),
        ("worker = 3", "worker is not a setting"),
        ("[worker", "is not TOML"),
    ],
)
def test_a_bad_file_is_named_with_the_key(file, text, says):
    path = file(text)
    with pytest.raises(errors.InvalidSetting) as caught:
        settings.load(path)
    assert str(path) in caught.value.message and says in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(errors.InvalidSetting, match="cannot be read"):
        settings.load(tmp_path / "absent.toml")


def test_a_bad_environment_is_named(file):
    with pytest.raises(
        errors.InvalidSetting, match="CALLBOARD_WORKER_SLOT is not a setting: did you mean CALLBOARD_WORKER_SLOTS"
    ):
        settings.load(None, {"CALLBOARD_WORKER_SLOT": "1"})
    with pytest.raises(errors.InvalidSetting, match="CALLBOARD_WORKER_SLOTS = 'many'"):
        settings.load(None, {"CALLBOARD_WORKER_SLOTS": "many"})


def test_names_of_clients_and_tests_are_left_alone():
    assert settings.load(None, {"CALLBOARD_KEY": "cb_x", "CALLBOARD_TEST_HOOK": "1"}) == settings.Settings()


def test_a_bad_flag_is_named():
    with pytest.raises(errors.InvalidSetting, match=r"the command line: gateway\.port"):
        settings.load(flags={"gateway.port": 0})


def test_where_things_are(tmp_path):
    given = settings.load(flags={"data": str(tmp_path)})
    assert given.directory == tmp_path
    assert given.store_url == f"sqlite://{tmp_path}/callboard.db"
    assert settings.load(flags={"store.url": "memory:"}).store_url == "memory:"


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("box", "box")]
)
def test_urls_of_gateways(host, url):
    given = settings.load(flags={"gateway.host": host, "gateway.count": 2})
    assert given.gateway.urls == [f"http://{url}:8321", f"http://{url}:8322"]


def test_they_travel_as_json():
    given = settings.load(flags={"worker.queues": ["a"], "app": "m:a"})
    assert msgspec.json.decode(msgspec.json.encode(given), type=settings.Settings) == given


def test_every_setting_has_a_reason():
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(settings))
    for group in (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Settings")):
        for before, after in zip(group.body, group.body[1:], strict=False):
            if isinstance(before, ast.AnnAssign) and group.name != "Settings":
                assert isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant), (
                    f"{group.name}: {ast.unparse(before)}"
                )
