"""The front's end of a link: what is said arrives in order, and an end that was not ours is heard of."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator

import pytest
import uvloop

from service.channel import Channel
from service.errors import StartError
from service.hypothesis import Outcome
from service.link import MANY, Link
from service.messages import Abort, Batch, Cancel, Ended, Failed, Frames, News, Ready, Submit, ToEngine, frame
from service.options import Options
from tests.service.conftest import until
from tests.service.desk import settle


class FarEnd:
    """The engine's side, read and written by the test."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._frames = Frames(ToEngine)

    async def heard(self, count: int) -> list[object]:
        found: list[object] = []
        async with asyncio.timeout(5):
            while len(found) < count:
                data = await asyncio.get_running_loop().sock_recv(self._end, 1 << 16)
                assert data, "the front hung up"
                found += self._frames.feed(data)
        return found

    def say(self, data: bytes) -> None:
        self._end.sendall(data)

    def hang_up(self) -> None:
        self._end.close()


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Link, FarEnd]]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    link = Link(ours)
    await link.open()
    yield link, FarEnd(theirs)
    link.close()
    theirs.close()
    await asyncio.sleep(0)


def batch(first: int, count: int = 1) -> Batch:
    return Batch(first, [[2]] * count, Options(9), 1.0, 0.5, 0, False)


async def test_batches_of_one_turn_travel_together(ends):
    link, far = ends
    link.submit(batch(1))
    link.submit(batch(2))
    assert await far.heard(1) == [Submit([batch(1), batch(2)])]
    link.submit(batch(3))
    assert await far.heard(1) == [Submit([batch(3)])]


def test_many_sequences_do_not_wait_for_the_end_of_the_turn():
    """On the service's own event loop, which writes when a turn is over unless it is told otherwise."""

    async def submit() -> bytes:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        link = Link(ours)
        await link.open()
        for first in range(0, MANY, 4):
            link.submit(batch(first, 4))
        with theirs:
            data = theirs.recv(1 << 16)
            link.close()
            await asyncio.sleep(0)
        return data

    assert list(Frames(ToEngine).feed(uvloop.run(submit()))) == [
        Submit([batch(first, 4) for first in range(0, MANY, 4)])
    ]


async def test_nothing_overtakes_a_sequence(ends):
    """A cancel or an abort that came first would leave it inside for good."""
    link, far = ends
    link.submit(batch(1))
    link.send(Cancel([1]))
    link.submit(batch(2))
    link.send(Abort())
    assert await far.heard(4) == [Submit([batch(1)]), Cancel([1]), Submit([batch(2)]), Abort()]


async def test_an_engine_says_whether_it_is_ready(ends):
    link, far = ends
    far.say(frame(Ready("cpu", 0.5, "")))
    assert await link.ready() == Ready("cpu", 0.5, "")


@pytest.mark.parametrize(
    ("hang_up", "heard"),
    [(Channel.hang_up, "the device is lost"), (lambda _: None, "")],
    ids=["ours", "rude"],
)
async def test_an_engine_that_gives_up_is_heard_by_a_front_that_is_talking(hang_up, heard):
    """With a negative control that just closes: the front fails to write, and reads no further."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    link, gone = Link(ours), asyncio.Event()
    link.lost = gone.set
    await link.open()
    channel = Channel(theirs)
    channel.send(Ready("cpu", 0.5, ""))
    await link.ready()
    channel.send(Failed("the device is lost"))

    def end() -> None:
        hang_up(channel)
        theirs.close()

    ending = threading.Thread(target=end)
    ending.start()
    if not heard:
        ending.join()
    link.send(Cancel([1]))
    async with asyncio.timeout(5):
        await gone.wait()
    assert link.gave_up == heard
    await asyncio.to_thread(ending.join)


async def test_an_engine_that_cannot_serve_says_why(ends):
    link, far = ends
    far.say(frame(Failed("golden case 3: the tokens differ from PyTorch's")))
    with pytest.raises(StartError, match="golden case 3"):
        await link.ready()


async def test_news_are_heard_however_they_are_cut(ends):
    link, far = ends
    heard: list[News] = []
    link.hear = heard.append
    news = [News(ended=[Ended(n, Outcome.EOS, [], 0.0, 0.0, 1.0)]) for n in range(3)]
    data = b"".join(map(frame, news))
    far.say(data[:7])
    await asyncio.sleep(0)
    far.say(data[7:])
    await until(lambda: len(heard) == 3)
    assert heard == news


@pytest.mark.parametrize(
    "last", [b"", frame(News())[:3], b"\x00\x00\x00\x01\xc1"], ids=["end", "cut", "nonsense"]
)
async def test_an_end_that_was_not_ours_is_heard_of_once(ends, last):
    link, far = ends
    lost: list[bool] = []
    link.lost = lambda: lost.append(True)
    far.say(last)
    if last[-1:] != b"\xc1":  # nonsense alone is enough
        far.hang_up()
    await until(lambda: lost)
    assert link.closed and lost == [True]
    link.submit(batch(1))
    link.send(Cancel([1]))


async def test_our_own_end_is_no_loss(ends):
    """Negative control."""
    link, far = ends
    lost: list[bool] = []
    link.lost = lambda: lost.append(True)
    link.close()
    far.hang_up()
    await settle()
    assert link.closed and not lost
