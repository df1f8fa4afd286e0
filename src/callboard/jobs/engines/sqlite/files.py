"""Opening a database file: is it ours, is it whole, is it on a disk that SQLite can trust. What the connection is set to."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

import apsw

from callboard import errors
from callboard.jobs.engines.sqlite import lock, schema

NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.ceph", "glusterfs", "fuse.glusterfs", "lustre"}
    | {"fuse.sshfs", "gfs2", "ocfs2", "beegfs", "fuse.s3fs", "fuse.rclone", "davfs", "fuse.davfs2", "ncpfs", "coda"}
)
"""File systems whose locks or shared memory do not hold between machines (or not at all)."""


def path_of(url: str) -> Path:
    """Return the file that a URL names: `sqlite:///absolute/path.db`, or `sqlite:relative.db`."""
    rest = url.partition(":")[2]
    if rest.startswith("//"):
        rest = rest[2:]
    if not rest or rest.endswith("/") or "?" in rest:
        raise errors.InvalidSetting(f"store {url!r} names no file: write it like sqlite:///var/lib/callboard/callboard.db")
    return Path("/" + rest.lstrip("/") if rest.startswith("/") else rest).absolute()


def file_system(path: Path, mountinfo: str) -> str:
    """Return the type of the file system a path lies on, from the text of /proc/self/mountinfo."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        mount = left.split()[4].encode().decode("unicode_escape")
        if len(mount) > best and Path(path).is_relative_to(mount):
            best, kind = len(mount), right.split()[0]
    return kind


def check_directory(path: Path, mountinfo: str) -> None:
    """Raise DataUnusable or NetworkFileSystem unless a database can live at `path`."""
    folder = path.parent
    if not folder.is_dir():
        raise errors.DataUnusable(f"the directory {folder} does not exist: create it, or name another one")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise errors.DataUnusable(f"the directory {folder} is not writable: change its owner or mode, or name another one")
    kind = file_system(folder.resolve(), mountinfo)
    if kind in NETWORK:
        raise errors.NetworkFileSystem(
            f"{folder} lies on a network file system ({kind}), whose locks SQLite cannot trust: put the data on a local disk"
        )


def connect(path: Path, *, cache_kib: int) -> apsw.Connection:
    """Open a connection to a store that exists, set for durability (WAL, synchronous=FULL)."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(10_000)
        connection.execute(
            f"PRAGMA synchronous=FULL; PRAGMA cache_size=-{cache_kib}; PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=0"
        )
    except apsw.Error as error:
        raise translated(error, path) from None
    return connection


def prepare(path: Path) -> None:
    """Make the file a store of this schema, or make sure that it is one. Safe in several processes at once."""
    try:
        check_directory(path, Path("/proc/self/mountinfo").read_text())
        with (guard := lock.WriteLock(path.with_name(path.name + ".lock"))):
            _prepare(path)
        guard.close()
    except PermissionError as error:
        raise errors.DataUnusable(f"{error.filename} is not accessible: change its owner or mode") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise errors.StoreFull(f"no space left on the disk of {path.parent}: free some") from None
        raise errors.DataUnusable(f"{path} cannot be used: {error.strerror}") from None
    except apsw.Error as error:
        raise translated(error, path) from None


def _prepare(path: Path) -> None:
    if path.exists() and _header(path) not in (b"", b"SQLite format 3\0"):
        raise errors.StoreForeign(f"{path} is not a database: name another file, or restore it from a backup")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # Arguments and results are nobody else's business.
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(10_000)
        if connection.execute("SELECT count(*) FROM sqlite_master").get == 0:
            _create(connection)
        _check(connection, path)
        if connection.execute("PRAGMA journal_mode").get != "wal":  # A copy made by VACUUM INTO has lost it.
            connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _create(connection: apsw.Connection) -> None:
    connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")
    connection.execute(f"BEGIN IMMEDIATE; PRAGMA application_id={schema.APPLICATION_ID}; {schema.TABLES}")
    connection.execute("INSERT INTO store VALUES(?, ?)", (schema.VERSION, schema.MIN_READER))
    connection.execute("COMMIT")


def _check(connection: apsw.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").get != schema.APPLICATION_ID:
        raise errors.StoreForeign(f"{path} belongs to another program: name another file")
    version, min_reader = connection.execute("SELECT version, min_reader FROM store").get
    if min_reader > schema.VERSION:
        raise errors.StoreTooNew(
            f"{path} has schema {version} and needs a Callboard that reads {min_reader}; this one reads {schema.VERSION}: upgrade"
        )


def translated(error: apsw.Error, path: Path) -> errors.CallboardError:
    """Return our error for one of SQLite's."""
    text = f"{path}: {error}"
    if isinstance(error, apsw.FullError) or (isinstance(error, apsw.IOError) and _disk_is_full(path)):
        return errors.StoreFull(f"no space left on the disk of {path.parent}: free some, work goes on by itself")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return errors.StoreCorrupt(f"{text}: the database is damaged: restore it from a backup")
    if isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError):
        return errors.DataUnusable(f"{text}: make the file and its directory readable and writable")
    return errors.StoreUnavailable(f"the store does not answer: {text}")


def _disk_is_full(path: Path) -> bool:
    try:
        free = os.statvfs(path.parent)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < 1 << 20
