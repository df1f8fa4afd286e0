"""The built-in kinds."""

from __future__ import annotations

import hashlib
from concurrent import futures

import pytest

from callboard import builtin, errors

EVERYTHING = b"""
class A:
    class B: ...
    def f(self):
        def inner(): ...
    async def g(self): ...
"""


def inspected(tmp_path, content, name="x.py"):
    path = tmp_path / name
    path.write_bytes(content)
    return builtin.inspect_file(path)


def test_what_it_serves():
    assert set(builtin.app.kinds) == {"demo.echo", "demo.sleep", "demo.fail", "demo.inspect"}


def test_a_python_file(tmp_path):
    found = inspected(tmp_path, EVERYTHING)
    assert (found.functions, found.classes, found.syntax_error, found.lines) == (3, 2, False, 6)
    assert found.sha256 == hashlib.sha256(EVERYTHING).hexdigest()


@pytest.mark.parametrize("source", [b"def f(:", b"x = 1\0", b"\xff\xfe", b"(" * 10_000], ids=("syntax", "null", "coding", "deep"))
def test_what_is_not_python_after_all(tmp_path, source):
    assert inspected(tmp_path, source).syntax_error


def test_other_files_are_only_measured(tmp_path):
    assert inspected(tmp_path, EVERYTHING, "x.txt").functions == 0


@pytest.mark.parametrize(("content", "lines"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"\n\n", 2)])
def test_lines_are_counted_as_people_see_them(tmp_path, content, lines):
    assert inspected(tmp_path, content).lines == lines


def test_big_files_are_read_in_pieces(tmp_path):
    content = b"0123456789\n" * (builtin.CHUNK_BYTES // 5)
    found = inspected(tmp_path, content, "x.bin")
    assert (found.bytes, found.lines) == (len(content), builtin.CHUNK_BYTES // 5)
    assert found.sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        builtin.inspect_file(tmp_path / "none")


def test_no_warning_of_the_parser_gets_out_of_any_thread(tmp_path):
    """Warnings are errors in these tests."""
    path = tmp_path / "x.py"
    path.write_bytes(b"a = '\\d'\nb = 0x1for x in ()\n" * 50)
    with futures.ThreadPoolExecutor(4) as pool:
        assert len({found.sha256 for found in pool.map(builtin.inspect_file, [path] * 40)}) == 1


async def test_called_directly_they_are_functions(tmp_path):
    (tmp_path / "x").write_bytes(b"1")
    assert await builtin.echo(value=[1]) == [1]
    assert builtin.inspect(path=str(tmp_path / "x"), seconds=0.01).bytes == 1
    with pytest.raises(RuntimeError, match="as asked"):
        await builtin.fail(message="as asked")


def test_arguments_are_checked():
    check = builtin.app.kinds["demo.sleep"].check
    assert check is not None
    with pytest.raises(errors.InvalidArguments):
        check({"seconds": -1})
