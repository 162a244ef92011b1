"""The decoder's rows on a device: state, tokens and encoded sources stay there from step to step.

Does what engine.py does, for a device whose memory the host does not see; it runs on the CPU too, where tests
hold it against that one. Letters: B batch, S source length, R rows, M rows that are asked about.

Row numbers are filled up to a power of two, so that there are few shapes: all are tried before anybody is let
in. A step is bound to fixed addresses for each such number, each of the two sets of state that it may read
and each width of memory, and each of those has a graph of its own under CUDA: a captured graph goes on
reading and writing where it did when it was captured. Capturing runs a step three times; it reads one set and
writes the other, so that it may. Every run ends before the next begins, and what the host reads is only what
it is asked for: tokens and scores in a step. Used by one thread at a time.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from bundle.reader import Bundle
from service.decoder import DeviceLost, put_off_ends, sizes_up_to
from service.decoding.distributions import Distributions
from service.device_memory import Buffer
from service.device_sessions import NO_GRAPH, BoundStep, DeviceSessions, run_options
from service.device_state import DeviceState, filled
from service.memory import Array, width_for
from service.providers import ort

ENCODER_BATCH = 256  # sources of one encoder run, at the most


class DeviceEngine:
    """`rows` rows of decoder state for one bundle and profile, on `cuda` (where fp32 may be TF32) or `cpu`.

    Raises StartError where the graphs do not run there, BundleError for a profile that the bundle lacks, and
    in any method DeviceLost once the device answers nothing any more.
    """

    def __init__(
        self,
        bundle: Bundle,
        profile: str = "",
        rows: int = 256,
        device: str = "cuda",
        threads: int = 1,
        tf32: bool = False,
        beside: "DeviceEngine | None" = None,
    ) -> None:
        vocabulary = bundle.manifest.vocabulary
        graphs = beside._sessions if beside else DeviceSessions(bundle, profile, device, threads, tf32)
        self._sessions: DeviceSessions = graphs
        self.profile = graphs.profile
        self.device = device
        self.runtime = "onnxruntime"
        self.rows = rows
        self.emitted = vocabulary.target_size - 1  # V
        self.end_id = vocabulary.end_id
        self.run_seconds = 0.0
        self.replayed = False
        self._start_id = vocabulary.start_id
        self._unknown_id = vocabulary.source_unknown_id
        self._longest = bundle.manifest.limits.max_source_length
        self._state = DeviceState(graphs, rows, vocabulary.start_id, device)
        self._outputs = self._state.buffers(graphs.outputs)
        self._steps: dict[tuple[int, int, int], BoundStep] = {}
        self._picks: dict[int, Buffer] = {}  # [M] by M

    @property
    def held_bytes(self) -> int:
        """Memory on the device for rows, and what they look back on. What ONNX Runtime takes is beside it."""
        return self._state.held_bytes + sum(buffer.size_bytes for buffer in self._outputs.values())

    # Joining

    def encode(self, sources: Sequence[Sequence[int]], rows: Sequence[int]) -> None:
        """Starts row rows[i] from source i, whose encoding never leaves the device."""
        assert sources, "an empty batch kills the process"
        began = time.perf_counter()
        with self._conclusive():
            self._state.memory.make_room(max(map(len, sources)))
        with self._watched():
            by_length = sorted(range(len(sources)), key=lambda index: len(sources[index]))
            for first in range(0, len(sources), ENCODER_BATCH):
                chosen = by_length[first : first + ENCODER_BATCH]
                self._encode([sources[index] for index in chosen], [rows[index] for index in chosen])
        self.run_seconds = time.perf_counter() - began

    def _encode(self, sources: Sequence[Sequence[int]], rows: list[int]) -> None:
        """One encoder run, filled up with sources of a token each, whose states go to the spare row."""
        count = filled(len(sources))
        width = width_for(max(map(len, sources)))
        lengths = np.ones(count, np.int32)  # [B]
        lengths[: len(sources)] = [len(source) for source in sources]
        padded = np.zeros((count, width), np.int64)  # [B, S]
        padded[len(sources) :, 0] = self._unknown_id
        for row, source in enumerate(sources):
            padded[row, : len(source)] = source
        binding = self._sessions.encoder.io_binding()
        binding.bind_cpu_input("source", padded)
        binding.bind_cpu_input("lengths", lengths)
        for name in self._sessions.encoded:
            binding.bind_output(name, self.device, 0)
        self._sessions.encoder.run_with_iobinding(binding)
        found = dict(zip(self._sessions.encoded, binding.get_outputs(), strict=True))
        self._state.enter(found, lengths[: len(sources)], width, rows)

    # The step

    def step(self, count: int) -> tuple[list[int], list[float]]:
        """Runs the decoder on rows 0..count-1: each one's best next token, and its log-probability."""
        assert 0 < count <= self.rows, f"{count} rows"
        began = time.perf_counter()
        if self._state.memory.width:
            with self._conclusive():
                self._state.memory.before_step(count)
        with self._watched():
            bound = self._bound(count)
            self._sessions.decoder.run_with_iobinding(bound.binding, bound.options)
            self.replayed, bound.captured = bound.captured, self.device != "cpu"
            self.run_seconds = time.perf_counter() - began
            return self._turn(count)

    def steps(self, count: int, most: int, short: Sequence[int] = ()) -> list[tuple[list[int], list[float]]]:
        """What `step` says, in a list, but that rows `short` go on: the host looks at each."""
        tokens, scores = self.step(count)
        put_off_ends(self, short, tokens, scores)
        return [(tokens, scores)]

    def step_singly(self, count: int) -> tuple[list[int], list[float], list[int]]:
        """As `step`, after one that threw: once more, without a graph. Nothing that it read has changed.

        Rows are not tried one by one: on a device none can throw alone. A second failure is the device's.
        """
        began = time.perf_counter()
        try:
            bound = self._bound(count)
            self._sessions.decoder.run_with_iobinding(bound.binding, run_options(NO_GRAPH))
            self.replayed = False
            self.run_seconds = time.perf_counter() - began
            return *self._turn(count), []
        except Exception as error:
            raise DeviceLost(f"a decoder step failed twice on {self.device}") from error

    def _turn(self, count: int) -> tuple[list[int], list[float]]:
        """What was written is what the next step reads; tokens and scores come to the host."""
        scores: list[float] = self._outputs["next_score"].read()[:count].tolist()
        tokens: list[int] = self._state.turn()[:count].tolist()
        return tokens, scores

    def _bound(self, count: int) -> BoundStep:
        key = (min(filled(count), self.rows), self._state.current, self._state.memory.width)
        return self._steps.get(key) or self._bind_step(*key)

    def _bind_step(self, count: int, reads: int, width: int) -> BoundStep:
        """Binds the decoder's tensors: one set is read, the other written."""
        binding, state, writes = self._sessions.decoder.io_binding(), self._state, 1 - reads
        inputs = {"token": state.tokens[reads], **state.states[reads], **state.memory.inputs}
        outputs = {**self._outputs, **state.memory.outputs, "next_token": state.tokens[writes]}
        outputs |= {f"next_{name}": buffer for name, buffer in state.states[writes].items()}
        for name, buffer in inputs.items():
            buffer.bind_input(binding, name, count)
        for name, buffer in outputs.items():
            buffer.bind_output(binding, name, count)
        bound = self._steps[count, reads, width] = BoundStep(binding, next(self._sessions.graph_ids))
        return bound

    # What a step said

    def distributions(self, rows: Sequence[int]) -> Distributions:
        """What the last step said of these rows."""
        with self._conclusive():
            tokens, scores = self._pick(self._sessions.tops, rows, ["top_tokens", "top_scores"])
            (log_probs,) = self._pick(self._sessions.every, rows, ["log_probs"])
        return Distributions(log_probs, tokens.tolist(), scores.tolist())

    def alignments(self, rows: Sequence[int]) -> Array:
        """How the last step looked at the sources of these rows, [len(rows), width]. Needs attention."""
        with self._conclusive():
            return self._pick(self._sessions.align, rows, ["alignments"])[0]

    def _pick(self, session: ort.InferenceSession, rows: Sequence[int], outputs: list[str]) -> list[Array]:
        """Some rows of the decoder's outputs, on the host."""
        count = filled(len(rows))
        chosen = np.full(count, rows[0], np.int64)
        chosen[: len(rows)] = rows
        if count not in self._picks:
            self._picks[count] = Buffer((count,), "int64", self.device)
        self._picks[count].write(chosen)
        binding = session.io_binding()
        self._picks[count].bind_input(binding, "rows", count)
        every = {**self._outputs, **self._state.memory.outputs}
        for output in outputs:
            every[output].bind_input(binding, output, self.rows + 1)
            binding.bind_output(f"{output}_out", "cpu")
        session.run_with_iobinding(binding)
        return [value.numpy()[: len(rows)] for value in binding.get_outputs()]

    # Moving

    def place(self, rows: Sequence[int], sources: Sequence[int], tokens: Sequence[int]) -> None:
        """Copies the states of rows `sources` over those of `rows`, all at once, to read `tokens` next."""
        with self._conclusive():
            self._state.place(rows, sources, tokens)

    def move(self, rows: Sequence[int], sources: Sequence[int]) -> None:
        """Copies states and tokens of rows `sources` over those of `rows`, all at once."""
        self.place(rows, sources, self._state.host_tokens[list(sources)].tolist())

    # Beginning and end

    def warm_up(self) -> None:
        """Runs every graph in every shape, and captures every step: no request pays for a first time."""
        lengths = [width_for(1)]
        while lengths[-1] < width_for(self._longest):
            lengths.append(width_for(lengths[-1] + 1))
        for length in lengths:
            sources = [[self._unknown_id] * min(length, self._longest)]
            for count in sizes_up_to(self.rows):
                self.encode(sources * count, range(count))
                for _ in range(2):
                    self._try_all(count)
            if not self._state.memory.width:  # then only the encoder's shapes differ
                self._warm_encoder(lengths[lengths.index(length) + 1 :])
                break
        self.clear()

    def _warm_encoder(self, lengths: list[int]) -> None:
        for length in lengths:
            for count in sizes_up_to(self.rows):
                self.encode([[self._unknown_id] * min(length, self._longest)] * count, range(count))

    def _try_all(self, count: int) -> None:
        """One step, and everything that may come between two."""
        self.step(count)
        rows = list(range(count))
        self.distributions(rows)
        if self._state.memory.outputs:
            self.alignments(rows)
        self.place(rows, rows, [self._start_id] * count)
        self.move(rows, [*rows[1:], self.rows])  # the last from the spare row

    def clear(self) -> None:
        """Hears that nobody is in any row."""
        self._state.memory.clear()

    @contextmanager
    def _conclusive(self) -> Iterator[None]:
        """For what cannot be tried again, as it may be half done: where it fails, the device is lost."""
        try:
            yield
        except Exception as error:
            raise DeviceLost(f"{self.device} failed between two steps") from error

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """For what can be tried again.

        Tells what befell some rows from the end of the device, which then throws at anything.
        """
        try:
            yield
        except Exception as error:
            try:
                self._state.touch()
            except Exception:
                raise DeviceLost(f"{self.device} answers nothing any more") from error
            raise
