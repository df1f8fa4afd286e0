"""The demo's real input: which files there are, and what a direct count of them finds, with no Callboard in between."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from callboard import builtin, errors

LEFT_OUT = frozenset({"__pycache__", "site-packages", "dist-packages"})
"""Directories whose files are none of a standard library's own."""


class File(msgspec.Struct, frozen=True):
    """A file as it was when the snapshot was taken."""

    path: str
    size: int
    modified_ns: int


class Snapshot(msgspec.Struct, frozen=True):
    """The files under a directory, by path. `left_out` are those that cannot be read, or whose name is not text."""

    root: str
    files: list[File]
    left_out: int

    def changed(self) -> set[str]:
        """Return the paths of files that are not any more what they were."""
        return {file.path for file in self.files if _seen(Path(file.path)) != file}


class Totals(msgspec.Struct, frozen=True):
    """What all files have together; `digest` is over the digests of each, in the order of their paths."""

    files: int
    bytes: int
    lines: int
    functions: int
    classes: int
    syntax_errors: int
    digest: str


def default_root() -> Path:
    """Return the directory of the standard library of the Python that runs this."""
    return Path(sysconfig.get_path("stdlib"))


def take(root: Path) -> Snapshot:
    """Look at the regular files under `root`; links are not followed. Raises NotFound when there is no such directory."""
    if not root.is_dir():
        raise errors.NotFound(f"{root} is not a directory: name one with some files in it")
    found = [_seen(path) for path in sorted(_walk(root.absolute()))]
    files = [file for file in found if file is not None]
    return Snapshot(str(root), files, len(found) - len(files))


def inspected(paths: Iterable[str]) -> dict[str, builtin.Inspection]:
    """Read files here and now, one after the other; one that cannot be read any more is missing in what is returned."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found[path] = builtin.inspect_file(Path(path))
    return found


def total(found: Iterable[tuple[str, builtin.Inspection]]) -> Totals:
    """Sum up what was found in each file, whatever the order it comes in."""
    by_path = sorted(found, key=lambda pair: pair[0])
    digest = hashlib.sha256()
    for path, one in by_path:
        digest.update(f"{one.sha256} {path}\n".encode())
    each = [one for _, one in by_path]
    return Totals(
        files=len(each),
        bytes=sum(one.bytes for one in each),
        lines=sum(one.lines for one in each),
        functions=sum(one.functions for one in each),
        classes=sum(one.classes for one in each),
        syntax_errors=sum(one.syntax_error for one in each),
        digest=digest.hexdigest(),
    )


def _walk(root: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if name not in LEFT_OUT]
        yield from (Path(directory, name) for name in files if not Path(directory, name).is_symlink())


def _seen(path: Path) -> File | None:
    try:
        found = path.stat(follow_symlinks=False)
        str(path).encode()
    except (OSError, UnicodeEncodeError):
        return None
    if not stat.S_ISREG(found.st_mode) or not os.access(path, os.R_OK):
        return None
    return File(str(path), found.st_size, found.st_mtime_ns)
