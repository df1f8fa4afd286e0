"""A heartbeat is read as it was written, by another mapping and another process, and outlives its writer."""

import os
import stat

import pytest

from callboard.kit import beat


def test_a_new_beat_says_nothing(tmp_path):
    assert beat.Beat.create(tmp_path / "n.beat").read() == beat.BeatState(0, 0, 0)


def test_what_is_written_is_read_through_another_mapping(tmp_path):
    written = beat.Beat.create(tmp_path / "n.beat")
    read = beat.Beat.open(tmp_path / "n.beat")
    written.tick(2**63 + 5)
    written.busy(3, 17)
    assert read.read() == beat.BeatState(tick=2**63 + 5, running=3, deadline=17)
    written.busy(0, 0)
    assert read.read() == beat.BeatState(tick=2**63 + 5, running=0, deadline=0)


def test_a_beat_outlives_the_process_that_wrote_it(tmp_path):
    path = tmp_path / "n.beat"
    child = os.fork()
    if child == 0:
        beat.Beat.create(path).tick(99)
        os._exit(0)
    os.waitpid(child, 0)
    assert beat.Beat.open(path).read().tick == 99


def test_creating_again_replaces_and_leaves_old_mappings_alone(tmp_path):
    old = beat.Beat.create(tmp_path / "n.beat")
    old.tick(1)
    assert beat.Beat.create(tmp_path / "n.beat").read().tick == 0
    assert old.read().tick == 1


def test_only_the_owner_may_read_it(tmp_path):
    beat.Beat.create(tmp_path / "n.beat")
    assert stat.S_IMODE((tmp_path / "n.beat").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["n.beat"]


def test_what_is_no_beat_is_refused(tmp_path):
    with pytest.raises(OSError):
        beat.Beat.open(tmp_path / "absent")
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(ValueError):
        beat.Beat.open(tmp_path / "short")


def test_close_may_come_twice(tmp_path):
    made = beat.Beat.create(tmp_path / "n.beat")
    made.close()
    made.close()
