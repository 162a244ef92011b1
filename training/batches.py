"""Batches: which examples go together in an epoch, and what the model reads and must answer for them.

Knows nothing of files or models.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from training.examples import Examples
from training.recipe import Training

IGNORED = -100  # the label of a padded position


def updates(examples: Examples, options: Training, epoch: int) -> list[list[np.ndarray]]:
    """Indices of the batches of each update of an epoch, counted from 0: a pure function of its arguments.

    Sources in one batch share a length bucket (`bucket_width` lengths wide; 1: no padding at all), and
    targets there are of similar length. Every epoch has as many updates. A batch is that of all processes
    together. Where references are marginalised, an index stands for all examples of its source.
    """
    chance = np.random.default_rng([options.seed, epoch])
    shuffled = chance.permutation(len(examples))
    target_lengths, rows = examples.target_lengths, np.ones(len(examples), dtype=np.int64)
    if options.references != "all":
        _, first = np.unique(examples.groups[shuffled], return_index=True)
        shuffled = shuffled[np.sort(first)]  # one example a source
        longest = np.zeros(examples.groups.max() + 1, dtype=np.int64)
        np.maximum.at(longest, examples.groups, target_lengths)
        target_lengths = longest[examples.groups]  # the sampled one's would change the count of batches
    if options.references == "marginalised":
        rows = np.bincount(examples.groups)[examples.groups]
    bucket = (examples.source_lengths[shuffled] - 1) // options.bucket_width
    ordered = shuffled[np.lexsort((rows[shuffled], target_lengths[shuffled], bucket))]
    edges = np.flatnonzero(np.diff(np.sort(bucket))) + 1
    batches = [
        part[start:end]
        for part in np.split(ordered, edges)
        for start, end in _cuts(examples.source_lengths[part], target_lengths[part], rows[part], options)
    ]
    mixed = [batches[index] for index in chance.permutation(len(batches))]
    size = options.batches_per_update
    return [mixed[start : start + size] for start in range(0, len(mixed), size)]


def _cuts(
    sources: np.ndarray, targets: np.ndarray, rows: np.ndarray, options: Training
) -> Iterator[tuple[int, int]]:
    """Start and end of each batch of one bucket, whose targets are sorted; each index has so many `rows`.

    A batch holds, for each process, at most `batch_size` rows and, where that is not 0, `batch_tokens` padded
    tokens, `<E>` included. An index over that is a batch of its own.
    """
    width = options.bucket_width
    longest_source = ((int(sources[0]) - 1) // width + 1) * width
    start = 0
    while start < len(targets):
        end = min(start + options.batch_size * options.processes, len(targets))
        most = _most_rows(rows[start:end], options.processes)  # never falls, nor do
        tokens = most * (longest_source + targets[start:end] + 1)
        fits = (most <= options.batch_size) & ((tokens <= options.batch_tokens) | (options.batch_tokens == 0))
        end = start + max(1, int(fits.sum()))
        yield start, end
        start = end


def _most_rows(rows: np.ndarray, processes: int) -> np.ndarray:
    """Rows of the process that has most, after each index; they take turns."""
    dealt = np.zeros((len(rows), processes), dtype=np.int64)
    turns = np.arange(len(rows))
    dealt[turns, turns % processes] = rows
    most: np.ndarray = dealt.cumsum(axis=0).max(axis=1)
    return most


class Lesson(NamedTuple):
    """What teachers expect in a batch, [B, T, K] each: token ids, and their shares, which sum to 1, or 0."""

    tokens: Tensor
    shares: Tensor


@dataclass(frozen=True)
class Lessons:
    """The same for all N examples, one target behind the other: P tokens in all, each `<E>` included."""

    first: np.ndarray  # [N], where each begins
    tokens: Tensor  # [P, K] int32
    shares: Tensor  # [P, K] float16

    def pick(self, indices: np.ndarray, labels: Tensor) -> Lesson:
        """Those of the examples at `indices`, whose `labels` are [B, T]; shares are 0 where none is due."""
        due = labels != IGNORED
        places = torch.from_numpy(self.first[indices]).unsqueeze(1) + torch.arange(labels.shape[1])
        places = places.where(due, 0)
        return Lesson(self.tokens[places].long(), self.shares[places].float() * due.unsqueeze(2))


@dataclass(frozen=True)
class Batch:
    """What teacher forcing needs. B examples, S and T their longest source and target (with `<E>`)."""

    source: Tensor  # [B, S], padded with 0
    lengths: Tensor  # [B], of the sources, on the CPU
    read: Tensor  # [B, T]: <S>, then the target
    labels: Tensor  # [B, T]: the target, then <E>; IGNORED beyond
    lesson: Lesson | None = None  # where there are teachers
    owners: Tensor | None = None  # [B], the source of each, from 0; where references are marginalised

    @property
    def tokens(self) -> int:
        """Target tokens to be learnt, `<E>` included."""
        return int((self.labels != IGNORED).sum())


def pick_sources(examples: Examples, indices: np.ndarray, start_id: int) -> Batch:
    """All examples of the sources at `indices`."""
    parts = [examples.of_groups[group] for group in examples.groups[indices]]
    owners = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part) for part in parts]))
    return replace(pick(examples, np.concatenate(parts), start_id), owners=owners)


def pick(examples: Examples, indices: np.ndarray, start_id: int, lessons: Lessons | None = None) -> Batch:
    """The examples at `indices`, no wider than they need."""
    lengths = torch.from_numpy(examples.source_lengths[indices])
    target_lengths = torch.from_numpy(examples.target_lengths[indices])
    source = torch.from_numpy(examples.source[indices])[:, : int(lengths.max())]
    target = torch.from_numpy(examples.target[indices])[:, : int(target_lengths.max())]
    labels = nn.functional.pad(target, (0, 1), value=0)  # 0 is <E>, and the padding of `target`
    beyond = torch.arange(labels.shape[1]) > target_lengths.unsqueeze(1)
    labels = labels.masked_fill(beyond, IGNORED)
    return Batch(
        source=source,
        lengths=lengths,
        read=nn.functional.pad(target, (1, 0), value=start_id),
        labels=labels,
        lesson=lessons.pick(indices, labels) if lessons else None,
    )
