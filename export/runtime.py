"""ONNX Runtime as export uses it: on the CPU, in one thread, and without telemetry."""

import os
from typing import TypeAlias

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import: no thread, no files, no uploads
import onnxruntime as ort

VERSION: str = ort.__version__
Session: TypeAlias = ort.InferenceSession


def session(model: bytes) -> Session:
    """What runs a graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return Session(model, options, ["CPUExecutionProvider"])
