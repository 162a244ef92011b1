"""Batches: which examples go together in an epoch, and what the model reads and must answer for them.

Knows nothing of files or models.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from training.data import Examples

IGNORED = -100  # the label of a padded position


def batch_order(
    examples: Examples, batch_size: int, bucket_width: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Indices of each batch of an epoch: a pure function of its arguments.

    Sources in one batch share a length bucket (`bucket_width` lengths wide; 1: no padding at all), and
    targets there are of similar length.
    """
    chance = np.random.default_rng([seed, epoch])
    shuffled = chance.permutation(len(examples))
    bucket = (examples.source_lengths[shuffled] - 1) // bucket_width
    ordered = shuffled[np.lexsort((examples.target_lengths[shuffled], bucket))]
    edges = np.flatnonzero(np.diff(np.sort(bucket))) + 1
    batches = [
        part[start : start + batch_size]
        for part in np.split(ordered, edges)
        for start in range(0, len(part), batch_size)
    ]
    return [batches[index] for index in chance.permutation(len(batches))]


@dataclass(frozen=True)
class Batch:
    """What teacher forcing needs. B examples, S and T their longest source and target (with `<E>`)."""

    source: Tensor  # [B, S], padded with 0
    lengths: Tensor  # [B], of the sources, on the CPU
    read: Tensor  # [B, T]: <S>, then the target
    labels: Tensor  # [B, T]: the target, then <E>; IGNORED beyond

    @property
    def tokens(self) -> int:
        """Target tokens to be learnt, `<E>` included."""
        return int((self.labels != IGNORED).sum())


def pick(examples: Examples, indices: np.ndarray, start_id: int) -> Batch:
    """The examples at `indices`, no wider than they need."""
    lengths = torch.from_numpy(examples.source_lengths[indices])
    target_lengths = torch.from_numpy(examples.target_lengths[indices])
    source = torch.from_numpy(examples.source[indices])[:, : int(lengths.max())]
    target = torch.from_numpy(examples.target[indices])[:, : int(target_lengths.max())]
    labels = nn.functional.pad(target, (0, 1), value=0)  # 0 is <E>, and the padding of `target`
    beyond = torch.arange(labels.shape[1]) > target_lengths.unsqueeze(1)
    return Batch(
        source=source,
        lengths=lengths,
        read=nn.functional.pad(target, (1, 0), value=start_id),
        labels=labels.masked_fill(beyond, IGNORED),
    )
