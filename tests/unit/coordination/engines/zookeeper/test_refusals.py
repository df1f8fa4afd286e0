"""What is read and watched where ZooKeeper refuses for a while, as when its access rules are being changed."""

import asyncio

import pytest

from callboard import errors
from callboard.coordination.engines.zookeeper import driver, folders, layout, reading
from callboard.ensembles import requests

WHERE = layout.Layout("/callboard")


class Driver:
    """Answers requests with what `answers` holds, one after the other, and then with the last of it."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def ask_all(self, asked):
        await asyncio.sleep(0)
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [answer for _ in asked]

    async def ask(self, request):
        (answer,) = await self.ask_all([request])
        if isinstance(answer, Exception):
            raise answer
        return answer


def refused(code):
    return driver.Refused(code, str(code))


async def test_a_folder_that_is_refused_is_not_an_empty_one():
    """Or a deposed one would be believed dead, and its successor not wait for it."""
    assert await reading.Reader(Driver(refused(requests.NO_NODE)), WHERE).names(WHERE.sessions) == []
    with pytest.raises(driver.Refused):
        await reading.Reader(Driver(refused(requests.NO_AUTH)), WHERE).names(WHERE.sessions)


async def test_a_watch_that_is_refused_is_set_again(eventually):
    told, ensured = [], []

    async def ensure(folder):
        ensured.append(folder)
        if len(ensured) == 1:
            raise errors.CoordinationError("look at the access rules")

    of = Driver(refused(requests.NO_AUTH), refused(requests.NO_AUTH), refused(requests.NO_AUTH), ["a"])
    watched = folders.Folders(of, WHERE.folder, ensure, told.append)
    watched.want("active")
    watched.resume()
    await eventually(lambda: told == ["active"])
    assert (len(ensured), of.asked) == (2, 4)
    await watched.close()
