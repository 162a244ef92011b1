"""The loop that others would write: ONNX Runtime's dynamic int8 of the same network, whole batches, numpy.

`quantize_dynamic` makes both graphs from the fp32 ones. Sources are sorted by length and cut into batches; a
batch is stepped until all of its sequences have ended. There is no server, no queue and no promise: with
dynamic scales an answer depends on what shares its batch. Letters: B batch, S source length.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import quantize_dynamic

from bundle.manifest import Graph
from bundle.reader import Bundle

# Outputs that greedy decoding does not read.
UNUSED = frozenset({"top_tokens", "top_scores", "log_probs", "alignments"})


class PlainLoop:
    """A bundle's fp32 graphs, quantised dynamically. `folder` takes the files."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        profile = bundle.manifest.profile("fp32")
        self._end_id = bundle.manifest.vocabulary.end_id
        self._start_id = bundle.manifest.vocabulary.start_id
        self._most = bundle.manifest.limits.max_target_length + 1
        self._encoder = _session(profile.encoder, bundle.graphs[profile.encoder.file], folder)
        self._decoder = _session(profile.decoder, bundle.graphs[profile.decoder.file], folder)
        self._encoded = [tensor.name for tensor in profile.encoder.outputs]
        written = {tensor.name for tensor in profile.decoder.outputs}
        self._states = [name for name in self._encoded if f"next_{name}" in written]  # the rest: memory

    def decode(self, sources: Sequence[Sequence[int]], batch: int) -> list[list[int]]:
        """The target ids of each source, `<E>` left out, in order."""
        answers: list[list[int]] = [[] for _ in sources]
        by_length = sorted(range(len(sources)), key=lambda index: len(sources[index]))
        for start in range(0, len(by_length), batch):
            chosen = by_length[start : start + batch]
            decoded = self._decode_batch([sources[index] for index in chosen])
            for index, answer in zip(chosen, decoded, strict=True):
                answers[index] = answer
        return answers

    def _decode_batch(self, sources: list[Sequence[int]]) -> list[list[int]]:
        lengths = np.array([len(source) for source in sources], np.int32)  # [B]
        padded = np.zeros((len(sources), lengths.max()), np.int64)  # [B, S]
        for row, source in enumerate(sources):
            padded[row, : len(source)] = source
        encoded = self._encoder.run(self._encoded, {"source": padded, "lengths": lengths})
        feeds = dict(zip(self._encoded, encoded, strict=True))
        token = np.full(len(sources), self._start_id, np.int64)
        done = np.zeros(len(sources), bool)
        steps: list[np.ndarray[Any, Any]] = []
        read = ["next_token", "next_score", *(f"next_{name}" for name in self._states)]
        while not done.all() and len(steps) < self._most:
            token, _, *states = self._decoder.run(read, {"token": token, **feeds})
            feeds |= zip(self._states, states, strict=True)
            steps.append(token)
            done |= token == self._end_id
        rows = np.stack(steps, 1).tolist()
        return [row[: row.index(self._end_id)] if self._end_id in row else row for row in rows]


def _session(graph: Graph, model: bytes, folder: Path) -> ort.InferenceSession:
    """One thread. What is computed for the unused outputs alone is cut away beforehand."""
    whole, used, small = (folder / f"{kind}.{graph.file}" for kind in ("whole", "used", "small"))
    whole.write_bytes(model)
    inputs, outputs = [t.name for t in graph.inputs], [t.name for t in graph.outputs if t.name not in UNUSED]
    onnx.utils.extract_model(str(whole), str(used), inputs, outputs)
    quantize_dynamic(used, small)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(small), options, providers=["CPUExecutionProvider"])
