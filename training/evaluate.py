"""Greedy answers and their error rates.

WER: percent of sources whose answer equals none of its targets. PER: edit distance to the closest target,
summed, over the length of those targets, in percent. Each source counts once, with all its targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from bundle.text import SourceText, TargetText
from training.model import Seq2Seq

BATCH = 512


@dataclass(frozen=True)
class Scores:
    """Error rates in percent over `sources` sources."""

    wer: float
    per: float
    sources: int


def answer(
    model: Seq2Seq, sources: Sequence[Sequence[int]], max_length: int, device: torch.device | str = "cpu"
) -> list[tuple[list[int], list[float]]]:
    """Greedy ids (with <E>) and their log-probabilities for the ids of each source, in order."""
    answers: list[tuple[list[int], list[float]]] = [([], [])] * len(sources)
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    for start in range(0, len(order), BATCH):  # batches of like lengths
        chosen = order[start : start + BATCH]
        lengths = torch.tensor([len(sources[index]) for index in chosen])
        padded = np.zeros((len(chosen), int(lengths.max())), dtype=np.int64)
        for row, index in enumerate(chosen):
            padded[row, : len(sources[index])] = sources[index]
        found = model.greedy(torch.from_numpy(padded).to(device), lengths, max_length)
        for index, given in zip(chosen, found, strict=True):
            answers[index] = given
    return answers


def evaluate(
    model: Seq2Seq,
    grouped: dict[str, tuple[str, ...]],
    texts: tuple[SourceText, TargetText],
    max_length: int,
    device: torch.device | str = "cpu",
) -> Scores:
    """Scores greedy answers against every target of each source."""
    source, target = texts
    answers = answer(model, source.encode_many(list(grouped)), max_length, device)
    wrong = distance = length = 0
    for (ids, _), targets in zip(answers, grouped.values(), strict=True):
        hypothesis = [token for token in ids if token != 0]  # without <E>
        references = [target.encode(text) for text in targets]
        distances = [Levenshtein.distance(hypothesis, reference) for reference in references]
        closest = int(np.argmin(distances))
        wrong += distances[closest] > 0
        distance += distances[closest]
        length += len(references[closest])
    return Scores(100 * wrong / len(grouped), 100 * distance / max(length, 1), len(grouped))
