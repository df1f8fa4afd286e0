"""The resolver over real sockets: what virtual time cannot show."""

import asyncio

import msgspec

from callboard.coordination import engine
from callboard.coordination.engines import memory
from callboard.kit import clock
from callboard.names import groups, model, resolver
from callboard.roles import registry
from callboard.rpc import doors, peers, serving, sockets
from tests.unit.names import town as towns

SECRET = b"of the tests"


async def _wire(number, *served):
    table = serving.Table(f"{number:032x}")
    for each in served:
        table.add(each)
    made = peers.Peers(
        peers.Identity("test", "here", table.incarnation),
        sockets.Sockets(),
        table,
        clock=clock.SystemClock(),
        secret=SECRET,
        secret_of=lambda _: SECRET,
    )
    await made.start()
    return made


def _facts(wire, *offers):
    host, port = wire.listening
    return msgspec.json.encode(model.NodeFacts(incarnation=wire.identity.incarnation, host=host, port=port, offers=offers))


def _office(wire):
    host, port = wire.listening
    held = model.Office(label="billing", group="main", incarnation=wire.identity.incarnation, host=host, port=port)
    return msgspec.json.encode(held)


async def test_a_call_finds_its_way_and_follows_a_change_of_hands():
    shops = [towns.Shop(), towns.Shop()]
    wires = [await _wire(number, *([shops[number]] if number < 2 else [])) for number in range(4)]
    place, caller = wires[2:]
    session = await memory.MemoryEngine(memory.Site()).session("site")
    serves = registry.Registry(session, place, groups.Groups(), place.clock)
    await serves.start()
    place.table.add(serves)
    path = f"{model.ACTIVE}/billing.main"
    nodes = [engine.Create(f"nodes/{wire.identity.incarnation}", _facts(wire, shops[0].offer)) for wire in wires[:2]]
    (*_, epoch) = await session.apply([*nodes, engine.Create(path, _office(wires[0]))])
    shops[0].epochs["main"] = epoch

    async def read_doors():
        host, port = place.listening
        return [doors.Door(place.identity.incarnation, host, port, SECRET, ("registry",))]

    asks = resolver.Resolver(caller, read_doors)
    await asks.start()
    try:
        async with asyncio.timeout(10):
            answer = await asks.call("billing", "balance", towns.pack())
            assert towns.unpack(answer) == ["billing", epoch]
            while asks.home is None:
                await asyncio.sleep(0.005)
            await wires[0].stop()
            going = asyncio.create_task(asks.call("billing", "balance", towns.pack()))
            _, epoch = await session.apply([engine.Remove(path, epoch), engine.Create(path, _office(wires[1]))])
            shops[1].epochs["main"] = epoch
            assert towns.unpack(await going) == ["billing", epoch]
    finally:
        await asks.stop()
        await serves.stop()
        await asyncio.gather(*(wire.stop() for wire in wires))
        await session.close()
