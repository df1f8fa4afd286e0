"""Apps are found by name, from the working directory first; what is wrong is said in one line."""

import sys

import pytest

from callboard import app, errors
from callboard.node import apps


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_builtin_app_is_served_when_none_is_named(home):
    assert "demo.echo" in apps.load(None, str(home)).kinds


def test_an_app_in_the_working_directory(home):
    (home / "mine_a.py").write_text("from callboard import Callboard\nclass Box:\n    app = Callboard('mine')\n")
    found = apps.load("mine_a:Box.app", str(home))
    assert isinstance(found, app.Callboard) and found.title == "mine"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mine_b", "not written MODULE:APP"),
        (":app", "not written MODULE:APP"),
        ("absent_b:app", "No module named 'absent_b'"),
        ("absent_b.deep:app", "No module named 'absent_b'"),
        ("mine_b:absent", "has no attribute 'absent'"),
        ("mine_b:number", "is a int, not a Callboard"),
        ("needs_b:app", "No module named 'not_installed'"),
        ("raises_b:app", "ValueError: two lines"),
        ("wrong_b:app", "SyntaxError"),
        ("leaves_b:app", "SystemExit: bye"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(home, capfd, name, says):
    (home / "mine_b.py").write_text("number = 1\n")
    (home / "needs_b.py").write_text("import not_installed\n")
    (home / "raises_b.py").write_text("raise ValueError('two\\nlines')\n")
    (home / "wrong_b.py").write_text("def\n")
    (home / "leaves_b.py").write_text("raise SystemExit('bye')\n")
    with pytest.raises(errors.AppNotFound) as caught:
        apps.load(name, str(home))
    assert says in caught.value.message and "\n" not in caught.value.message
    traced = name.partition(":")[0] in ("needs_b", "raises_b", "wrong_b", "leaves_b")
    assert ("Traceback" in capfd.readouterr().err) is (traced or name == "mine_b:absent")
