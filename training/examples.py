"""Text pairs as arrays of token ids. Knows nothing of files or models."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bundle.text import SourceText, TargetText
from bundle.values import UNKNOWN_ID
from training.data import DataError, Split
from training.recipe import Limits


@dataclass(frozen=True)
class Examples:
    """Pairs as padded arrays. N examples, S and T the longest source and target."""

    source: np.ndarray  # [N, S] int64, padded with 0
    source_lengths: np.ndarray  # [N] int64
    target: np.ndarray  # [N, T] int64, <S> and <E> left out, padded with 0
    target_lengths: np.ndarray  # [N] int64
    groups: np.ndarray  # [N] int64, the same number for examples of one source, from 0 without gaps
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.source_lengths)

    @cached_property
    def of_groups(self) -> list[np.ndarray]:
        """The examples of each group."""
        order = np.argsort(self.groups, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.groups[order])) + 1)


def to_examples(
    split: Split, source: SourceText, target: TargetText, limits: Limits, backwards: bool = False
) -> Examples:
    """One example a source-target pair; `backwards`, targets are spelled from their ends.

    Left out, and counted, are pairs that are empty to a model, over the limits, or with a target that is not
    all tokens of the vocabulary: special ones that a text spells out are unknown.
    """
    flat = [(pair, text) for pair in split.pairs for text in pair.targets]
    sources = source.encode_many([pair.source for pair, _ in flat])
    numbers: dict[str, int] = {}
    kept = [
        (ids, target_ids[::-1] if backwards else target_ids, numbers.setdefault(pair.read, len(numbers)))
        for ids, (pair, text) in zip(sources, flat, strict=True)
        if 0 < len(ids) <= limits.max_source_length
        and 0 < len(target_ids := target.encode(text)) <= limits.max_target_length
        and UNKNOWN_ID not in target_ids
    ]
    if not kept:
        raise DataError(f"{split.name}: every pair is empty, over the limits, or spells special tokens out")
    source_rows, target_rows, groups = zip(*kept, strict=True)
    return Examples(*padded(source_rows), *padded(target_rows), np.array(groups), len(flat) - len(kept))


def padded(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of each row, filled up with 0, [N, the longest]; and how many each has, [N]. One row at least."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    array = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return array, lengths
