"""What rows look back on: written whole, copied only where it must be, wide only while somebody needs it."""

import random

import numpy as np
import pytest

from bundle.manifest import Tensor
from service.memory import LOOK_STEPS, Memory, width_for

KEYS = Tensor(name="keys", dtype="float32", shape=("B", "S", 3))
VALUES = Tensor(name="values", dtype="float32", shape=("B", "S", 2))
SUMMARY = Tensor(name="summary", dtype="uint8", shape=("B", 4))
ALIGNMENTS = Tensor(name="alignments", dtype="float32", shape=("R", "S"))
ROWS = 12


def memory(kind=Memory) -> Memory:
    return kind([KEYS, VALUES], [ALIGNMENTS], ROWS)


def encoded(lengths: list[int], first: int) -> dict[str, np.ndarray]:
    """What an encoder run makes of sources of these lengths: source i is all `first` + i, padded with 0."""
    own = np.arange(max(lengths)) < np.array(lengths)[:, None]  # [B, S]
    numbers = np.arange(first, first + len(lengths), dtype=np.float32)[:, None]
    return {
        "keys": np.repeat((own * numbers)[:, :, None], 3, axis=2),
        "values": np.repeat((own * numbers)[:, :, None], 2, axis=2),
    }


def write(found: Memory, lengths: list[int], rows: list[int], first: int = 1) -> None:
    found.make_room(max(lengths))
    found.write(encoded(lengths, first), np.array(lengths), rows)


def held(found: Memory, row: int) -> tuple[int, int] | None:
    """Whose source a row holds, and its length. None: not one source in both arrays, and then zeros."""
    number, length = (
        int(found.inputs["keys"][row, 0, 0]),
        int(found.inputs["keys"][row, :, 0].astype(bool).sum()),
    )
    true = np.where(np.arange(found.width) < length, number, 0)[:, None]
    return (number, length) if all((a[row] == true).all() for a in found.inputs.values()) else None


def test_widths_are_multiples_of_16_that_are_not_too_many():
    widths = {width_for(length) for length in range(1, 1025)}
    assert sorted(widths) == [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
    for length in range(1, 1025):
        assert length <= width_for(length) and width_for(length) % 16 == 0
        assert width_for(length) < length + 16 or width_for(length) < 1.5 * length


def test_a_newcomer_finds_nothing_of_whoever_was_there():
    found = memory()
    write(found, [16, 16], [0, 1])
    write(found, [3, 5], [1, 0], first=7)
    assert (held(found, 1), held(found, 0)) == ((7, 3), (8, 5))


def test_a_longer_source_widens_it_for_everybody():
    found = memory()
    write(found, [16], [3])
    narrow = found.inputs["keys"]
    write(found, [17, 40], [0, 1], first=5)
    assert found.width == 48 and found.outputs["alignments"].shape == (ROWS, 48)
    assert [held(found, row) for row in (3, 0, 1)] == [(1, 16), (5, 17), (6, 40)]
    found.clear()
    assert found.width == 16 and found.inputs["keys"] is narrow, "whoever has bound the arrays need not again"


def test_it_shrinks_once_nobody_has_needed_the_width_for_a_while():
    found = memory()
    write(found, [9, 60], [0, 1])
    for _ in range(2 * LOOK_STEPS):  # he is there
        found.before_step(2)
    assert found.width == 64
    for _ in range(LOOK_STEPS - 1):  # he has left; a newcomer may need the width
        found.before_step(1)
    write(found, [33], [1], first=5)
    found.before_step(2)
    assert found.width == 64
    for _ in range(2 * LOOK_STEPS):
        found.before_step(2)
    assert found.width == 48
    assert (held(found, 0), held(found, 1)) == ((1, 9), (5, 33))


def test_rows_change_places_all_at_once():
    found = memory()
    write(found, [4, 9], [0, 1])
    found.copy([0, 1, 2], [1, 0, 0])
    assert [held(found, row) for row in range(3)] == [(2, 9), (1, 4), (1, 4)]


def test_a_row_with_the_same_source_is_not_copied():
    found = memory()
    write(found, [4], [0])
    found.copy([1, 2], [0, 0])
    found.inputs["keys"][2] = 99  # would be mended by a copy
    found.copy([0, 1, 2], [2, 0, 1])
    assert (found.inputs["keys"][2] == 99).all()
    assert held(found, 0) == held(found, 1) == (1, 4)
    write(found, [4], [0])  # an equal source is another one
    found.copy([2], [0])
    assert held(found, 2) == (1, 4)


def test_without_a_source_axis_there_is_no_width():
    found = Memory([SUMMARY], [], ROWS)
    found.make_room(500)
    found.write({"summary": np.arange(8).reshape(2, 4)}, np.array([500, 2]), [4, 1])
    found.copy([0], [1])
    assert found.width == 0
    assert found.inputs["summary"][[4, 1, 0]].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7]]
    assert not Memory([], [], ROWS).inputs


