"""Where the command line's inputs come from: words, or lines of a file or pipe, in groups, one a call."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

CALL_SIZE = 64  # inputs a call
CALL_CHARACTERS = 128 * 1024  # so that no call is too large because of its neighbours
BLOCK_SIZE = 64 * 1024  # bytes a read
MAX_LINE_SIZE = 1024 * 1024  # bytes; no model takes inputs of that size


class LineTooLong(Exception):
    """The source is no text with one input a line."""


async def words(inputs: Sequence[str], size: int = CALL_SIZE) -> AsyncIterator[list[str]]:
    """The inputs in groups of at most `size`, and of CALL_CHARACTERS but for a long one alone."""
    group: list[str] = []
    characters = 0
    for text in inputs:
        if group and (len(group) == size or characters + len(text) > CALL_CHARACTERS):
            yield group
            group, characters = [], 0
        group.append(text)
        characters += len(text)
    if group:
        yield group


async def lines(descriptor: int, size: int = CALL_SIZE) -> AsyncIterator[list[str]]:
    """The lines of a file or pipe in groups of at most `size`, each group as soon as its lines are there.

    Blank lines are left out, and line endings and a byte order mark cut off. Bytes that are not UTF-8 become
    lone surrogates. Holds one block and one line at most; raises LineTooLong rather than hold a line without
    end.
    """
    rest, at_start = b"", True
    while block := await _read(descriptor):
        rest += block
        if at_start and not codecs.BOM_UTF8.startswith(rest):
            rest, at_start = rest.removeprefix(codecs.BOM_UTF8), False
        *complete, rest = rest.split(b"\n")
        if len(rest) > MAX_LINE_SIZE:
            raise LineTooLong(f"a line of more than {MAX_LINE_SIZE} bytes; one input a line is wanted")
        async for group in words(_texts(complete), size):
            yield group
    async for group in words(_texts([rest]), size):
        yield group


def count(path: Path) -> int:
    """How many inputs `lines` will find in a file."""
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def _texts(raw_lines: list[bytes]) -> list[str]:
    return [line.rstrip(b"\r").decode(errors="surrogateescape") for line in raw_lines if line.strip()]


async def _read(descriptor: int) -> bytes:
    """What is there to read, waiting for it if need be; empty at the end.

    Waits without a thread, so that Ctrl-C never waits for one more line.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, readable.set)
    except (PermissionError, NotImplementedError):  # a plain file, which never keeps us waiting; or Windows
        return os.read(descriptor, BLOCK_SIZE)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, BLOCK_SIZE)
