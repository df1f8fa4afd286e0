"""The local commands get a key at the first start, keep it, and get another one when it is lost."""

import stat

import pytest

from callboard import errors, settings
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.node import access, layout
from callboard.roles.gateway import keys


@pytest.fixture
async def queue():
    made = queues.Queue(memory.open("memory:"))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def given(tmp_path):
    made = settings.load(flags={"data": str(tmp_path), "gateway.count": 2})
    layout.Layout(made.directory).prepare()
    return made


def local(given):
    return layout.read_local(layout.Layout(given.directory).local)


async def test_the_key_is_made_once(queue, given):
    key = await access.ensure(queue, given)
    assert key.startswith("cb_") and local(given) == layout.LocalAccess(given.gateway.urls, key)
    assert stat.S_IMODE(layout.Layout(given.directory).local.stat().st_mode) == 0o600
    assert await access.ensure(queue, given) is None
    assert local(given).key == key


async def test_a_lost_key_is_made_again(queue, given):
    first = await access.ensure(queue, given)
    layout.Layout(given.directory).local.unlink()
    second = await access.ensure(queue, given)
    assert second not in (None, first) and local(given).key == second


async def test_every_server_has_a_key_that_reaches_all_domains(queue, given, tmp_path):
    """The commands on the second server do what they do on the first."""
    await access.ensure(queue, given)
    other = settings.load(flags={"data": str(tmp_path / "other")})
    layout.Layout(other.directory).prepare()
    await access.ensure(queue, other)
    first, second = [record for _, record in await keys.listed(queue)]
    assert (first.scopes, first.domain) == (second.scopes, second.domain)


async def test_a_key_of_another_store_is_replaced(queue, given):
    layout.Layout(given.directory).local.write_bytes(b'{"urls":[],"key":"cb_old_one"}')
    made = await access.ensure(queue, given)
    assert made is not None and local(given).key == made


async def test_a_key_of_another_store_is_replaced_where_others_made_keys(queue, given):
    await access.ensure(queue, given)
    layout.Layout(given.directory).local.write_bytes(b'{"urls":[],"key":"cb_old_one"}')
    made = await access.ensure(queue, given)
    assert made is not None and local(given).key == made
    assert await access.ensure(queue, given) is None


async def test_a_place_that_cannot_be_written_is_named(queue, tmp_path):
    with pytest.raises(errors.DataUnusable):
        await access.ensure(queue, settings.load(flags={"data": str(tmp_path / "absent")}))
