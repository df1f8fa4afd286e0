"""What waits for a link: batches, pauses, and frames that cannot be sent."""

import asyncio

from callboard.rpc import frames, network, outbox


class Link:
    peer_server = ""

    def __init__(self, full_after=10**9):
        self.messages = []
        self.out = None
        self._full_after = full_after

    def send(self, message):
        self.messages.append(frames.decode(message))
        if len(self.messages) >= self._full_after:
            self.out.pause()

    def close(self):
        pass


def opened(**how):
    link, lost = Link(**how), []
    link.out = outbox.Outbox(asyncio.get_running_loop(), link, lambda frame, why: lost.append((frame, why)))
    return link.out, link, lost


def ping(n):
    return frames.Ping(n)


async def turn():
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_the_first_goes_at_once_and_what_follows_in_one_message():
    out, link, _ = opened()
    for n in range(5):
        out.send(ping(n), 0)
    assert link.messages == [[ping(0)]]
    await turn()
    assert link.messages == [[ping(0)], [ping(n) for n in range(1, 5)]]


async def test_where_many_go_in_each_turn_all_go_in_one_message():
    out, link, _ = opened()
    for _ in range(2):
        link.messages.clear()
        for n in range(50):
            out.send(ping(n), 0)
        await turn()
    assert link.messages == [[ping(n) for n in range(50)]]
    await turn()
    out.send(ping(1), 0)
    await turn()
    link.messages.clear()
    out.send(ping(2), 0)
    assert link.messages == [[ping(2)]]


async def test_nothing_is_sent_while_paused_and_all_in_order_after():
    out, link, _ = opened()
    out.pause()
    sent = [frames.Notice(str(n), bytes(10_000)) for n in range(100)]
    for frame in sent:
        out.send(frame, 10_000)
    await turn()
    assert link.messages == [] and out.waiting_bytes >= 10**6
    out.resume()
    assert [frame for message in link.messages for frame in message] == sent
    assert len(link.messages) > 2 and out.waiting_bytes == 0


async def test_a_link_that_fills_up_on_the_way_gets_no_more():
    out, link, _ = opened(full_after=2)
    out.pause()
    for n in range(100):
        out.send(frames.Notice(str(n), bytes(10_000)), 10_000)
    out.resume()
    assert len(link.messages) == 2
    assert sum(map(len, link.messages)) + len(out.waiting) == 100
    assert abs(out.waiting_bytes - sum(map(frames.weight, out.waiting))) < 1000


async def test_a_request_that_was_not_sent_can_be_taken_back():
    out, link, _ = opened()
    request = frames.Request(7, "a", "main", "m", 0, 1, b"")
    out.send(ping(0), 0)
    out.send(request, 0)
    assert out.take_back(7) and not out.take_back(7)
    await turn()
    assert link.messages == [[ping(0)]] and out.waiting_bytes == 0


async def test_what_cannot_be_sent_harms_nothing_else():
    out, link, lost = opened()
    out.pause()
    odd = frames.Request(1, "\ud800", "main", "m", 0, 1, b"")
    large = frames.Reply(2, bytes(network.MAX_MESSAGE))
    wrong = frames.Failure(3, "c", "m", False, {"a": object()})
    for frame in (ping(0), odd, ping(1), large, wrong, ping(2)):
        out.send(frame, 0)
    out.resume()
    assert [frame for message in link.messages for frame in message] == [ping(0), ping(1), ping(2)]
    assert [frame for frame, _ in lost] == [odd, large, wrong] and all(why for _, why in lost)


async def test_after_close_nothing_is_sent_and_what_waited_comes_back():
    out, link, _ = opened()
    out.pause()
    out.send(ping(1), 0)
    assert out.close() == [ping(1)]
    out.flush()
    await turn()
    assert link.messages == []
