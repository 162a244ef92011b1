"""The same bundle behind Mosec, whose dynamic batcher collects whole requests. Needs the package mosec.

Run as `python -m bench.mosec_server FOLDER WORKERS PORT`. JSON strings over HTTP on loopback: a word in, its
target text out. A worker is a process with the service's engine.
"""

import os
import sys
from pathlib import Path

from mosec import Server, Worker  # type: ignore[import-not-found]

from bench.batch_decoder import MOST_WORDS, WAIT_MICROSECONDS, BatchDecoder

FOLDER = "BENCH_BUNDLE"  # a variable: Mosec starts workers without arguments


class Decoder(Worker):  # type: ignore[misc]
    """One worker."""

    def __init__(self) -> None:
        super().__init__()
        self._decoder = BatchDecoder(Path(os.environ[FOLDER]))

    def forward(self, data: list[str]) -> list[str]:
        """A batch of words, each as its target text."""
        return self._decoder.answer(data)


if __name__ == "__main__":
    folder, workers, port = sys.argv[1:]
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", port]  # Mosec reads them itself
    server = Server()
    server.append_worker(
        Decoder,
        num=int(workers),
        max_batch_size=MOST_WORDS,
        max_wait_time=WAIT_MICROSECONDS // 1000,
        env=[{FOLDER: folder}] * int(workers),
    )
    server.run()
