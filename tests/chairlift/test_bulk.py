"""Reading inputs and asking in bulk: order, bounds, and what is read when. No server."""

from __future__ import annotations

import asyncio
import os

import grpc
import pytest

from chairlift import bulk, source
from chairlift.errors import Overloaded
from chairlift.results import InputError


def value(text: str) -> InputError:
    return InputError("", text, "")


async def collect(groups, call):
    return [pair for group in [group async for group in bulk.answers(groups, call)] for pair in group]


async def test_answers_keep_the_order_of_the_inputs_whatever_the_calls_do():
    turn = asyncio.Condition()
    left = 3

    async def last_call_ends_first(inputs):
        nonlocal left
        async with turn:
            await turn.wait_for(lambda: left == int(inputs[0][0]))
            left -= 1
            turn.notify_all()
        return [value(text) for text in inputs]

    async def groups():
        for name in "123":
            yield [name, name + "b"]

    pairs = await collect(groups(), last_call_ends_first)
    assert [text for text, _ in pairs] == ["1", "1b", "2", "2b", "3", "3b"]
    assert all(text == answer.message for text, answer in pairs)


async def test_a_source_is_read_only_as_far_as_there_is_room_for_calls():
    read = 0
    gate = asyncio.Event()

    async def groups():
        nonlocal read
        for _ in range(100):
            read += 1
            yield ["x"]

    async def held(inputs):
        await gate.wait()
        return [value(text) for text in inputs]

    asking = asyncio.create_task(collect(groups(), held))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert read == bulk.CALLS_IN_FLIGHT + 1  # one group waits at the door
    gate.set()
    assert len(await asking) == 100


async def test_error_of_a_call_comes_after_the_answers_before_it_and_cancels_those_behind_it():
    cancelled = []

    async def call(inputs):
        if inputs == ["broken"]:
            raise OSError("broken")
        if inputs == ["behind"]:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.append(inputs)
        return [value(text) for text in inputs]

    async def groups():
        for name in ("before", "broken", "behind"):
            yield [name]

    seen = []
    with pytest.raises(OSError, match="broken"):
        async for group in bulk.answers(groups(), call):
            seen.append(group[0][0])
    assert seen == ["before"]
    assert cancelled in ([["behind"]], [])  # begun and cancelled, or never begun


async def test_full_server_is_asked_again_but_not_for_ever(monkeypatch):
    attempts = 0

    async def full_for_a_while(inputs):
        nonlocal attempts
        attempts += 1
        if attempts < 5:
            raise Overloaded("full", grpc.StatusCode.RESOURCE_EXHAUSTED, (), 0.001)
        return [value(text) for text in inputs]

    assert len(await collect(source.words(["x"]), full_for_a_while)) == 1
    assert attempts == 5

    attempts = 0
    monkeypatch.setattr(bulk, "OVERLOAD_PATIENCE_SECONDS", 0.0025)
    with pytest.raises(Overloaded):
        await collect(source.words(["x"]), full_for_a_while)
    assert attempts == 3


async def test_text_that_utf8_cannot_hold_is_left_out_of_the_call():
    sent = []

    async def call(inputs):
        sent.append(inputs)
        return [value(text) for text in inputs]

    pairs = await collect(source.words(["a", "\udcff", "b"]), call)
    assert sent == [["a", "b"]]
    assert [answer for _, answer in pairs] == [value("a"), bulk.NOT_TEXT, value("b")]


async def test_lines_are_cut_into_groups_and_blank_ones_left_out(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes(b"one\r\n\n  \n t w o \n" + b"x\n" * 100 + b"\xff\nlast")
    with path.open("rb") as file:
        groups = [group async for group in source.lines(file.fileno())]
    assert [len(group) for group in groups] == [64, 39, 1]
    assert groups[0][:3] == ["one", " t w o ", "x"]
    assert groups[1:] == [["x"] * 38 + ["\udcff"], ["last"]]
    assert source.count(path) == 104


async def test_long_inputs_are_cut_into_groups_by_their_length(monkeypatch):
    monkeypatch.setattr(source, "CALL_CHARACTERS", 5)
    groups = [group async for group in source.words(["ab", "cd", "e", "f", "longer", "g"])]
    assert groups == [["ab", "cd", "e"], ["f"], ["longer"], ["g"]]


async def test_lines_of_a_pipe_come_as_soon_as_they_are_there():
    reading, writing = os.pipe()
    groups = source.lines(reading)
    os.write(writing, b"one\ntw")
    assert await anext(groups) == ["one"]
    os.write(writing, b"o\n")
    assert await anext(groups) == ["two"]
    os.close(writing)
    assert await anext(groups, None) is None
    os.close(reading)


async def test_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MAX_LINE_SIZE", 10)
    path = tmp_path / "binary"
    for content, refused in ((b"x" * 10, False), (b"x" * 11, True)):
        path.write_bytes(content)
        with path.open("rb") as file:
            if refused:
                with pytest.raises(source.LineTooLong):
                    await anext(source.lines(file.fileno()))
            else:
                assert await anext(source.lines(file.fileno())) == ["x" * 10]
