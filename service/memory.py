"""What each row of a decoder looks back on: its encoded source, which no step changes.

Knows nothing of ONNX Runtime, tokens or scheduling. Letters: B batch, S source length. All rows share one
width of the source axis, a multiple of 16 that holds the longest source inside: a longer one widens it for
everybody, and once none has needed the width for a while it shrinks, so that one long source is not paid for
ever. What lies beyond a source is zeros. Used by one thread at a time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bundle.graphs import SOURCE_BLOCK
from bundle.manifest import Tensor

Array = np.ndarray[Any, Any]
AXIS = "S"
FINE = 64  # widths up to here come in steps of a block
LOOK_STEPS = 16  # between two looks at who needs the width: to widen and shrink costs less than a step


def width_for(length: int) -> int:
    """The least width that holds so many tokens: 16, 32, 48, 64, then 96, 128, 192, 256 and so on."""
    if length <= FINE:
        return max(1, -(-length // SOURCE_BLOCK)) * SOURCE_BLOCK
    power = 1 << (length - 1).bit_length()
    return power * 3 // 4 if length <= power * 3 // 4 else power


class Memory:
    """Arrays for `rows` rows: `inputs` of the decoder, from the encoder, and `outputs` that are as wide.

    Those of each width are kept where they are, so that whoever binds them need do so only once.
    """

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], rows: int) -> None:
        self.width = 0  # of the source axis; 0: no tensor has one
        self.inputs: dict[str, Any] = {}  # arrays, or what a subclass keeps in their place
        self.outputs: dict[str, Any] = {}  # [rows, width]
        self._rows = rows
        self._wide_tensors = tuple(tensor for tensor in inputs if AXIS in tensor.shape)
        self._wide_outputs = tuple(outputs)
        self._plain = {t.name: self._zeros(t, 0) for t in inputs if AXIS not in t.shape}  # [rows, ..]
        self._wide: dict[str, Any] = {}  # [rows, width, ..]
        self._by_width: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._sources = np.zeros(rows, np.int64)  # which source each row holds, by a number of its own
        self.lengths = np.zeros(rows, np.int64)  # and how many tokens that has
        self._next_source = 1
        self.clear()

    def clear(self) -> None:
        """Forgets everybody: whoever comes next finds the memory as narrow as at first."""
        self._used = 0  # somebody may be in rows 0..used-1, and in no other
        self.lengths[:] = 0
        self._longest = 1  # source that was inside since the last look
        self._steps_left = LOOK_STEPS  # until the next
        self._use(width_for(1) if self._wide_tensors else 0)

    def make_room(self, length: int) -> None:
        """Widens the memory where a source of so many tokens does not fit."""
        self._longest = max(self._longest, length)
        if self.width and length > self.width:
            self._resize(width_for(length))

    def write(self, found: Mapping[str, Array], lengths: Array, rows: Sequence[int]) -> None:
        """Takes what the encoder made of sources, [B, S, ..] or [B, ..] each, into `rows`."""
        for name, array in self._plain.items():
            array[rows] = found[name]
        for name, array in self._wide.items():
            longest = found[name].shape[1]
            array[rows, :longest] = found[name]
            array[rows, longest:] = 0
        self.hold(lengths, rows)

    def hold(self, lengths: Array | Sequence[int], rows: Sequence[int]) -> None:
        """Hears that `rows` hold new sources of these lengths [B]."""
        self.lengths[rows] = lengths
        self._sources[rows] = range(self._next_source, self._next_source + len(rows))
        self._next_source += len(rows)
        self._used = max(self._used, max(rows) + 1)

    def copy(self, rows: Sequence[int], sources: Sequence[int]) -> None:
        """Copies rows `sources` over `rows`, all at once; a row that holds the same source is left alone."""
        self._used = max(self._used, max(rows) + 1)
        into, out_of = np.array(rows), np.array(sources)
        others = self._sources[into] != self._sources[out_of]
        if others.any():
            into, out_of = into[others], out_of[others]
            self._copy(into, out_of)
            for array in (self._sources, self.lengths):
                array[into] = array[out_of]

    def before_step(self, count: int) -> None:
        """Hears that rows 0..count-1 are stepped: everybody is in one of them. Now and then it shrinks."""
        self._used = count
        self._steps_left -= 1
        if self._steps_left:
            return
        self._steps_left = LOOK_STEPS
        width = width_for(self._longest)
        self._longest = int(self.lengths[:count].max())
        if width < self.width:
            self._resize(width)

    def _resize(self, width: int) -> None:
        """Everybody's memory at another width, which holds every source inside."""
        before, kept, used = self._wide, min(width, self.width), self._used
        self._use(width)
        self._refit(before, used, kept)

    def _use(self, width: int) -> None:
        found = self._by_width.get(width)
        if found is None:
            sides = (self._wide_tensors, self._wide_outputs)
            inputs, outputs = ({t.name: self._zeros(t, width) for t in side} for side in sides)
            found = self._by_width[width] = (inputs, outputs)
        self._wide, self.outputs = found
        self.inputs = {**self._plain, **self._wide}
        self.width = width
        self._sources[self._used :] = 0  # what was there is not in these arrays

    # Where the arrays lie: what a subclass for another place than the host's memory does in its own way

    def _zeros(self, tensor: Tensor, width: int) -> Array:
        shape = (width if size == AXIS else size for size in tensor.shape[1:])
        return np.zeros((self._rows, *shape), tensor.dtype)

    def _copy(self, into: Array, out_of: Array) -> None:
        """Copies rows, all at once."""
        for array in self.inputs.values():
            array[into] = array[out_of]

    def _refit(self, before: Mapping[str, Array], used: int, kept: int) -> None:
        """Fills the arrays in use from those of another width: `used` rows, `kept` of the source axis."""
        for name, array in self._wide.items():
            array[:used, :kept] = before[name][:used, :kept]
            array[:used, kept:] = 0
