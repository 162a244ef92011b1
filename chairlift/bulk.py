"""Many calls in flight, answers in the order of the inputs, memory bounded. Knows nothing of printing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

from chairlift.errors import Overloaded
from chairlift.results import Generation, InputError, TargetScore

CALLS_IN_FLIGHT = 16
OVERLOAD_PATIENCE_SECONDS = 60.0
OVERLOAD_DELAY_SECONDS = 1.0  # where the server does not say how long

Answer = Generation | TargetScore | InputError
Call = Callable[[list[str]], Awaitable[Sequence[Answer]]]

NOT_TEXT = InputError("INVALID_ARGUMENT", "not UTF-8 text", "")
NO_TARGET = InputError("INVALID_ARGUMENT", "no tab and target after the input", "")


async def answers(
    groups: AsyncIterator[list[str]], call: Call
) -> AsyncGenerator[list[tuple[str, Answer]], None]:
    """Each group's inputs with their answers, in order; a call each, at most CALLS_IN_FLIGHT open or unread.

    A group is read only once there is room for its call. Raises what a call or the source raises, after the
    answers before it, and cancels the calls behind it.
    """
    open_calls: deque[tuple[list[str], asyncio.Task[list[Answer]]]] = deque()
    coming: asyncio.Task[list[str] | None] | None = asyncio.create_task(_following(groups))
    try:
        while coming or open_calls:
            waited_for: list[asyncio.Task[list[Answer]] | asyncio.Task[list[str] | None]] = []
            if open_calls:
                waited_for.append(open_calls[0][1])
            if coming and len(open_calls) < CALLS_IN_FLIGHT:
                waited_for.append(coming)
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)

            if coming and coming.done() and len(open_calls) < CALLS_IN_FLIGHT:
                if group := coming.result():
                    open_calls.append((group, asyncio.create_task(_patiently(call, group))))
                    coming = asyncio.create_task(_following(groups))
                else:
                    coming = None
            while open_calls and open_calls[0][1].done():
                inputs, done = open_calls.popleft()
                yield list(zip(inputs, done.result(), strict=True))
    finally:
        await _cancel([task for task in (coming, *(task for _, task in open_calls)) if task])


def is_text(text: str) -> bool:
    """Whether UTF-8 can hold it, as the wire must."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


async def _following(groups: AsyncIterator[list[str]]) -> list[str] | None:
    return await anext(groups, None)


async def _patiently(call: Call, inputs: list[str]) -> list[Answer]:
    """One call's answers. A server over capacity is asked again when it says so, for a minute of waiting."""
    sendable = [text for text in inputs if is_text(text)]
    waited_seconds = 0.0
    while sendable:
        try:
            sent = iter(await call(sendable))
        except Overloaded as error:
            delay = error.retry_delay_seconds or OVERLOAD_DELAY_SECONDS
            if waited_seconds + delay > OVERLOAD_PATIENCE_SECONDS:
                raise
            await asyncio.sleep(delay)
            waited_seconds += delay
        else:
            return [next(sent) if is_text(text) else NOT_TEXT for text in inputs]
    return [NOT_TEXT] * len(inputs)


async def _cancel(tasks: list[asyncio.Task[list[Answer]] | asyncio.Task[list[str] | None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
