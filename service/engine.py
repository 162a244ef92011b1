"""The decoder's rows: a fixed number of states that ONNX Runtime steps together.

Knows nothing of text, requests or scheduling. Letters: B batch, S source length, R rows, L layers, H hidden.
State is double-buffered: a step reads one set of arrays and writes the other, in place, through bindings that
are made once for each number of rows. Used by one thread at a time.
"""

import importlib.metadata
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import: no thread, no files, no uploads
import onnxruntime as ort

from bundle.reader import Bundle
from service.errors import StartError

log = logging.getLogger(__name__)

ENCODER_BATCH = 8  # more in one run cost no less each, and are padded further
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def open_engine(bundle: Bundle, rows: int, device: str, threads: int) -> "Engine":
    """An engine on `cpu` or `cuda`, or under `auto` on CUDA where it works and else, visibly, on the CPU.

    Raises StartError where the graphs do not run on the device that was asked for.
    """
    if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu"):
        raise StartError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: keep one"
        )
    if device != "auto":
        return Engine(bundle, rows, device, threads)
    try:
        return Engine(bundle, rows, "cuda", threads)
    except StartError as error:
        log.warning("falling back to the CPU", extra={"reason": str(error)})
        return Engine(bundle, rows, "cpu", threads)


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
    """`rows` rows of decoder state for one bundle. Raises StartError where its graphs do not run here."""

    def __init__(self, bundle: Bundle, rows: int, device: str = "cpu", threads: int = 1) -> None:
        manifest = bundle.manifest
        self.device = device
        self.rows = rows
        self.end_id = manifest.vocabulary.end_id
        self.start_id = manifest.vocabulary.start_id
        self.unknown_id = manifest.vocabulary.source_unknown_id
        self._encoder = _session(bundle.encoder, "encoder.onnx", device, threads)
        self._decoder = _session(bundle.decoder, "decoder.onnx", device, threads)
        self._state_names = [tensor.name for tensor in manifest.encoder.outputs]
        hidden = manifest.architecture.hidden_size
        self._states = [  # two sets of h_0.. and c_0.., each [rows, H]
            [np.zeros((rows, hidden), np.float32) for _ in self._state_names] for _ in range(2)
        ]
        self._tokens = [np.zeros(rows, np.int64) for _ in range(2)]  # what each row reads next, [rows]
        self._scores = np.zeros(rows, np.float32)
        self._current = 0  # which set the next step reads
        self._bindings: dict[tuple[int, int], ort.IOBinding] = {}

    def encode(self, sources: Sequence[Sequence[int]], first_row: int) -> None:
        """Starts row first_row + i from source i. Sources of like length share a run: little is padded."""
        assert sources, "an empty batch kills the process"
        by_length = sorted(range(len(sources)), key=lambda index: len(sources[index]))
        for start in range(0, len(sources), ENCODER_BATCH):
            chosen = by_length[start : start + ENCODER_BATCH]
            rows = [first_row + index for index in chosen]
            self._encode([sources[index] for index in chosen], rows)

    def _encode(self, sources: Sequence[Sequence[int]], rows: list[int]) -> None:
        """One encoder run, padded to the longest of its sources."""
        lengths = np.array([len(source) for source in sources], np.int32)  # [B]
        padded = np.zeros((len(sources), int(lengths.max())), np.int64)  # [B, S]
        for row, source in enumerate(sources):
            padded[row, : len(source)] = source
        states = self._encoder.run(self._state_names, {"source": padded, "lengths": lengths})  # each [B, H]
        for array, state in zip(self._states[self._current], states, strict=True):
            array[rows] = state
        self._tokens[self._current][rows] = self.start_id

    def step(self, count: int) -> tuple[list[int], list[float]]:
        """Runs the decoder on rows 0..count-1: the next token of each, and its natural-log probability."""
        assert 0 < count <= self.rows, f"{count} rows"
        key = (count, self._current)
        if key not in self._bindings:
            self._bindings[key] = self._bind(*key)
        self._decoder.run_with_iobinding(self._bindings[key])
        self._current = 1 - self._current
        return self._tokens[self._current][:count].tolist(), self._scores[:count].tolist()

    def move(self, source_row: int, target_row: int) -> None:
        """Copies a row's state and token over another's."""
        for array in self._states[self._current]:
            array[target_row] = array[source_row]
        tokens = self._tokens[self._current]
        tokens[target_row] = tokens[source_row]

    def warm_up(self) -> None:
        """Runs both graphs at several sizes, so that no request pays for their first time."""
        count = 1
        while count <= self.rows:
            self.encode([[self.unknown_id] * 8] * count, 0)
            self.step(count)
            self.step(count)
            count *= 2

    def _bind(self, count: int, reads: int) -> ort.IOBinding:
        """Binds the graph's tensors to the first `count` rows: it reads one set and writes the other."""
        binding = self._decoder.io_binding()
        writes = 1 - reads
        inputs: dict[str, np.ndarray[Any, Any]] = {"token": self._tokens[reads]}
        inputs |= dict(zip(self._state_names, self._states[reads], strict=True))
        outputs: dict[str, np.ndarray[Any, Any]] = {
            "next_token": self._tokens[writes],
            "next_score": self._scores,
        }
        outputs |= {
            f"next_{name}": a for name, a in zip(self._state_names, self._states[writes], strict=True)
        }
        for name, array in inputs.items():
            part = array[:count]
            binding.bind_input(name, "cpu", 0, part.dtype, part.shape, part.ctypes.data)
        for name, array in outputs.items():
            part = array[:count]
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
