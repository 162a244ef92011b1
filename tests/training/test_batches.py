"""Batches: every example once, one length bucket a batch, an order that the seed and the epoch decide."""

import numpy as np
import pytest

from training.batches import IGNORED, pick, updates
from training.examples import Examples
from training.ranks import Ranks
from training.recipe import Training


def examples(count: int = 200) -> Examples:
    """Random lengths; examples 2k and 2k + 1 have one source."""
    chance = np.random.default_rng(5)
    source_lengths, target_lengths = chance.integers(1, 9, count), chance.integers(1, 6, count)
    source_lengths[1::2] = source_lengths[: count - 1 : 2]
    source, target = np.zeros((count, 8), np.int64), np.zeros((count, 5), np.int64)
    for row in range(count):
        source[row, : source_lengths[row]] = 2 + row // 2
        target[row, : target_lengths[row]] = 2 + row
    return Examples(source, source_lengths, target, target_lengths, np.arange(count) // 2)


def options(**changes: object) -> Training:
    return Training(**{"epochs": 1, "patience_epochs": 1, "batch_size": 16, **changes})


def batches(found: Examples, epoch: int = 0, **changes: object) -> list[np.ndarray]:
    return [batch for update in updates(found, options(**changes), epoch) for batch in update]


@pytest.mark.parametrize("bucket_width", [1, 3, 100])
def test_every_example_is_in_one_batch_of_one_length_bucket(bucket_width: int) -> None:
    found = examples()
    made = batches(found, bucket_width=bucket_width)
    assert sorted(np.concatenate(made).tolist()) == list(range(200))
    assert max(len(batch) for batch in made) == 16
    for batch in made:
        assert len(set((found.source_lengths[batch] - 1) // bucket_width)) == 1


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    found = examples()

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in batches(found, epoch, seed=seed)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


KINDS = [
    {},
    {"references": "sampled"},
    {"batch_tokens": 60},
    {"references": "sampled", "batch_tokens": 60, "bucket_width": 3, "batches_per_update": 3},
]


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_every_epoch_has_as_many_updates(changes: dict[str, object]) -> None:
    assert len({len(updates(examples(), options(**changes), epoch)) for epoch in range(8)}) == 1


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("bucket_width", [1, 3])
def test_a_budget_of_tokens_holds_and_is_used(bucket_width: int, processes: int) -> None:
    """By each process, whose share of a batch has its own longest source and target."""
    found = examples(200 * processes)
    made = batches(found, batch_tokens=60, batch_size=99, bucket_width=bucket_width, processes=processes)
    shares = [Ranks(rank, processes).share(batch) for batch in made for rank in range(processes)]
    tokens = [
        len(share) * (found.source_lengths[share].max() + found.target_lengths[share].max() + 1)
        for share in shares
        if len(share)
    ]
    assert max(tokens) <= 60
    assert np.median(tokens) > 45
    assert sorted(np.concatenate(made).tolist()) == list(range(200 * processes))
    assert max(map(len, batches(found, batch_tokens=60, batch_size=4))) == 4
    assert all(len(batch) == 1 for batch in batches(found, batch_tokens=1))


def test_one_reference_of_a_source_is_drawn_each_epoch() -> None:
    found = examples()
    drawn = [np.concatenate(batches(found, epoch, references="sampled")) for epoch in range(12)]
    for epoch in drawn:
        assert sorted(found.groups[epoch]) == list(range(100))
    assert set(np.concatenate(drawn).tolist()) == set(range(200))


def test_batches_of_an_update() -> None:
    made = updates(examples(), options(batches_per_update=3), 0)
    assert {len(update) for update in made[:-1]} == {3}
    flat = [batch.tolist() for update in made for batch in update]
    assert flat == [batch.tolist() for batch in batches(examples())]


def test_the_decoder_reads_start_and_target_and_answers_target_and_end() -> None:
    found = examples(4)
    found.target_lengths[:3] = [2, 1, 3]
    found.target[:3] = [[5, 6, 0, 0, 0], [7, 0, 0, 0, 0], [8, 9, 4, 0, 0]]
    batch = pick(found, np.array([0, 1, 2]), start_id=99)
    assert batch.read.tolist() == [[99, 5, 6, 0], [99, 7, 0, 0], [99, 8, 9, 4]]
    assert batch.labels.tolist() == [[5, 6, 0, IGNORED], [7, 0, IGNORED, IGNORED], [8, 9, 4, 0]]
    assert batch.tokens == 9
    assert batch.source.shape == (3, found.source_lengths[:3].max())
