"""The decoder's rows where the kernels run them: the same rows as in engine.py, stepped by compiled code.

Knows nothing of text, requests or scheduling. Letters: B batch, S source length, R rows, U units of one
direction, H hidden, D encoder output, V target tokens. Used by one thread at a time.
"""

import time
from collections.abc import Sequence
from ctypes import byref, c_void_p
from typing import Any, NamedTuple

import numpy as np

from bundle.manifest import Tensor, candidates
from bundle.reader import Bundle
from service import kernels
from service.decoding.distributions import Distributions
from service.engine import Engine
from service.kernel_weights import (
    DecoderWeights,
    EncoderWeights,
    Packed,
    Unsuited,
    check_suited,
    decoder_weights,
    encoder_weights,
)
from service.kernels import ATTEND, LINEAR, LSTM, SELECT, Array, Operation, Part, Run, in_lines

NONE = -1  # no token


class _Graphs(NamedTuple):
    """What takes the place of two sessions."""

    library: Any
    kind: str
    encoder: EncoderWeights
    decoder: DecoderWeights


class _Step(NamedTuple):
    """Operations for one set of states and one width of memory, and the arrays that they write beside it."""

    operations: Any
    arrays: tuple[Array, ...]


class KernelEngine(Engine):
    """An Engine whose encoder runs and steps are those of service/native/.

    Raises Unsuited where there are no kernels for this processor, for this bundle, or for several threads.
    """

    encoder_batch = 64  # about: what is padded costs nothing here
    _binds_each_count = False

    def _load(self, bundle: Bundle, threads: int) -> _Graphs:
        check_suited(bundle.manifest.architecture, self.profile.name)
        if threads > 1:
            raise Unsuited(f"{threads} threads a run")
        found = kernels.load()
        if found is None:
            raise Unsuited("no kernels were compiled for this processor; `make native` does that")
        return _Graphs(
            *found,
            encoder_weights(bundle, self.profile.encoder.file),
            decoder_weights(bundle, self.profile.decoder.file),
        )

    def __init__(
        self,
        bundle: Bundle,
        profile: str = "",
        rows: int = 256,
        threads: int = 1,
        beside: "KernelEngine | None" = None,
    ) -> None:
        super().__init__(bundle, profile, rows, threads, beside)
        self.runtime = f"kernels for {self._graphs.kind}"
        self._sizes = bundle.manifest.architecture
        self._best = candidates(bundle.manifest.vocabulary)  # K
        self._steps: dict[tuple[int, int], _Step] = {}
        self._logits = np.zeros((rows, self._graphs.decoder.logits.weights.columns), np.float32)
        self._floats, self._bytes = np.zeros(0, np.float32), np.zeros(0, np.uint8)  # the encoder's room
        self._ids, (self._lengths, self._rows) = np.zeros(0, np.int64), np.zeros((2, rows), np.int64)
        self._encoding = Run(lengths=_address(self._lengths), rows=_address(self._rows))
        self._addresses = [self._state_addresses(states) for states in self._states]
        self._largest, self._log_sum = np.zeros((2, rows), np.float32)
        self._barred = np.full(rows, NONE, np.int64)  # a token that the row may not emit

    def _array(self, tensor: Tensor) -> Array:
        return in_lines(super()._array(tensor))

    def _state_addresses(self, states: dict[str, Array]) -> tuple[Any, Any]:
        """Where h and c of each layer of the decoder lie."""
        layers = range(self._sizes.decoder_layers)
        kind = c_void_p * len(layers)
        hidden, cells = (kind(*(states[f"{n}_{layer}"].ctypes.data for layer in layers)) for n in "hc")
        return hidden, cells

    def _encode(self, sources: Sequence[Sequence[int]], rows: list[int]) -> None:
        """One encoder run, of sources that come the shortest first.

        They go the longest first: those who still read are always the first rows.
        """
        width = len(sources[-1])
        places = [place for source in reversed(sources) for place in (*source, *[0] * (width - len(source)))]
        run, memory = self._run_of(len(sources), width), self._memory
        self._ids[: len(places)] = places
        self._lengths[: len(sources)] = lengths = [len(source) for source in reversed(sources)]
        self._rows[: len(sources)] = into = rows[::-1]
        run.hidden, run.cells = self._addresses[self._current]
        if memory.inputs:
            run.keys, run.values = (_address(memory.inputs[name]) for name in ("keys", "values"))
            run.memory_width = memory.width
            memory.hold(lengths, into)
        self._graphs.library.chairlift_encode(byref(self._graphs.encoder.encoder), byref(run))
        self._tokens[self._current][into] = self.start_id

    def _run_of(self, sources: int, width: int) -> Run:
        """A run of so many sources, with room to work in, which grows where it must."""
        encoder, size, run = self._graphs.encoder.encoder, self._sizes.encoder_hidden_size, self._encoding
        places, units, hidden = sources * width, encoder.units, encoder.hidden
        floats = places * (4 * units + size + hidden) + sources * (2 * encoder.layers * size + units + hidden)
        count = 3 * places * size + sources * (2 * units + 2 * size)
        if len(self._floats) < floats or len(self._bytes) < count or len(self._ids) < places:
            self._floats = in_lines(np.zeros(max(floats, len(self._floats)), np.float32))
            self._bytes = in_lines(np.zeros(max(count, len(self._bytes)), np.uint8))
            self._ids = np.zeros(max(places, len(self._ids)), np.int64)
            run.floats, run.bytes = _address(self._floats), _address(self._bytes)
            run.ids = _address(self._ids)
        run.sources, run.width = sources, width
        return run

    # Stepping

    def _run(self, first: int, count: int) -> None:
        step = self._step_of(self._current)
        self._graphs.library.chairlift_step(step.operations, len(step.operations), first, count)

    def steps(self, count: int, most: int, short: Sequence[int] = ()) -> list[tuple[list[int], list[float]]]:
        """As `step`, up to `most` times without a look from here, until a row emits <E>; `short` may not."""
        if not short:
            return self._steps_of_all(count, most)
        rows = list(short)
        self._barred[rows] = self.end_id
        try:
            return self._steps_of_all(count, most)
        finally:
            self._barred[rows] = NONE

    def _steps_of_all(self, count: int, most: int) -> list[tuple[list[int], list[float]]]:
        if most == 1:
            return [self.step(count)]
        began = time.perf_counter()
        if self._memory.width:
            self._memory.before_step(count)
        even, odd = (self._step_of(reads) for reads in (self._current, 1 - self._current))
        tokens, scores = np.empty((most, count), np.int64), np.empty((most, count), np.float32)
        ran = self._graphs.library.chairlift_steps(
            even.operations,
            odd.operations,
            len(even.operations),
            count,
            most,
            self.end_id,
            tokens.ctypes.data,
            scores.ctypes.data,
        )
        self._current ^= ran % 2
        self.run_seconds = time.perf_counter() - began
        return list(zip(tokens[:ran].tolist(), scores[:ran].tolist(), strict=True))

    def _step_of(self, reads: int) -> _Step:
        key = (reads, self._memory.width)
        return self._steps.get(key) or self._lay_out(*key)

    def distributions(self, rows: Sequence[int]) -> Distributions:
        """What the last step said of these rows."""
        chosen = np.array(rows, np.int64)
        log_probs = np.empty((len(chosen), self.emitted), np.float32)
        tokens = np.empty((len(chosen), self._best), np.int64)
        scores = np.empty((len(chosen), self._best), np.float32)
        step = self._steps[1 - self._current, self._memory.width]
        self._graphs.library.chairlift_distributions(
            byref(step.operations[len(step.operations) - 1]),
            chosen.ctypes.data,
            len(chosen),
            self._best,
            log_probs.ctypes.data,
            tokens.ctypes.data,
            scores.ctypes.data,
        )
        return Distributions(log_probs, tokens.tolist(), scores.tolist())

    def _lay_out(self, reads: int, width: int) -> _Step:
        """The operations of a step that reads one set of states and writes the other."""
        weights, sizes = self._graphs.decoder, self._sizes
        hidden, size = sizes.hidden_size, sizes.encoder_hidden_size
        before, after = self._states[reads], self._states[1 - reads]
        attends = sizes.attention != "none"
        query = np.zeros((self.rows, hidden), np.float32) if attends else None
        context = np.zeros((self.rows, size), np.uint8)
        vector, sums = np.zeros((self.rows, hidden), np.uint8), np.zeros((self.rows, hidden), np.float32)
        laid: list[Operation] = []
        for layer, packed in enumerate(weights.cells):
            reading = [] if layer == 0 else [after[f"h_{layer - 1}"]]
            if layer == 1 and attends:
                reading.append(context)
            cell = _operation(LSTM, [*reading, before[f"h_{layer}"]], packed)
            cell.units = hidden
            cell.cell, cell.next_cell = _address(before[f"c_{layer}"]), _address(after[f"c_{layer}"])
            cell.hidden = _address(after[f"h_{layer}"])
            if layer == 0:
                cell.table, cell.token = _address(weights.token_table), _address(self._tokens[reads])
                cell.exact = _address(query)
            laid.append(cell)
            if layer == 0 and query is not None:
                laid.append(self._attention(query, context, width))
        top = after[f"h_{len(weights.cells) - 1}"]
        if weights.attentional is not None:
            attentional = _operation(LINEAR, [top, context], weights.attentional)
            attentional.out, attentional.stride, attentional.hidden = _address(sums), hidden, _address(vector)
            laid.append(attentional)
            top = vector
        logits = _operation(LINEAR, [top], weights.logits)
        logits.out, logits.stride = _address(self._logits), self._logits.shape[1]
        laid.append(logits)
        select = Operation(kind=SELECT, out=logits.out, stride=logits.stride, size=self.emitted)
        select.next_token = _address(self._tokens[1 - reads])
        select.next_score = _address(self._outputs["next_score"])
        select.largest, select.log_sum = _address(self._largest), _address(self._log_sum)
        select.barred = _address(self._barred)
        laid.append(select)
        arrays = (context, vector, sums) if query is None else (context, vector, sums, query)
        step = self._steps[reads, width] = _Step((Operation * len(laid))(*laid), arrays)
        return step

    def _attention(self, query: Array, context: Array, width: int) -> Operation:
        return Operation(
            kind=ATTEND,
            units=query.shape[1],
            query=_address(query),
            keys=_address(self._memory.inputs["keys"]),
            values=_address(self._memory.inputs["values"]),
            lengths=_address(self._memory.lengths),
            alignments=_address(self._memory.outputs["alignments"]),
            hidden=_address(context),
            width=width,
            size=context.shape[1],
        )


def _operation(kind: int, reading: Sequence[Array], packed: Packed) -> Operation:
    """A product of bytes, each [R, K], side by side."""
    parts = [Part(array.ctypes.data, array.shape[1], array.shape[1]) for array in reading]
    return Operation(
        kind=kind,
        parts=len(parts),
        part=(Part * 3)(*parts),
        weights=packed.weights,
    )


def _address(array: Array | None) -> int | None:
    return None if array is None else array.ctypes.data
