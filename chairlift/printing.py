"""What the command line prints: answers on standard output, complaints and progress on standard error."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chairlift.results import Generation, InputError, Model, TokenChunk


def print_answer(text: str, answer: Generation | InputError, as_json: bool) -> None:
    """One line an input; a bad input's goes to standard error, and with JSON to both."""
    if isinstance(answer, InputError):
        complain(f"{_shortened(text)}: {answer.message.removeprefix(answer.field + ': ')}")
        if as_json:
            shown = text.encode(errors="replace").decode()
            _print_json({"input": shown, "error": dataclasses.asdict(answer)})
    elif as_json:
        _print_json(_generation(text, answer))
    else:
        print(f"{text}\t{answer.text}")


class GrowingLine:
    """One input's answer as it arrives: a line that grows; with JSON one object a chunk and the end."""

    def __init__(self, text: str, as_json: bool) -> None:
        self._text = text
        self._as_json = as_json
        self._open = False

    def grow(self, chunk: TokenChunk) -> None:
        """Prints what a chunk adds."""
        if self._as_json:
            _print_json({"input": self._text, "chunk": dataclasses.asdict(chunk)})
        else:
            print(chunk.text if self._open else f"{self._text}\t{chunk.text}", end="")
            self._open = True
        sys.stdout.flush()

    def finish(self, answer: Generation) -> None:
        """Prints the end of the answer, or all of it where no chunk came."""
        if self._as_json or not self._open:
            print_answer(self._text, answer, self._as_json)
        sys.stdout.flush()

    def close(self) -> None:
        """Ends the line, also one that broke off."""
        if self._open:
            print(flush=True)


def print_models(models: list[Model], as_json: bool) -> None:
    """One line a model version: name, version, state, profile, device, title; a star marks the default."""
    if as_json:
        for model in models:
            fields = dataclasses.asdict(model)
            del fields["source_tokens"], fields["target_tokens"]
            _print_json(fields)
        return
    rows = [
        (
            model.reference.name + "*" * model.is_default,
            str(model.reference.version),
            "ready" if model.ready else "not ready",
            model.profile or "-",
            model.device or "-",
            model.card.title,
        )
        for model in models
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def complain(message: str) -> None:
    """One line on standard error."""
    print(f"chairlift: {' '.join(message.split())}", file=sys.stderr)


@contextmanager
def progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, of so many inputs or of an unknown number; yields what counts more of them."""
    from rich.console import Console  # a fifth of the start-up, for those who see it alone
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("inputs"), TimeRemainingColumn())
    with Progress(
        *columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False
    ) as bar:
        task = bar.add_task("inputs", total=total)
        yield lambda answered: bar.advance(task, answered)


def _generation(text: str, answer: Generation) -> dict[str, Any]:
    return {
        "input": text,
        "text": answer.text,
        "score": answer.score,
        "finish_reason": answer.finish_reason.value,
        "token_ids": answer.token_ids,
        "source_length": answer.source_length,
        "unknown_tokens": answer.unknown_tokens,
        "model": dataclasses.asdict(answer.model),
    }


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
