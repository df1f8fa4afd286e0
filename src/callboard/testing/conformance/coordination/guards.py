"""Promises about operations: what each does, what each guards, all of them or none, and numbers that only grow."""

from __future__ import annotations

import asyncio

from callboard import errors
from callboard.coordination import engine as seam
from callboard.testing.conformance.coordination.bench import Bench, create, equal, holds, paths, promise, refused


@promise
async def an_entry_says_what_was_written_and_whose_it_is(ground: Bench) -> None:
    """What is created is read, by others too, with its number and its session; a lasting entry belongs to nobody."""
    mine, other = await ground.session("node-a"), await ground.session("node-b")
    one = await create(mine, "things/one", b"\x00\xff")
    two = await create(mine, "things/two", b"", lasting=True)
    wanted = [seam.Entry("things/one", b"\x00\xff", one, "node-a"), seam.Entry("things/two", b"", two, None)]
    equal(await mine.entries("things"), wanted)
    await ground.until(lambda: _reads(other, "things", wanted))
    equal(wanted[0].name, "one")


@promise
async def folders_are_apart_and_in_order(ground: Bench) -> None:
    """A folder lists its own entries by path; one that nobody wrote to is empty."""
    mine = await ground.session()
    for path in ("b/z", "b/a", "b/a.b", "a/x", "bb/y"):
        await create(mine, path)
    equal(await paths(mine, "b"), ["b/a", "b/a.b", "b/z"])
    equal(await paths(mine, "nothing"), [])


@promise
async def a_path_is_created_once(ground: Bench) -> None:
    """Of many who create one path at the same time, one does; the others meet a conflict that names it."""
    sessions = [await ground.session() for _ in range(3)]
    answers = await asyncio.gather(
        *(each.apply([seam.Create("once/here", each.name.encode())]) for each in sessions), return_exceptions=True
    )
    won = [each for each in answers if isinstance(each, list)]
    lost = [each.data for each in answers if isinstance(each, errors.CoordinationConflict)]
    equal((len(won), len(lost)), (1, 2))
    equal([(each["path"], each["index"]) for each in lost], [("once/here", 0)] * 2)


@promise
async def replacing_keeps_the_number_and_compares(ground: Bench) -> None:
    """New content keeps number and session; a wrong number, other content than expected, or a missing entry is a conflict."""
    mine, other = await ground.session("node-a"), await ground.session("node-b")
    number = await create(mine, "x/y", b"1")
    equal(await other.apply([seam.Replace("x/y", b"2", number)]), [number])
    equal(await other.apply([seam.Replace("x/y", b"3", number, expected=b"2")]), [number])
    await refused(mine.apply([seam.Replace("x/y", b"4", number, expected=b"2")]))
    await refused(mine.apply([seam.Replace("x/y", b"4", number + 1)]))
    await refused(mine.apply([seam.Replace("x/z", b"4", number)]))
    equal(await other.entries("x"), [seam.Entry("x/y", b"3", number, "node-a")])


@promise
async def only_one_of_two_that_compare_and_set_succeeds(ground: Bench) -> None:
    """Two that expect the same content: one writes, the other meets a conflict."""
    one, two = await ground.session(), await ground.session()
    number = await create(one, "x/y", b"0", lasting=True)
    for turn in range(5):
        before = str(turn).encode()
        after = str(turn + 1).encode()
        answers = await asyncio.gather(
            *(each.apply([seam.Replace("x/y", after, number, expected=before)]) for each in (one, two)), return_exceptions=True
        )
        equal(sorted(isinstance(each, errors.CoordinationConflict) for each in answers), [False, True])


@promise
async def removing_asks_for_the_number(ground: Bench) -> None:
    """Anybody may remove an entry, by its number; another number, or nothing there, is a conflict."""
    mine, other = await ground.session(), await ground.session()
    number = await create(mine, "x/y")
    await refused(other.apply([seam.Remove("x/y", number - 1)]))
    equal(await other.apply([seam.Remove("x/y", number)]), [number])
    await refused(other.apply([seam.Remove("x/y", number)]))
    equal(await paths(other, "x"), [])


@promise
async def an_old_number_is_refused_when_the_path_is_taken_anew(ground: Bench) -> None:
    """A path that is removed and created again has another number: guards with the old epoch fail, those with the new hold."""
    mine = await ground.session()
    old = await create(mine, "active/billing.main", b"same")
    await mine.apply([seam.Remove("active/billing.main", old)])
    new = await create(mine, "active/billing.main", b"same")
    holds(new > old, "the new number is greater")
    for guard in (seam.Check("active/billing.main", old), seam.Remove("active/billing.main", old)):
        data = await refused(mine.apply([seam.Create("x/effect", b""), guard]))
        equal((data["path"], data["index"]), ("active/billing.main", 1))
    await refused(mine.apply([seam.Replace("active/billing.main", b"", old)]))
    equal(await paths(mine, "x"), [])
    equal(await mine.apply([seam.Check("active/billing.main", new)]), [new])


