"""The decoder's rows: a fixed number of states that ONNX Runtime steps together.

Knows nothing of text, requests or scheduling. Letters: B batch, S source length, R rows, L layers, H hidden.
State is double-buffered: a step reads one set of arrays and writes the other, in place, through bindings that
are made once for each number of rows. Used by one thread at a time.
"""

import importlib.metadata
import itertools
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import: no thread, no files, no uploads
import onnxruntime as ort

from bundle.manifest import Tensor
from bundle.reader import Bundle
from service.decoding.search import Distributions
from service.errors import StartError

Array = np.ndarray[Any, Any]
ENCODER_BATCH = 16  # about: a larger run is padded further, a smaller one waits for the weights as long
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def open_engine(bundle: Bundle, profile: str, rows: int, device: str, threads: int) -> tuple["Engine", str]:
    """An engine on `cpu` or `cuda`, or under `auto` on CUDA where it works and else on the CPU.

    The second: why not on CUDA; empty where nothing fell back. Raises StartError where the graphs do not run
    on the device that was asked for, BundleError for a profile that the bundle lacks.
    """
    if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu"):
        raise StartError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: keep one"
        )
    if device != "auto":
        return Engine(bundle, profile, rows, device, threads), ""
    try:
        return Engine(bundle, profile, rows, "cuda", threads), ""
    except StartError as error:
        return Engine(bundle, profile, rows, "cpu", threads), str(error)


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # shapes vary from run to run
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


class Engine:
    """`rows` rows of decoder state for one bundle and profile.

    Raises StartError where the graphs do not run here, BundleError for a profile that the bundle lacks.
    """

    def __init__(
        self,
        bundle: Bundle,
        profile: str = "",
        rows: int = 128,
        device: str = "cpu",
        threads: int = 1,
        beside: "Engine | None" = None,
    ) -> None:
        vocabulary = bundle.manifest.vocabulary
        self.profile = bundle.manifest.profile(profile)
        self.device = device
        self.rows = rows
        self.emitted = vocabulary.target_size - 1  # V
        self.end_id = vocabulary.end_id
        self.start_id = vocabulary.start_id
        self.unknown_id = vocabulary.source_unknown_id
        self.run_seconds = 0.0
        encoder, decoder = self.profile.encoder, self.profile.decoder
        self._sessions: tuple[ort.InferenceSession, ort.InferenceSession] = (
            beside._sessions  # more rows for the same graphs
            if beside is not None
            else (
                _session(bundle.graphs[encoder.file], encoder.file, device, threads),
                _session(bundle.graphs[decoder.file], decoder.file, device, threads),
            )
        )
        self._encoder, self._decoder = self._sessions
        self._outputs = {tensor.name: self._array(tensor) for tensor in decoder.outputs}
        self._states = [  # two sets of h_0.. and c_0.., each [rows, H]
            {tensor.name: self._array(tensor) for tensor in encoder.outputs} for _ in range(2)
        ]
        self._tokens = [np.zeros(rows, np.int64) for _ in range(2)]  # what each row reads next, [rows]
        self._current = 0  # which set the next step reads
        self._bindings: dict[tuple[int, int, int], ort.IOBinding] = {}

    def _array(self, tensor: Tensor) -> Array:
        """Zeros for a tensor of the decoder, with all the rows there are."""
        return np.zeros((self.rows, *tensor.shape[1:]), tensor.dtype)

    def encode(self, sources: Sequence[Sequence[int]], rows: Sequence[int]) -> None:
        """Starts row rows[i] from source i. Sources of like length share a run: little is padded."""
        assert sources, "an empty batch kills the process"
        began = time.perf_counter()
        by_length = sorted(range(len(sources)), key=lambda index: len(sources[index]))
        runs = max(1, round(len(sources) / ENCODER_BATCH))
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
        states = self._encoder.run(None, {"source": padded, "lengths": lengths})  # each [B, H]
        for array, state in zip(self._states[self._current].values(), states, strict=True):
            array[rows] = state
        self._tokens[self._current][rows] = self.start_id

    def step(self, count: int) -> tuple[list[int], list[float]]:
        """Runs the decoder on rows 0..count-1: each one's best next token, and its log-probability."""
        assert 0 < count <= self.rows, f"{count} rows"
        began = time.perf_counter()
        self._run(0, count)
        self.run_seconds = time.perf_counter() - began
        return self._turn(count)

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
        key = (first, count, self._current)
        binding = self._bindings.get(key) or self._bind(*key)
        self._decoder.run_with_iobinding(binding)

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

    def place(self, rows: Sequence[int], sources: Sequence[int], tokens: Sequence[int]) -> None:
        """Copies the states of rows `sources` over those of `rows`, all at once, to read `tokens` next."""
        if rows != sources:
            for array in self._states[self._current].values():
                array[rows] = array[sources]
        self._tokens[self._current][rows] = tokens

    def move(self, rows: Sequence[int], sources: Sequence[int]) -> None:
        """Copies states and tokens of rows `sources` over those of `rows`, all at once."""
        self.place(rows, sources, self._tokens[self._current][sources].tolist())

    def warm_up(self) -> None:
        """Runs both graphs at every number of rows, so that no request pays for their first time."""
        for count in range(1, self.rows + 1):
            if count & (count - 1) == 0:
                self.encode([[self.unknown_id] * 8] * count, range(count))
            for _ in range(2):
                self.step(count)

    def _bind(self, first: int, count: int, reads: int) -> ort.IOBinding:
        """Binds the graph's tensors to `count` rows from `first` on: one set is read, the other written."""
        binding = self._bindings[first, count, reads] = self._decoder.io_binding()
        writes = 1 - reads
        inputs = {"token": self._tokens[reads], **self._states[reads]}
        next_states = {f"next_{name}": array for name, array in self._states[writes].items()}
        outputs = {**self._outputs, "next_token": self._tokens[writes], **next_states}
        for name, array in inputs.items():
            part = array[first : first + count]
            binding.bind_input(name, "cpu", 0, part.dtype, part.shape, part.ctypes.data)
        for name, array in outputs.items():
            part = array[first : first + count]
            binding.bind_output(name, "cpu", 0, part.dtype, part.shape, part.ctypes.data)
        return binding


def _session(model: bytes, name: str, device: str, threads: int) -> ort.InferenceSession:
    """A session that runs wholly on the device: ONNX Runtime alone would fall back to the CPU in silence."""
    options = _options(threads)
    if device == "cuda":
        if CUDA not in ort.get_available_providers():
            raise StartError(
                "device cuda: this onnxruntime has no CUDA provider; install requirements/serving-gpu.txt"
            )
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(model, options, providers=[CUDA if device == "cuda" else CPU])
    except Exception as error:
        raise StartError(f"{name}: ONNX Runtime cannot run it on {device}: {type(error).__name__}") from error
    if device == "cuda" and session.get_providers()[0] != CUDA:
        raise StartError("device cuda: the CUDA libraries do not load")
    return session
