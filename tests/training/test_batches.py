"""Batches: every example once, one length bucket a batch, an order that the seed and the epoch decide."""

import numpy as np
import pytest

from training.batches import IGNORED, batch_order, pick
from training.data import Examples


def examples(count: int = 200) -> Examples:
    chance = np.random.default_rng(5)
    source_lengths, target_lengths = chance.integers(1, 9, count), chance.integers(1, 6, count)
    source, target = np.zeros((count, 8), np.int64), np.zeros((count, 5), np.int64)
    for row in range(count):
        source[row, : source_lengths[row]] = 2 + row
        target[row, : target_lengths[row]] = 2 + row
    return Examples(source, source_lengths, target, target_lengths)


@pytest.mark.parametrize("bucket_width", [1, 3, 100])
def test_every_example_is_in_one_batch_of_one_length_bucket(bucket_width: int) -> None:
    found = examples()
    batches = batch_order(found, 16, bucket_width, seed=1, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(200))
    assert max(len(batch) for batch in batches) == 16
    for batch in batches:
        assert len(set((found.source_lengths[batch] - 1) // bucket_width)) == 1


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    found = examples()

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in batch_order(found, 16, 1, seed, epoch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert len(order(1, 0)) == len(order(1, 1))  # an epoch has always as many steps


def test_the_decoder_reads_start_and_target_and_answers_target_and_end() -> None:
    found = examples(3)
    found.target_lengths[:] = [2, 1, 3]
    found.target[:] = [[5, 6, 0, 0, 0], [7, 0, 0, 0, 0], [8, 9, 4, 0, 0]]
    batch = pick(found, np.array([0, 1, 2]), start_id=99)
    assert batch.read.tolist() == [[99, 5, 6, 0], [99, 7, 0, 0], [99, 8, 9, 4]]
    assert batch.labels.tolist() == [[5, 6, 0, IGNORED], [7, 0, IGNORED, IGNORED], [8, 9, 4, 0]]
    assert batch.tokens == 9
    assert batch.source.shape == (3, found.source_lengths.max())
