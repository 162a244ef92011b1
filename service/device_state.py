"""The rows of state on a device, and how they move: by small graphs that change some rows where they lie.

Knows nothing of the encoder, of decoder runs or of what they say. There are two sets of state and tokens: a
step reads one and writes the other. Letters: M rows that are moved.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bundle.manifest import Tensor
from service.device_memory import Buffer, DeviceMemory
from service.device_sessions import DeviceSessions
from service.memory import Array
from service.providers import ort


class DeviceState:
    """State of `rows` rows and a spare one, what each reads next, and what it looks back on."""

    def __init__(self, sessions: DeviceSessions, rows: int, start_id: int, device: str) -> None:
        self._sessions = sessions
        self._rows = rows
        self._start_id = start_id
        self._device = device
        self._spare = rows  # a row that nobody has: what fills a plan up reads and writes there
        self.states = [self.buffers(sessions.states) for _ in range(2)]
        self.tokens = [Buffer((rows + 1,), "int64", device) for _ in range(2)]  # what each row reads next
        self.host_tokens = np.zeros(rows + 1, np.int64)  # the same
        self.memory = DeviceMemory(
            sessions.memory, sessions.wide_outputs, rows + 1, device, self._copy_memory, sessions.resize
        )
        self.current = 0  # which set the next step reads
        self._bindings: dict[tuple[str, int, int, int], ort.IOBinding] = {}
        self._plans: dict[int, Buffer] = {}  # [3, M] by M

    @property
    def held_bytes(self) -> int:
        """Memory on the device for state, and what rows look back on."""
        buffers = [*self.states[0].values(), *self.states[1].values()]
        return sum(buffer.size_bytes for buffer in buffers) + self.memory.size_bytes

    def buffers(self, tensors: Sequence[Tensor]) -> dict[str, Buffer]:
        """An array for each tensor that has as many rows, the spare one among them."""
        return {
            tensor.name: Buffer((self._rows + 1, *map(int, tensor.shape[1:])), tensor.dtype, self._device)
            for tensor in tensors
        }

    def enter(
        self, found: Mapping[str, ort.OrtValue], lengths: Array, width: int, rows: Sequence[int]
    ) -> None:
        """Starts rows from what the encoder wrote, of sources `width` wide; what fills it up is spare.

        The binding is not kept: it would keep what the encoder wrote.
        """
        count = self._plan(rows, [self._spare] * len(rows), [self._start_id] * len(rows))
        binding = self._new_binding("enter", count, self._bind_entering)
        for name, value in found.items():
            binding.bind_ortvalue_input(f"new_{name}", value)
        if self.memory.width:
            binding.bind_cpu_input("pads_3", self.memory.pads(width))
        self._sessions.enter.run_with_iobinding(binding)
        if self._sessions.memory:
            self.memory.hold(lengths, rows)  # the graph has written what they look back on

    def place(self, rows: Sequence[int], sources: Sequence[int], tokens: Sequence[int]) -> None:
        """Copies the states of rows `sources` over those of `rows`, all at once, to read `tokens` next."""
        if rows == sources:
            self._tell(rows, tokens)
            return
        count = self._plan(rows, sources, tokens)
        self._sessions.place.run_with_iobinding(self._binding("place", count, self._bind_moving))
        if self._sessions.memory:
            self.memory.copy(rows, sources)

    def touch(self) -> None:
        """Writes to the spare row, which matters to nobody: a device that is lost throws."""
        self._tell([self._spare], [self._start_id])

    def turn(self) -> Array:
        """What was written is what the next step reads; its tokens come to the host, [R + 1]."""
        self.host_tokens[:] = self.tokens[1 - self.current].read()
        self.current = 1 - self.current
        return self.host_tokens

    def _tell(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """What some rows read next."""
        count = self._plan(rows, rows, tokens)
        self._sessions.tell.run_with_iobinding(self._binding("tell", count, self._bind_telling))

    def _copy_memory(self, rows: list[int], sources: list[int]) -> None:
        count = self._plan(rows, sources, None)
        binding = self._binding("copy", count, self._bind_memory)
        assert self._sessions.copy is not None
        self._sessions.copy.run_with_iobinding(binding)

    # Which graph writes where

    def _bind_entering(self, binding: ort.IOBinding) -> None:
        for name, buffer in {**self.states[self.current], **self.memory.inputs}.items():
            self._bind_in_place(binding, name, buffer)
        self._bind_telling(binding)

    def _bind_moving(self, binding: ort.IOBinding) -> None:
        for name, buffer in self.states[self.current].items():
            self._bind_in_place(binding, name, buffer)
        self._bind_telling(binding)

    def _bind_telling(self, binding: ort.IOBinding) -> None:
        self._bind_in_place(binding, "token", self.tokens[self.current])

    def _bind_memory(self, binding: ort.IOBinding) -> None:
        for name, buffer in self.memory.inputs.items():
            self._bind_in_place(binding, name, buffer)

    def _bind_in_place(self, binding: ort.IOBinding, name: str, buffer: Buffer) -> None:
        """A tensor of which a graph changes some rows where they lie."""
        buffer.bind_input(binding, name, self._rows + 1)
        buffer.bind_output(binding, f"{name}_out", self._rows + 1)

    def _binding(self, name: str, count: int, bind: Callable[[ort.IOBinding], None]) -> ort.IOBinding:
        """The binding of a row graph for so many moved rows, made once for each set and width."""
        key = (name, count, self.current, self.memory.width)
        if key not in self._bindings:
            self._bindings[key] = self._new_binding(name, count, bind)
        return self._bindings[key]

    def _new_binding(self, name: str, count: int, bind: Callable[[ort.IOBinding], None]) -> ort.IOBinding:
        binding = getattr(self._sessions, name).io_binding()
        self.plan_buffer(count).bind_input(binding, "plan", 3)
        bind(binding)
        return binding

    # Which rows

    def _plan(self, rows: Sequence[int], sources: Sequence[int], tokens: Sequence[int] | None) -> int:
        """Which rows are written, from which, and what they read next, filled up with the spare one to M."""
        count = filled(len(rows))
        plan = np.full((3, count), self._spare, np.int64)
        plan[2] = self._start_id
        plan[0, : len(rows)], plan[1, : len(rows)] = rows, sources
        if tokens is not None:
            plan[2, : len(rows)] = tokens
            self.host_tokens[list(rows)] = tokens
        self.plan_buffer(count).write(plan)
        return count

    def plan_buffer(self, count: int) -> Buffer:
        """Where a plan for so many rows lies."""
        if count not in self._plans:
            self._plans[count] = Buffer((3, count), "int64", self._device)
        return self._plans[count]


def filled(count: int) -> int:
    """The least power of two that is no smaller."""
    return 1 << (count - 1).bit_length()
