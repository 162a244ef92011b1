"""The same bundle behind PyTriton: Triton's dynamic batcher, and Python that answers batches.

Needs the package nvidia-pytriton. Run as `python -m bench.pytriton_server FOLDER WORKERS PORT`. The Open
Inference Protocol over HTTP on loopback: words in, their target texts out. A worker is a thread with the
service's engine, beside Triton, which is a process of its own. On a very busy machine it does not start: it
gives its processes one second to find each other.
"""

import os
import signal
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pytriton.decorators import batch  # type: ignore[import-not-found]
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor  # type: ignore[import-not-found]
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found]

from bench.batch_decoder import MOST_WORDS, WAIT_MICROSECONDS, BatchDecoder

MODEL, WORD, TEXT = "words", "word", "text"


def worker(folder: Path) -> Any:
    """What PyTriton calls with a batch of words [B, 1], for their target texts [B, 1]."""
    decoder = BatchDecoder(folder)

    def answer(**inputs: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        texts = decoder.answer([word.decode() for word in inputs[WORD].reshape(-1)])
        return [np.array([text.encode() for text in texts], object).reshape(-1, 1)]

    return batch(answer)


def main(folder: Path, workers: int, port: int) -> None:
    """Serves until SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # PyTriton stops in order on the other one
    # Triton loads libpython for itself, and a system's own one does not fit this interpreter's library.
    os.environ["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    answers = [worker(folder) for _ in range(workers)]
    place = TritonConfig(
        http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False, log_verbose=0
    )
    with TemporaryDirectory() as space, Triton(config=place, workspace=Path(space) / "triton") as triton:
        triton.bind(
            model_name=MODEL,
            infer_func=answers,
            inputs=[Tensor(name=WORD, dtype=bytes, shape=(1,))],
            outputs=[Tensor(name=TEXT, dtype=bytes, shape=(1,))],
            config=ModelConfig(max_batch_size=MOST_WORDS, batcher=DynamicBatcher(WAIT_MICROSECONDS)),
        )
        triton.serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