def wrong_rows(kind, seed: int) -> int:
    """How often a row holds something else than it should, with many who come, go and move at random."""
    chance = random.Random(seed)
    found, true, wrong, count = memory(kind), {}, 0, 0
    for first in range(1, 2000, 8):
        rows = chance.sample(range(ROWS), chance.randint(1, 3))
        lengths = [
            chance.choice([3, 8, 16, 16, 17, 40, 70] if chance.random() < 0.1 else [3, 9, 16]) for _ in rows
        ]
        write(found, lengths, rows, first)
        true |= {row: (first + i, length) for i, (row, length) in enumerate(zip(rows, lengths, strict=True))}
        if len(true) > 1 and chance.random() < 0.7:
            rows = chance.sample(range(ROWS), chance.randint(1, len(true)))
            sources = chance.choices(sorted(true), k=len(rows))
            found.copy(rows, sources)
            true |= dict(zip(rows, [true[source] for source in sources], strict=True))
        count = max(true) + 1
        for _ in range(chance.choice([1, 1, 40])):
            found.before_step(count)
        wrong += sum(held(found, row) != expected for row, expected in true.items())
        for row in chance.sample(sorted(true), len(true) // 2):
            del true[row]
        true = {row: source for row, source in true.items() if row < count}
    return wrong


@pytest.mark.parametrize("seed", range(10))
def test_every_row_holds_what_it_should(seed):
    assert wrong_rows(Memory, seed) == 0


class CopiesOneByOne(Memory):
    """Broken on purpose."""

    def copy(self, rows, sources):
        for row, source in zip(rows, sources, strict=True):
            super().copy([row], [source])


class ForgetsWhoMoved(Memory):
    """Broken on purpose: a copied row keeps its number and its length."""

    def copy(self, rows, sources):
        kept = self._sources.copy(), self.lengths.copy()
        super().copy(rows, sources)
        self._sources[:], self.lengths[:] = kept


class LeavesRest(Memory):
    """Broken on purpose: a newcomer's row is not cleared behind his source."""

    def write(self, found, lengths, rows):
        before = {name: array.copy() for name, array in self._wide.items()}
        super().write(found, lengths, rows)
        for name, array in self._wide.items():
            array[rows, max(lengths) :] = before[name][rows, max(lengths) :]


class ShrinksTooSoon(Memory):
    """Broken on purpose: who was inside at the last look is not counted."""

    def before_step(self, count):
        self.lengths[:] = np.minimum(self.lengths, 16)
        super().before_step(count)


@pytest.mark.parametrize("kind", [CopiesOneByOne, ForgetsWhoMoved, LeavesRest, ShrinksTooSoon])
def test_a_broken_memory_is_seen(kind):
    """Negative controls."""
    assert sum(wrong_rows(kind, seed) for seed in range(4)) > 0
