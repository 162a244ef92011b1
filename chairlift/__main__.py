"""The command line: `python -m chairlift WORD ...` prints one line a word, WORD<TAB>ANSWER.

Exit status: 0 all answered; 1 some input was bad, the rest is answered; 2 wrong usage, or a call failed.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any

from chairlift import bulk, printing, source, wire
from chairlift.async_client import AsyncClient
from chairlift.connection import DEFAULT_SERVER
from chairlift.errors import ChairliftError, InvalidRequest, Unavailable
from chairlift.results import Generation, InputError, TokenChunk

ALL_ANSWERED, BAD_INPUT, FAILED = 0, 1, 2
MAX_COUNT = 2**31 - 1
MAX_TIMEOUT_SECONDS = 86_400
INTERRUPTED, BROKEN_PIPE = 130, 141  # as shells report SIGINT and SIGPIPE


def main() -> int:
    """Runs the command line and returns its exit status."""
    server = os.environ.get("CHAIRLIFT_SERVER", DEFAULT_SERVER)  # noqa: TID251
    options = parse(sys.argv[1:], server)
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
    except ChairliftError as error:
        printing.complain(str(error))
    except (OSError, source.LineTooLong) as error:
        printing.complain(str(error))
    return FAILED


def parse(arguments: list[str], server: str) -> argparse.Namespace:
    """The options. Exits with status 2 where they make no sense."""
    parser = argparse.ArgumentParser(
        prog="chairlift",
        description="Asks a Chairlift server, and prints one line an input: the input, a tab, the answer.",
        epilog="Exit status: 0 all answered; 1 some input was bad, the rest is answered; 2 wrong usage, or a "
        "call failed.",
    )
    add = parser.add_argument
    add("words", metavar="WORD", nargs="*", help="an input; - reads lines from standard input")
    add(
        "--file",
        type=Path,
        metavar="FILE",
        help="read inputs from FILE, one a line; blank lines are left out",
    )
    add("--list", action="store_true", help="show the models, the default one with a star")
    add("--stream", action="store_true", help="show tokens as they arrive, one input at a time")
    add("--json", action="store_true", help="print one JSON object a line")
    add(
        "--server", default=server, metavar="HOST:PORT", help="%(default)s; CHAIRLIFT_SERVER sets the default"
    )
    add("--model", default="", metavar="NAME", help="default: the server's default model")
    add("--version", type=_count, default=0, metavar="N", help="default: the highest that is ready")
    add(
        "--max-length",
        type=_count,
        default=0,
        metavar="N",
        help="most tokens of an answer; default: no limit but the model's",
    )
    add("--timeout", type=float, default=10.0, metavar="SECONDS", help="of one call; default: %(default)s")
    options = parser.parse_args(arguments)
    if sum((bool(options.words), options.file is not None, options.list)) != 1:
        parser.error("give words, - or --file FILE or --list, and one of them alone")
    if "-" in options.words and len(options.words) > 1:
        parser.error("- stands alone: it reads every input from standard input")
    if not 0 < options.timeout <= MAX_TIMEOUT_SECONDS:
        parser.error(f"--timeout: more than 0 and at most {MAX_TIMEOUT_SECONDS} seconds are wanted")
    return options


def _count(text: str) -> int:
    """A number that the wire can hold."""
    if not text.isascii() or not text.isdigit() or int(text) > MAX_COUNT:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to {MAX_COUNT} is wanted")
    return int(text)


async def run(options: argparse.Namespace) -> int:
    """Does what the options say and returns the exit status. Raises ChairliftError when a call fails."""
    async with AsyncClient(options.server) as client:
        if options.list:
            printing.print_models(await client.models(timeout_seconds=options.timeout), options.json)
            return ALL_ANSWERED
        with ExitStack() as stack:
            groups, advance = _source(options, stack)
            ask = _stream if options.stream else _generate
            return await ask(client, groups, advance, options)


def _source(
    options: argparse.Namespace, stack: ExitStack
) -> tuple[AsyncIterator[list[str]], Callable[[int], None]]:
    """The inputs in groups, and what to call after each answer."""
    if options.file:
        descriptor = stack.enter_context(options.file.open("rb", buffering=0)).fileno()
    elif options.words == ["-"]:
        descriptor = sys.stdin.fileno()
    else:
        return source.words(options.words), _show_nothing
    advance: Callable[[int], None] = _show_nothing
    if sys.stderr.isatty() and not sys.stdout.isatty():  # on one screen, the answers themselves show progress
        advance = stack.enter_context(printing.progress(source.count(options.file) if options.file else None))
    return source.lines(descriptor), advance


def _show_nothing(answered: int) -> None:
    """What counts answers where no bar is shown."""


async def _generate(
    client: AsyncClient,
    groups: AsyncIterator[list[str]],
    advance: Callable[[int], None],
    options: argparse.Namespace,
) -> int:
    call = functools.partial(client.generate, **_decoding(options))
    status = ALL_ANSWERED
    async with aclosing(bulk.answers(groups, call)) as answers:
        async for group in answers:
            for text, answer in group:
                printing.print_answer(text, answer, options.json)
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
        async with aclosing(client.stream(text, **_decoding(options))) as events:
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


def _decoding(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": options.model,
        "version": options.version,
        "max_length": options.max_length,
        "timeout_seconds": options.timeout,
    }


if __name__ == "__main__":
    sys.exit(main())
