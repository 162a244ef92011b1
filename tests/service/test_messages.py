"""Messages survive the socket, however the bytes are cut; an engine's end waits only where it may."""

import math
import random
import socket
import threading

import msgspec
import pytest

from service.channel import Channel
from service.hypothesis import Hypothesis, Outcome
from service.messages import (
    Abort,
    Batch,
    Cancel,
    Ended,
    Failed,
    Frames,
    FromEngine,
    News,
    Progress,
    Ready,
    Start,
    Submit,
    ToEngine,
    frame,
)
from service.options import Options, Sampling, pack

OPTIONS = Options(
    9, beam_size=3, sampling=Sampling(2**64 - 1, 0.5), biases=((3, -1.5),), lexicon=pack([(2, 3)])
)
HYPOTHESIS = Hypothesis(
    [2, 3], [-0.1, -1e-30, -math.inf], "constraint", -0.1, -0.05, [[(2, -0.1), (3, -2.0)]], [[0.25, 0.75]]
)
TO_ENGINE: list[ToEngine] = [
    Start("models/tiny/1", "int8", "auto", 128, 32, 1, 1024),
    Submit(
        [
            Batch(1, [[2, 3, 4]], OPTIONS, 1e9, 0.1, -2, True),
            Batch(2, [[5], []], Options(1), 2.5, 0.1, 0, False),
        ]
    ),
    Cancel([1, 2**40]),
    Abort(),
]
FROM_ENGINE: list[FromEngine] = [
    Ready("cpu", 1e-7, "no CUDA"),
    Failed("decoder.int8.onnx: missing"),
    News(),
    News(
        ended=[Ended(7, outcome, [HYPOTHESIS], 1.0, 2.0, 3.0) for outcome in Outcome],
        progress=[Progress(8, [4, 5], [-0.5, -0.25])],
        step_rows=[1, 2],
        step_seconds=[0.5],
        encode_rows=[8],
        encode_seconds=[0.25],
        overhead_seconds=[1e-5],
    ),
]


@pytest.mark.parametrize(("kind", "messages"), [(ToEngine, TO_ENGINE), (FromEngine, FROM_ENGINE)])
@pytest.mark.parametrize("most", [1, 5, 100, 100_000])
def test_messages_survive_however_they_are_cut(kind, messages, most):
    data = b"".join(frame(message) for message in messages * 5)
    chance, frames, found, start = random.Random(most), Frames(kind), [], 0
    while start < len(data):
        end = start + chance.randint(1, most)
        found += frames.feed(data[start:end])
        start = end
    assert found == messages * 5


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x93\xa5Start\x01\x02", b"\x91\xa6Nobody"])
def test_nonsense_is_refused(body):
    with pytest.raises(msgspec.DecodeError):
        list(Frames(ToEngine).feed(len(body).to_bytes(4, "big") + body))


def test_a_message_of_the_other_side_is_refused():
    with pytest.raises(msgspec.DecodeError):
        list(Frames(ToEngine).feed(frame(Ready("cpu", 0.0, ""))))


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, Channel(theirs)


def test_a_channel_that_may_not_wait_has_nothing(ends):
    ours, channel = ends
    assert channel.receive(wait=False) == ()
    ours.sendall(frame(Abort()) + frame(Cancel([3]))[:5])
    assert channel.receive(wait=False) == [Abort()]
    ours.sendall(frame(Cancel([3]))[5:])
    assert channel.receive(wait=True) == [Cancel([3])]


def test_a_channel_that_waits_is_woken(ends):
    ours, channel = ends
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(channel.receive(wait=True)))
    waiting.start()
    ours.sendall(frame(Abort()))
    waiting.join(5)
    assert found == [[Abort()]]


@pytest.mark.parametrize("wait", [True, False])
def test_a_front_that_is_gone_is_seen(ends, wait):
    ours, channel = ends
    ours.close()
    assert channel.receive(wait) is None
    with pytest.raises(OSError):
        channel.send(News())


def test_news_larger_than_the_sockets_buffer_arrive_whole(ends):
    ours, channel = ends
    news = News(step_seconds=[0.5] * 200_000)
    sending = threading.Thread(target=channel.send, args=(news,))
    sending.start()
    frames, found = Frames(FromEngine), []
    while not found:
        found += frames.feed(ours.recv(1 << 16))
    sending.join(5)
    assert found == [news]
