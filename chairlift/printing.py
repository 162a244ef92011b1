"""What the command line prints: answers on standard output, complaints and progress on standard error."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chairlift.results import Generation, Hypothesis, InputError, Model, TargetScore, TokenChunk


def print_answer(text: str, answer: Generation | TargetScore | InputError, as_json: bool) -> None:
    """One line a hypothesis or target; a bad input's goes to standard error, and with JSON to both."""
    if isinstance(answer, InputError):
        complain(f"{_shortened(text)}: {answer.message.removeprefix(answer.field + ': ')}")
        if as_json:
            shown = text.encode(errors="replace").decode()
            _print_json({"input": shown, "error": dataclasses.asdict(answer)})
    elif as_json:
        _print_json(_score(text, answer) if isinstance(answer, TargetScore) else _generation(text, answer))
    elif isinstance(answer, TargetScore):
        print(f"{text}\t{answer.score:.4f}")
    else:
        for hypothesis in answer.hypotheses:
            print(f"{text}\t{hypothesis.text}")


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
    """The best hypothesis, field by field, and the others in `others`."""
    best, *others = (_hypothesis(hypothesis) for hypothesis in answer.hypotheses)
    return {
        "input": text,
        **best,
        **({"others": others} if others else {}),
        "source_length": answer.source_length,
        "unknown_tokens": answer.unknown_tokens,
        "model": dataclasses.asdict(answer.model),
    }


def _hypothesis(hypothesis: Hypothesis) -> dict[str, Any]:
    fields = dataclasses.asdict(hypothesis) | {"finish_reason": hypothesis.finish_reason.value}
    asked_for = ("log_probabilities", "alternatives")
    return {name: value for name, value in fields.items() if value or name not in asked_for}


def _score(text: str, answer: TargetScore) -> dict[str, Any]:
    source, _, target = text.partition("\t")
    return {"input": source, "target": target, **dataclasses.asdict(answer)}


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
