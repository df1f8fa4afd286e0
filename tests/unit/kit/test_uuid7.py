"""UUIDv7: order, time, and the usual form."""

from __future__ import annotations

import threading
import uuid

import pytest

from callboard.kit import clock, uuid7

NOW = 1_750_000_000 * clock.SECOND + 123_456


def test_an_id_carries_its_time_version_and_variant() -> None:
    id = uuid7.make(NOW + 3600 * clock.SECOND)
    assert uuid7.milliseconds(id) == (NOW + 3600 * clock.SECOND) // 1000
    assert uuid7.valid(id)
    known = uuid.UUID(bytes=id)
    assert (known.version, known.variant, str(known)) == (7, uuid.RFC_4122, uuid7.text(id))


def test_ids_of_one_moment_grow() -> None:
    ids = [uuid7.make(NOW) for _ in range(10_000)]
    assert ids == sorted(set(ids))


def test_ids_grow_over_a_small_step_back() -> None:
    ids = [uuid7.make(NOW - step * 1000) for step in range(100)]
    assert ids == sorted(set(ids))


def test_a_great_step_back_begins_anew() -> None:
    uuid7.make(NOW + 3600 * clock.SECOND)
    assert uuid7.milliseconds(uuid7.make(NOW)) == NOW // 1000


def test_threads_make_different_ids() -> None:
    made: list[list[bytes]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda mine=mine: mine.extend(uuid7.make(NOW) for _ in range(2_000))) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id for mine in made for id in mine}) == 8_000
    assert all(mine == sorted(mine) for mine in made)


def test_text_comes_back() -> None:
    id = uuid7.make(NOW)
    assert uuid7.parse(uuid7.text(id)) == id
    assert uuid7.parse(uuid7.text(id).upper()) == id


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "0190163d8694739bb45c1b8a2e6b0a4e",
        "0190163d8694739bb45c1b8a2e6b0a4e----",
        "0190163d-8694-739b-045c-1b8a2e6b0a4e",
        "0190163d-8694-739b-b45c-1b8a2e6b0a4",
        "0190163d-8694-739b-b45c-1b8a2e6b0a4g",
        " 190163d-8694-739b-b45c-1b8a2e6b0a4e",
        "{190163d-8694-739b-b45c-1b8a2e6b0a4}",
        "0190163d-8694-739b-b45c1-b8a2e6b0a4e",
    ],
)
def test_what_is_no_uuid7(value: str) -> None:
    with pytest.raises(ValueError):
        uuid7.parse(value)


@pytest.mark.parametrize("value", [b"", bytes(16), b"\xff" * 16, bytes(17)])
def test_bytes_that_are_no_uuid7(value: bytes) -> None:
    assert not uuid7.valid(value)
