"""A private file is whole, private, and replaced at once."""

import stat

from callboard.kit import files


def test_it_is_private_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "hub.json"
    files.write_private(path, b"one")
    files.write_private(path, b"two", durable=True)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_dead_writer_left_does_not_hinder(tmp_path):
    (tmp_path / "hub.json.new").write_bytes(b"half")
    files.write_private(tmp_path / "hub.json", b"whole")
    assert (tmp_path / "hub.json").read_bytes() == b"whole"