@promise
async def guards_tell_which_one_failed_and_nothing_is_applied(ground: Bench) -> None:
    """All or none: the first guard that fails is named by path and index, and what came before it is undone."""
    mine = await ground.session()
    number = await create(mine, "x/there", b"1")
    before = await mine.entries("x")
    guards: list[seam.Operation] = [
        seam.Absent("x/there"),
        seam.Check("x/there", number + 1),
        seam.Check("x/missing", number),
        seam.Create("x/there", b""),
        seam.Remove("x/missing", number),
        seam.Replace("x/missing", b"", number),
    ]
    for guard in guards:
        changes: list[seam.Operation] = [
            seam.Create("x/new", b""),
            seam.Replace("x/there", b"2", number),
            seam.Create("y/new", b"", lasting=True),
        ]
        data = await refused(mine.apply([*changes, guard, seam.Check("x/never", 1)]))
        equal((data["path"], data["index"]), (guard.path, 3))
        equal(await mine.entries("x"), before)
        equal(await paths(mine, "y"), [])


@promise
async def operations_see_those_before_them(ground: Bench) -> None:
    """In one list: what was created is there for the next, what was removed is absent, and may be created again."""
    mine = await ground.session()
    number = await create(mine, "x/a", b"old")
    results = await mine.apply(
        [
            seam.Check("x/a", number),
            seam.Remove("x/a", number),
            seam.Absent("x/a"),
            seam.Create("x/a", b"new"),
            seam.Create("x/b", b""),
        ]
    )
    equal((results[:3], len(results)), ([number, number, 0], 5))
    holds(results[3] > number and results[4] > number, "new entries have greater numbers")
    equal(
        [(each.path, each.number, each.body) for each in await mine.entries("x")],
        [("x/a", results[3], b"new"), ("x/b", results[4], b"")],
    )
    await refused(mine.apply([seam.Create("x/c", b""), seam.Absent("x/c")]))
    equal(await paths(mine, "x"), ["x/a", "x/b"])


@promise
async def what_one_applied_it_reads(ground: Bench) -> None:
    """A session reads its own writes, each time."""
    mine = await ground.session()
    await ground.session()
    for turn in range(20):
        number = await create(mine, f"x/{turn:02}")
        holds((await mine.entries("x"))[-1].number == number, "the newest entry is read")


@promise
async def what_is_out_of_the_grammar_or_too_large_is_not_sent(ground: Bench) -> None:
    """Paths are `folder/name`, names of sessions have a grammar, and there is a limit to what is sent at once."""
    mine = await ground.session()
    for path in ("x", "x/", "/x", "x/y/z", "X/y", "x/Y", "x/..", "x/y\n", "sessions/x", "", "x/é"):
        await refused(mine.apply([seam.Create(path, b"")]), errors.InvalidName)
    big = b"x" * (seam.MAX_BYTES // 2)
    data = await refused(mine.apply([seam.Create("x/a", big), seam.Create("x/b", big)]), errors.TooLarge)
    equal(data["limit"], seam.MAX_BYTES)
    equal(await paths(mine, "x"), [])
    await create(mine, "x/" + "y" * 200, b"x" * (seam.MAX_BYTES - 1000))
    equal([len(each.body) for each in await mine.entries("x")], [seam.MAX_BYTES - 1000])
    for name in ("", "A", "../x", "x" * 129, "x/y"):
        await refused(ground.session(name) if name else ground.open().session(""), errors.InvalidName)


@promise
async def numbers_only_grow(ground: Bench) -> None:
    """Each number is greater than all before it: whoever creates, whatever was removed, refused, replaced or ended meanwhile."""
    one, two = await ground.session(), await ground.session()
    last = await create(one, "x/lasting", lasting=True)
    for turn in range(6):
        session = (one, two)[turn % 2]
        number = await create(session, "x/y")
        holds(number > last, f"{number} is greater than {last}")
        last = number
        await refused(two.apply([seam.Create("x/refused", b""), seam.Check("x/y", number + 7)]))
        await session.apply([seam.Replace("x/y", str(turn).encode(), number), seam.Remove("x/y", number)])


@promise
async def numbers_grow_over_closing_and_reopening(ground: Bench) -> None:
    """When all have left and come back, numbers go on, and what lasts is there."""
    last = 0
    lasting: list[seam.Entry] = []
    for turn in range(3):
        session = await ground.session("node-same")
        equal(await session.entries("x"), lasting)
        numbers = [await create(session, f"x/{turn}", b"body", lasting=True), await create(session, "x/mine")]
        holds(last < numbers[0] < numbers[1], f"{numbers} grow, after {last}")
        last = numbers[1]
        lasting.append(seam.Entry(f"x/{turn}", b"body", numbers[0], None))
        await session.close()


async def _reads(session: seam.Session, folder: str, wanted: list[seam.Entry]) -> bool:
    return await session.entries(folder) == wanted
