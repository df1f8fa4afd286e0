"""The demo's input: the snapshot, what changed since, and the direct count."""

from __future__ import annotations

import hashlib
import os

import pytest

from callboard import builtin, errors
from callboard.cli.demo import files

SOURCE = b"class A:\n    def f(self): pass\n    async def g(self): pass\n\nx = lambda: 0"


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "deep" / "__pycache__").mkdir(parents=True)
    (root / "site-packages").mkdir()
    (root / "a.py").write_bytes(SOURCE)
    (root / "b.py").write_bytes(b"def f(:\n")
    (root / "deep" / "c.bin").write_bytes(bytes(range(256)) * 9000)
    (root / "empty").touch()
    (root / "deep" / "__pycache__" / "a.pyc").write_bytes(b"x")
    (root / "site-packages" / "other.py").write_bytes(b"x = 1\n")
    (root / "link.py").symlink_to(root / "a.py")
    return root


def test_a_snapshot_is_the_regular_files_by_path(tree):
    found = files.take(tree)
    assert [file.path for file in found.files] == [str(tree / name) for name in ("a.py", "b.py", "deep/c.bin", "empty")]
    assert found.left_out == 0


def test_what_is_no_readable_file_with_a_name_of_text_is_left_out(tree):
    os.mkfifo(tree / "pipe")
    (tree / os.fsdecode(b"bad\xff")).touch()
    assert files.take(tree).left_out == 2


def test_a_directory_that_is_not_there_is_refused(tree):
    with pytest.raises(errors.NotFound, match="is not a directory"):
        files.take(tree / "a.py")


def test_changes_are_noticed(tree):
    snapshot = files.take(tree)
    assert snapshot.changed() == set()
    (tree / "a.py").write_bytes(SOURCE + b" ")
    (tree / "empty").unlink()
    os.utime(tree / "b.py", ns=(1, 1))
    assert snapshot.changed() == {str(tree / name) for name in ("a.py", "b.py", "empty")}


def test_a_direct_count(tree):
    paths = [file.path for file in files.take(tree).files]
    found = files.inspected([*paths, str(tree / "gone")])
    assert list(found) == paths
    assert found[paths[0]] == builtin.Inspection(len(SOURCE), hashlib.sha256(SOURCE).hexdigest(), 5, 2, 1, False)
    assert found[paths[1]].syntax_error
    totals = files.total(found.items())
    assert (totals.files, totals.bytes, totals.functions, totals.classes, totals.syntax_errors) == (
        4,
        len(SOURCE) + 8 + 256 * 9000,
        2,
        1,
        1,
    )
    assert totals.lines == 5 + 1 + 9001


def test_totals_do_not_depend_on_the_order_and_do_on_every_byte(tree):
    found = list(files.inspected(file.path for file in files.take(tree).files).items())
    assert files.total(found) == files.total(reversed(found))
    (tree / "empty").write_bytes(b"\0")
    assert files.total(files.inspected(path for path, _ in found).items()).digest != files.total(found).digest


def test_the_standard_library_is_what_is_inspected_by_default():
    assert (files.default_root() / "json" / "__init__.py").is_file()
