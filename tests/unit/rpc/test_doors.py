"""Door files: who may read them, what is passed over, and that secrets are found."""

import stat

import pytest

from callboard import errors
from callboard.rpc import doors, network

ONE, TWO = "1" * 32, "2" * 32


def door(incarnation=ONE, secret=b"\x00\xffsecret"):
    return doors.Door(incarnation, "127.0.0.1", 4711, secret, ("worker", "registry"))


def test_what_is_written_is_read(tmp_path):
    book = doors.Doors(tmp_path / "nodes")
    book.write(door())
    book.write(door(TWO))
    assert book.read() == [door(), door(TWO)]
    assert book.read()[0].address == network.Address(ONE, "127.0.0.1", 4711)


def test_only_the_owner_may_read(tmp_path):
    doors.Doors(tmp_path).write(door())
    (file,) = tmp_path.iterdir()
    assert file.name == f"{ONE}.door" and stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_secret_is_never_shown():
    assert "secret" not in repr(door()) and "secret" not in f"{[door()]}"


def test_what_makes_no_sense_is_passed_over(tmp_path):
    book = doors.Doors(tmp_path)
    book.write(door())
    (tmp_path / f"{TWO}.door").write_bytes((tmp_path / f"{ONE}.door").read_bytes())
    for name, body in (("a.door", b""), ("b.door", b"{}"), ("c.door", b"\xff"), ("d.json", b"{}")):
        (tmp_path / name).write_bytes(body)
    assert book.read() == [door()]


def test_a_directory_that_is_not_there_has_no_doors(tmp_path):
    assert doors.Doors(tmp_path / "nowhere").read() == []


def test_secrets_are_found_by_incarnation_until_the_door_is_gone(tmp_path):
    book = doors.Doors(tmp_path)
    address = network.Address(ONE, "127.0.0.1", 1)
    assert book.secret_of(address) is None
    doors.Doors(tmp_path).write(door())
    assert book.secret_of(address) == b"\x00\xffsecret"
    book.remove(ONE)
    book.remove(ONE)
    assert book.secret_of(address) is None and book.read() == []


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.DataUnusable):
        doors.Doors(tmp_path / "file").write(door())
