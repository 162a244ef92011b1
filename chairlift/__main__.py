"""The command line: `python -m chairlift WORD ...` prints one line a word, WORD<TAB>ANSWER.

Exit status: 0 all answered; 1 some input was bad, the rest is answered; 2 wrong usage, or a call failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, aclosing
from typing import Any

from chairlift import arguments, bulk, printing, source, wire
from chairlift.async_client import AsyncClient
from chairlift.connection import DEFAULT_SERVER
from chairlift.errors import ChairliftError, InvalidRequest, Unavailable
from chairlift.results import Generation, InputError, TokenChunk

ALL_ANSWERED, BAD_INPUT, FAILED = 0, 1, 2
INTERRUPTED, BROKEN_PIPE = 130, 141  # as shells report SIGINT and SIGPIPE


def main() -> int:
    """Runs the command line and returns its exit status."""
    server = os.environ.get("CHAIRLIFT_SERVER", DEFAULT_SERVER)  # noqa: TID251
    options = arguments.parse(sys.argv[1:], server)
    try:
        status = asyncio.run(run(options))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left has nowhere to go
        return BROKEN_PIPE
    except Unavailable as error:
        printing.complain(f"no answer from {options.server}: {error.message}")
    except (ChairliftError, OSError, source.LineTooLong) as error:
        printing.complain(str(error))
    return FAILED


async def run(options: argparse.Namespace) -> int:
    """Does what the options say and returns the exit status. Raises ChairliftError when a call fails."""
    async with AsyncClient(options.server) as client:
        if options.list:
            printing.print_models(await client.models(timeout_seconds=options.timeout), options.json)
            return ALL_ANSWERED
        with ExitStack() as stack:
            groups, advance = await _source(client, options, stack)
            if options.stream:
                return await _stream(client, groups, advance, options)
            call = _score(client, options) if options.score else _generate(client, options)
            return await _in_bulk(call, groups, advance, options)


async def _source(
    client: AsyncClient, options: argparse.Namespace, stack: ExitStack
) -> tuple[AsyncIterator[list[str]], Callable[[int], None]]:
    """The inputs in groups, and what to call after each answer."""
    if options.file:
        descriptor = stack.enter_context(options.file.open("rb", buffering=0)).fileno()
    elif options.words == ["-"]:
        descriptor = sys.stdin.fileno()
    else:
        size = await _call_size(client, options) if len(options.words) > 1 else 1
        return source.words(options.words, size), _show_nothing
    advance: Callable[[int], None] = _show_nothing
    if sys.stderr.isatty() and not sys.stdout.isatty():  # on one screen, the answers themselves show progress
        advance = stack.enter_context(printing.progress(source.count(options.file) if options.file else None))
    return source.lines(descriptor, await _call_size(client, options)), advance


async def _call_size(client: AsyncClient, options: argparse.Namespace) -> int:
    """Inputs a call: what the server allows, if that is fewer than ours."""
    asked = {"version": options.version, "timeout_seconds": options.timeout}
    allowed = (await client.model(options.model, **asked)).limits.max_inputs
    return min(source.CALL_SIZE, max(1, allowed))


def _show_nothing(answered: int) -> None:
    """What counts answers where no bar is shown."""


def _generate(client: AsyncClient, options: argparse.Namespace) -> bulk.Call:
    async def call(inputs: list[str]) -> Sequence[bulk.Answer]:
        return await client.generate(inputs, **options.decoding, **_target(options))

    return call


def _score(client: AsyncClient, options: argparse.Namespace) -> bulk.Call:
    """Scores lines of INPUT<TAB>TARGET."""

    async def call(lines: list[str]) -> Sequence[bulk.Answer]:
        pairs = [line.split("\t")[:2] for line in lines if "\t" in line]
        inputs, targets = ([pair[side] for pair in pairs] for side in (0, 1))
        scored = iter(await client.score(inputs, targets, **_target(options)) if pairs else ())
        return [next(scored) if "\t" in line else bulk.NO_TARGET for line in lines]

    return call


async def _in_bulk(
    call: bulk.Call,
    groups: AsyncIterator[list[str]],
    advance: Callable[[int], None],
    options: argparse.Namespace,
) -> int:
    status = ALL_ANSWERED
    async with aclosing(bulk.answers(groups, call)) as answers:
        async for group in answers:
            for text, answer in group:
                printing.print_answer(text, answer, options.json, options.confidence)
                if isinstance(answer, InputError):
                    status = BAD_INPUT
            sys.stdout.flush()
            advance(len(group))
    return status


async def _stream(
    client: AsyncClient,
    groups: AsyncIterator[list[str]],
    advance: Callable[[int], None],
    options: argparse.Namespace,
) -> int:
    status = ALL_ANSWERED
    async for group in groups:
        for text in group:
            answer = await _stream_one(client, text, options)
            if isinstance(answer, InputError):
                printing.print_answer(text, answer, options.json)
                status = BAD_INPUT
            advance(1)
    return status


async def _stream_one(client: AsyncClient, text: str, options: argparse.Namespace) -> Generation | InputError:
    """Prints one input's tokens as they arrive, and its end, and returns the answer; prints no error."""
    if not bulk.is_text(text):
        return bulk.NOT_TEXT
    line = printing.GrowingLine(text, options.json)
    try:
        async with aclosing(client.stream(text, **options.decoding, **_target(options))) as events:
            async for event in events:
                if isinstance(event, TokenChunk):
                    line.grow(event)
                else:
                    answer = event
                    line.finish(answer)
        return answer
    except InvalidRequest as error:
        return wire.input_error(error, "input")
    finally:
        line.close()


def _target(options: argparse.Namespace) -> dict[str, Any]:
    """Which model is asked, how urgently, and how long it may take."""
    return {
        "model": options.model,
        "version": options.version,
        "priority": options.priority,
        "timeout_seconds": options.timeout,
    }


if __name__ == "__main__":
    sys.exit(main())
