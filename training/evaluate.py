"""Answers of one model or of several together, and their error rates.

WER: percent of sources whose answer equals none of its targets. PER: edit distance to the closest target,
summed, over the length of those targets, in percent. Each source counts once, with all its targets. One
without a token, such as a lone accent where accents are taken off, has an empty answer, which is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from bundle.text import SourceText, TargetText
from bundle.values import END_ID
from training.beam import END, BeamOptions, Hypothesis, beam_search
from training.examples import padded
from training.model import Seq2Seq

BATCH = 512
BEAM_ROWS = 640  # of a search; each source has as many as its beam is wide

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Scores:
    """Error rates in percent over `sources` sources."""

    wer: float
    per: float
    sources: int


@dataclass(frozen=True)
class Verdict:
    """One source's answer against the closest of its `targets`; `distance` and `length` in tokens."""

    source: str
    answer: str
    closest: str
    distance: int
    length: int
    targets: int = 1


def answer(
    model: Seq2Seq, sources: Sequence[Sequence[int]], max_length: int, device: torch.device | str = "cpu"
) -> list[tuple[list[int], list[float]]]:
    """Greedy ids (with <E>) and their log-probabilities for the ids of each source, in order."""

    def run(source: Tensor, lengths: Tensor) -> list[tuple[list[int], list[float]]]:
        return model.greedy(source.to(device), lengths, max_length)

    return _in_batches(sources, BATCH, run, ([], []))


def search(
    models: Sequence[Seq2Seq], sources: Sequence[Sequence[int]], options: BeamOptions
) -> list[list[Hypothesis]]:
    """The n_best hypotheses for the ids of each source, in order."""
    size = max(1, BEAM_ROWS // options.width)

    def run(source: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        return beam_search(models, source, lengths, options)

    return _in_batches(sources, size, run, [Hypothesis()])


def spelled(ids: Sequence[int], backwards: bool) -> list[int]:
    """What a model emitted as it is read: one that spells backwards began with the end. <E> stays last."""
    if not backwards:
        return list(ids)
    end = ids[-1:] if ids and ids[-1] == END else []
    return [*reversed(ids[: len(ids) - len(end)]), *end]


def _in_batches(
    sources: Sequence[Sequence[int]],
    size: int,
    run: Callable[[Tensor, Tensor], list[Answer]],
    nothing: Answer,
) -> list[Answer]:
    """What `run` gives for each source, in order; it gets sources of like lengths, padded, and lengths.

    For one without a token that is `nothing`.
    """
    answers: dict[int, Answer] = {}
    order = sorted(filter(sources.__getitem__, range(len(sources))), key=lambda index: len(sources[index]))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        source, lengths = map(torch.from_numpy, padded([sources[index] for index in chosen]))
        answers |= zip(chosen, run(source, lengths), strict=True)
    return [answers.get(index, nothing) for index in range(len(sources))]


def judge(
    answers: Sequence[Sequence[int]], grouped: dict[str, tuple[str, ...]], target: TargetText
) -> list[Verdict]:
    """Holds the ids of each source's answer against its targets."""
    verdicts = []
    for ids, (source, targets) in zip(answers, grouped.items(), strict=True):
        hypothesis = [token for token in ids if token != END_ID]
        references = [target.encode(text) for text in targets]
        distances = [Levenshtein.distance(hypothesis, reference) for reference in references]
        closest = int(np.argmin(distances))
        length = len(references[closest])
        found = Verdict(
            source, target.decode(hypothesis), targets[closest], distances[closest], length, len(targets)
        )
        verdicts.append(found)
    return verdicts


def score(verdicts: Sequence[Verdict]) -> Scores:
    """Error rates of all."""
    wrong = sum(verdict.distance > 0 for verdict in verdicts)
    distance = sum(verdict.distance for verdict in verdicts)
    length = sum(verdict.length for verdict in verdicts)
    return Scores(100 * wrong / len(verdicts), 100 * distance / max(length, 1), len(verdicts))


def evaluate(
    model: Seq2Seq,
    grouped: dict[str, tuple[str, ...]],
    texts: tuple[SourceText, TargetText],
    max_length: int,
    device: torch.device | str = "cpu",
    together: Callable[[list[Verdict]], list[Verdict]] = list,
    backwards: bool = False,
) -> Scores:
    """Scores greedy answers against every target of each source. `backwards`: of a model that spells so.

    `together` may add what other processes found on their share of the sources.
    """
    source, target = texts
    answers = answer(model, source.encode_many(list(grouped)), max_length, device)
    return score(together(judge([spelled(ids, backwards) for ids, _ in answers], grouped, target)))
