"""Where a database may lie. Network file systems are given as the kernel lists mounts: a real one takes another machine."""

from __future__ import annotations

import pytest

from callboard import errors
from callboard.jobs.engines.sqlite import files

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / {root} rw,relatime shared:9 - nfs4 server:/export rw,vers=4.2
31 30 0:41 / {root}/local\\040disk rw - xfs /dev/vdb rw
"""


def test_a_network_file_system_is_refused_by_its_name(tmp_path):
    mounts = MOUNTS.format(root=tmp_path)
    with pytest.raises(errors.NetworkFileSystem, match=r"network file system \(nfs4\).*local disk") as caught:
        files.check_directory(tmp_path / "callboard.db", mounts)
    assert caught.value.code == "network_file_system"
    assert list(tmp_path.iterdir()) == []


def test_the_nearest_mount_decides(tmp_path):
    mounts = MOUNTS.format(root=tmp_path)
    inner = tmp_path / "local disk"
    inner.mkdir()
    files.check_directory(inner / "callboard.db", mounts)
    assert files.file_system(inner, mounts) == "xfs"
    assert files.file_system(tmp_path.parent, mounts) == "ext4"


def test_a_directory_that_is_not_there_is_said(tmp_path):
    with pytest.raises(errors.DataUnusable, match="does not exist"):
        files.check_directory(tmp_path / "none" / "callboard.db", "")
