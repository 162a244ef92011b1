"""The decoder's rows: a fixed number of states that ONNX Runtime steps together, on the CPU.

Knows nothing of text, requests or scheduling. Letters: B batch, S source length, R rows, L layers, H hidden.
State is double-buffered: a step reads one set of arrays and writes the other, in place, through bindings that
are made once for each number of rows. What a step only reads, such as an encoded source, is in memory.py: of
the decoder's inputs, X is state where there is an output next_X. Used by one thread at a time.
"""

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bundle.manifest import Tensor
from bundle.reader import Bundle
from service.decoder import put_off_ends, sizes_up_to
from service.decoding.distributions import Distributions
from service.memory import Array, Memory
from service.providers import open_session, ort


class Engine:
    """`rows` rows of decoder state for one bundle and profile.

    Raises StartError where the graphs do not run here, BundleError for a profile that the bundle lacks.
    """

    device = "cpu"
    runtime = "onnxruntime"
    held_bytes = 0  # on a device
    replayed = False
    _binds_each_count = True  # so that a number of rows has a first time
    encoder_batch = 16  # about: a larger run is padded further, a smaller one waits for the weights as long

    def __init__(
        self,
        bundle: Bundle,
        profile: str = "",
        rows: int = 256,
        threads: int = 1,
        beside: "Engine | None" = None,
    ) -> None:
        vocabulary = bundle.manifest.vocabulary
        self.profile = bundle.manifest.profile(profile)
        self.rows = rows
        self.emitted = vocabulary.target_size - 1  # V
        self.end_id = vocabulary.end_id
        self.start_id = vocabulary.start_id
        self.unknown_id = vocabulary.source_unknown_id
        self.run_seconds = 0.0
        self._longest = bundle.manifest.limits.max_source_length
        encoder, decoder = self.profile.encoder, self.profile.decoder
        # More rows beside others are more rows for the same graphs.
        self._graphs: Any = beside._graphs if beside is not None else self._load(bundle, threads)
        self._encoded = [tensor.name for tensor in encoder.outputs]
        written = {tensor.name for tensor in decoder.outputs}
        states = [tensor for tensor in encoder.outputs if f"next_{tensor.name}" in written]
        wide = [tensor for tensor in decoder.outputs if "S" in tensor.shape]
        self._memory = Memory([t for t in encoder.outputs if t not in states], wide, rows)
        self._outputs = {t.name: self._array(t) for t in decoder.outputs if t not in wide}
        self._states = [  # two sets of h_0.. and c_0.., each [rows, H]
            {tensor.name: self._array(tensor) for tensor in states} for _ in range(2)
        ]
        self._tokens = [np.zeros(rows, np.int64) for _ in range(2)]  # what each row reads next, [rows]
        self._current = 0  # which set the next step reads
        self._bindings: dict[tuple[int, int, int, int], ort.IOBinding] = {}

    def _load(self, bundle: Bundle, threads: int) -> Any:
        """Sessions of the encoder and of the decoder."""
        return tuple(
            open_session(bundle.graphs[graph.file], graph.file, threads=threads)
            for graph in (self.profile.encoder, self.profile.decoder)
        )

    def _array(self, tensor: Tensor) -> Array:
        """Zeros for a tensor of the decoder, with all the rows there are."""
        return np.zeros((self.rows, *tensor.shape[1:]), tensor.dtype)

    def encode(self, sources: Sequence[Sequence[int]], rows: Sequence[int]) -> None:
        """Starts row rows[i] from source i. Sources of like length share a run: little is padded."""
        assert sources, "an empty batch kills the process"
        began = time.perf_counter()
        self._memory.make_room(max(map(len, sources)))
        by_length = sorted(range(len(sources)), key=lambda index: len(sources[index]))
        runs = max(1, round(len(sources) / self.encoder_batch))
        edges = [len(sources) * run // runs for run in range(runs + 1)]
        for first, last in itertools.pairwise(edges):
            chosen = by_length[first:last]
            self._encode([sources[index] for index in chosen], [rows[index] for index in chosen])
        self.run_seconds = time.perf_counter() - began

    def _encode(self, sources: Sequence[Sequence[int]], rows: list[int]) -> None:
        """One encoder run, padded to the longest of its sources."""
        lengths = np.array([len(source) for source in sources], np.int32)  # [B]
        padded = np.zeros((len(sources), max(map(len, sources))), np.int64)  # [B, S]
        for row, source in enumerate(sources):
            padded[row, : len(source)] = source
        outputs = self._graphs[0].run(None, {"source": padded, "lengths": lengths})
        found = dict(zip(self._encoded, outputs, strict=True))
        for name, array in self._states[self._current].items():
            array[rows] = found[name]  # [B, H]
        if self._memory.inputs:
            self._memory.write(found, lengths, rows)  # [B, S, ..] or [B, ..] each
        self._tokens[self._current][rows] = self.start_id

    def step(self, count: int) -> tuple[list[int], list[float]]:
        """Runs the decoder on rows 0..count-1: each one's best next token, and its log-probability."""
        assert 0 < count <= self.rows, f"{count} rows"
        began = time.perf_counter()
        if self._memory.width:
            self._memory.before_step(count)
        self._run(0, count)
        self.run_seconds = time.perf_counter() - began
        return self._turn(count)

    def steps(self, count: int, most: int, short: Sequence[int] = ()) -> list[tuple[list[int], list[float]]]:
        """What `step` says, in a list, but that rows `short` go on: each step is a run of its own."""
        tokens, scores = self.step(count)
        put_off_ends(self, short, tokens, scores)
        return [(tokens, scores)]

    def step_singly(self, count: int) -> tuple[list[int], list[float], list[int]]:
        """As `step`, a row at a time, after a step that threw; and the rows that throw alone."""
        began = time.perf_counter()
        broken = []
        for row in range(count):
            try:
                self._run(row, 1)
            except Exception:
                broken.append(row)
        self.run_seconds = time.perf_counter() - began
        return *self._turn(count), broken

    def _run(self, first: int, count: int) -> None:
        key = (first, count, self._current, self._memory.width)
        binding = self._bindings.get(key) or self._bind(*key)
        self._graphs[1].run_with_iobinding(binding)

    def _turn(self, count: int) -> tuple[list[int], list[float]]:
        """What was written is what the next step reads."""
        self._current = 1 - self._current
        return self._tokens[self._current][:count].tolist(), self._outputs["next_score"][:count].tolist()

    def distributions(self, rows: Sequence[int]) -> Distributions:
        """What the last step said of these rows."""
        chosen = list(rows)
        return Distributions(
            self._outputs["log_probs"][chosen],
            self._outputs["top_tokens"][chosen].tolist(),
            self._outputs["top_scores"][chosen].tolist(),
        )

    def alignments(self, rows: Sequence[int]) -> Array:
        """How the last step looked at the sources of these rows, [len(rows), width]. Needs attention."""
        found: Array = self._memory.outputs["alignments"][list(rows)]
        return found

    def place(self, rows: Sequence[int], sources: Sequence[int], tokens: Sequence[int]) -> None:
        """Copies the states of rows `sources` over those of `rows`, all at once, to read `tokens` next."""
        if rows != sources:
            for array in self._states[self._current].values():
                array[rows] = array[sources]
            if self._memory.inputs:
                self._memory.copy(rows, sources)
        self._tokens[self._current][rows] = tokens

    def move(self, rows: Sequence[int], sources: Sequence[int]) -> None:
        """Copies states and tokens of rows `sources` over those of `rows`, all at once."""
        self.place(rows, sources, self._tokens[self._current][sources].tolist())

    def warm_up(self) -> None:
        """Runs both graphs at every number of rows, so that no request pays for their first time.

        Where sources may be longer than the narrowest memory, each further width is tried with some numbers.
        """
        some = sizes_up_to(self.rows)
        for count in some:
            self.encode([[self.unknown_id] * 8] * count, range(count))
        self._try_steps(range(1, self.rows + 1) if self._binds_each_count else some)
        while 0 < self._memory.width < self._longest:
            self.encode([[self.unknown_id] * (self._memory.width + 1)], [0])
            self._try_steps(some)
        self.clear()

    def _try_steps(self, counts: Iterable[int]) -> None:
        """Both sets of states are read once with each number of rows."""
        for count in counts:
            for _ in range(2):
                self.step(count)

    def clear(self) -> None:
        """Hears that nobody is in any row."""
        self._memory.clear()

    def _bind(self, first: int, count: int, reads: int, width: int) -> ort.IOBinding:
        """Binds the graph's tensors to `count` rows from `first` on: one set is read, the other written."""
        binding = self._bindings[first, count, reads, width] = self._graphs[1].io_binding()
        writes = 1 - reads
        inputs = {"token": self._tokens[reads], **self._states[reads], **self._memory.inputs}
        next_states = {f"next_{name}": array for name, array in self._states[writes].items()}
        outputs = {
            **self._outputs,
            **self._memory.outputs,
            "next_token": self._tokens[writes],
            **next_states,
        }
        for name, array in inputs.items():
            part = array[first : first + count]
            binding.bind_input(name, "cpu", 0, part.dtype, part.shape, part.ctypes.data)
        for name, array in outputs.items():
            part = array[first : first + count]
            binding.bind_output(name, "cpu", 0, part.dtype, part.shape, part.ctypes.data)
        return binding
