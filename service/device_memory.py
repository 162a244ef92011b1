"""Arrays that stay on a device, and the memory of service/memory.py in such arrays.

Knows nothing of tokens, state or scheduling. An address never changes, so that bindings and captured graphs
may hold it. Letters: M rows that are moved, S source length.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bundle.manifest import Tensor
from service.memory import AXIS, Array, Memory
from service.providers import ort


class Buffer:
    """An array on a device, at a fixed address. Zeros at first."""

    def __init__(self, shape: Sequence[int], dtype: str, device: str) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.value = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), self.dtype, device, 0)
        self.value.update_inplace(np.zeros(self.shape, self.dtype))
        self.address = self.value.data_ptr()
        self._device = device

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Array:
        """A copy of it on the host."""
        found: Array = self.value.numpy()
        return found

    def write(self, values: Array) -> None:
        """Fills it from the host."""
        self.value.update_inplace(np.ascontiguousarray(values))

    def bind_input(self, binding: ort.IOBinding, name: str, rows: int) -> None:
        """Lets a graph read the first rows as its input."""
        binding.bind_input(name, self._device, 0, self.dtype, (rows, *self.shape[1:]), self.address)

    def bind_output(self, binding: ort.IOBinding, name: str, rows: int) -> None:
        """Lets a graph write the first rows as its output."""
        binding.bind_output(name, self._device, 0, self.dtype, (rows, *self.shape[1:]), self.address)


class DeviceMemory(Memory):
    """What each row of a decoder looks back on, in Buffers. Newcomers' rows are written by the engine.

    `copy` copies rows of all inputs, `resizer` is a session of row_graphs.resize_graph.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        rows: int,
        device: str,
        copy: Callable[[list[int], list[int]], None],
        resizer: ort.InferenceSession | None,
    ) -> None:
        self.size_bytes = 0  # of all widths so far
        self._device = device
        self._copy_rows = copy
        self._resizer = resizer
        super().__init__(inputs, outputs, rows)

    def pads(self, longest: int) -> Array:
        """What lies beyond so many tokens of a source, as ONNX's Pad wants it for [M, S, ..]."""
        return np.array([0, 0, 0, 0, self.width - longest, 0], np.int64)

    def _zeros(self, tensor: Tensor, width: int) -> Any:
        shape = (width if size == AXIS else int(size) for size in tensor.shape[1:])
        buffer = Buffer((self._rows, *shape), tensor.dtype, self._device)
        self.size_bytes += buffer.size_bytes
        return buffer

    def _copy(self, into: Array, out_of: Array) -> None:
        self._copy_rows(into.tolist(), out_of.tolist())

    def _refit(self, before: Mapping[str, Any], used: int, kept: int) -> None:
        if not used:
            return
        assert self._resizer is not None
        binding = self._resizer.io_binding()
        binding.bind_cpu_input("kept", np.array([kept], np.int64))
        binding.bind_cpu_input("pads_3", self.pads(kept))
        for name, buffer in self._wide.items():
            before[name].bind_input(binding, name, used)
            buffer.bind_output(binding, f"{name}_out", used)
        self._resizer.run_with_iobinding(binding)
