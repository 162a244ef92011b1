"""What the command line prints: answers on standard output, complaints and progress on standard error."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chairlift.description import Calibration, Model, ModelCard, Score
from chairlift.results import AnswerSource, Generation, Hypothesis, InputError, TargetScore, TokenChunk

ERROR_RATES = ("WER", "PER", "CER")  # in percent


def print_answer(
    text: str, answer: Generation | TargetScore | InputError, as_json: bool, confidence: bool = False
) -> None:
    """One line a hypothesis or target; a bad input's goes to standard error, and with JSON to both."""
    if isinstance(answer, InputError):
        complain(f"{_shortened(text)}: {answer.message}")
        if as_json:
            shown = text.encode(errors="replace").decode()
            _print_json({"input": shown, "error": dataclasses.asdict(answer)})
    elif as_json:
        _print_json(_score(text, answer) if isinstance(answer, TargetScore) else _generation(text, answer))
    elif isinstance(answer, TargetScore):
        print(f"{text}\t{answer.score:.4f}")
    else:
        for hypothesis in answer.hypotheses:
            _print_hypothesis(text, hypothesis, answer, confidence)


class GrowingLine:
    """One input's answer as it arrives: a line that grows; with JSON one object a chunk and the end."""

    def __init__(self, text: str, as_json: bool) -> None:
        self._text = text
        self._as_json = as_json
        self._open = False
        self._answer: Generation | None = None

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
        else:
            self._answer = answer
        sys.stdout.flush()

    def close(self) -> None:
        """Ends the line, also one that broke off."""
        if self._open:
            print(_mark(self._answer), flush=True)
        if self._answer:
            best, *others = self._answer.hypotheses
            print_alignments(self._text, self._answer.source_length, best)
            for hypothesis in others:
                _print_hypothesis(self._text, hypothesis, self._answer)
            sys.stdout.flush()


def _print_hypothesis(
    text: str, hypothesis: Hypothesis, answer: Generation, confidence: bool = False
) -> None:
    sure = f"\t{_confidence(hypothesis)}" if confidence else ""
    print(f"{text}\t{hypothesis.text}{sure}{_mark(answer)}")
    print_alignments(text, answer.source_length, hypothesis)


def print_alignments(text: str, source_length: int, hypothesis: Hypothesis) -> None:
    """A line a token, where they were asked for: what of the input it was looked for in, in percent."""
    if not hypothesis.alignments:
        return
    columns = _spelled(text, source_length)
    rows = [*_spelled(hypothesis.text, len(hypothesis.token_ids)), "<E>"][: len(hypothesis.alignments)]
    first, width = max(map(len, rows)), max(3, *map(len, columns))
    print(" " * (first + 2), *(column.rjust(width) for column in columns))
    for row, weights in zip(rows, hypothesis.alignments, strict=True):
        percents = (f"{100 * weight:.0f}".rjust(width) for weight in weights)
        print(f"  {row.ljust(first)}", *percents)


def _confidence(hypothesis: Hypothesis) -> str:
    return "-" if hypothesis.confidence is None else f"{hypothesis.confidence:.4f}"


def _spelled(text: str, tokens: int) -> list[str]:
    """A name for each token of a text: words or characters where they are as many, else numbers from 1."""
    for parts in (text.split(), list(text)):
        if len(parts) == tokens:
            return parts
    return [str(number) for number in range(1, tokens + 1)]


def _mark(answer: Generation | None) -> str:
    """Tells a person that nothing was decoded; what is piped on stays input and answer."""
    listed = answer is not None and answer.source is AnswerSource.LEXICON
    return "\t(lexicon)" if listed and sys.stdout.isatty() else ""


def print_models(models: list[Model], as_json: bool) -> None:
    """One line a model version: name, version, state, profile, device, title; a star marks the default.

    Below each, as far as it has them: scores with their intervals, speed, what its confidence promises.
    """
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
    for model, row in zip(models, rows, strict=True):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        for line in (*_scores(model.card), *_speed(model)):
            print(f"  {line}")
        if model.calibration and model.calibration.precisions:
            print(f"  {_promises(model.calibration)}")


def _scores(card: ModelCard) -> Iterator[str]:
    """A line a metric and data set."""
    rates = [score for score in card.scores if score.metric in ERROR_RATES]
    for metric, dataset in dict.fromkeys((score.metric, score.dataset) for score in rates):
        values = (_rate(score) for score in rates if (score.metric, score.dataset) == (metric, dataset))
        yield f"{metric}, on {dataset}: {'; '.join(values)}"


def _rate(score: Score) -> str:
    within = " ({:.2f} to {:.2f})".format(*score.interval_95) if score.interval_95 else ""
    return f"{score.value:.2f} %{within} {score.decoding}"


def _speed(model: Model) -> Iterator[str]:
    """The speed of the profile that is served, or nothing."""
    if speed := model.card.speed:
        timings = (
            f"{one.rows} at a time {one.source_microseconds:.0f} µs a source, "
            f"{one.step_microseconds:.0f} µs a step"
            for one in speed.timings
            if one.profile == model.profile
        )
        where = f"{speed.runtime}, {speed.threads} thread{'s' * (speed.threads > 1)} of {speed.machine}"
        what = f"speed of the {model.profile} graphs, {where}, {speed.source_length} tokens"
        yield f"{what}: {'; '.join(timings)}"


def _promises(calibration: Calibration) -> str:
    found = (
        f"over {one.confidence:g} {one.coverage:.1%} of answers, {one.precision:.1%} right"
        for one in calibration.precisions
    )
    return f"confidence, on {calibration.measured_on}: {'; '.join(found)}"


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
        "source": answer.source.value,
        "model": dataclasses.asdict(answer.model),
    }


def _hypothesis(hypothesis: Hypothesis) -> dict[str, Any]:
    fields = dataclasses.asdict(hypothesis) | {"finish_reason": hypothesis.finish_reason.value}
    asked_for = ("log_probabilities", "alternatives", "alignments")
    return {name: value for name, value in fields.items() if value or name not in asked_for}


def _score(text: str, answer: TargetScore) -> dict[str, Any]:
    source, target = text.split("\t")[:2]
    return {"input": source, "target": target, **dataclasses.asdict(answer)}


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
