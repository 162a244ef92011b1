"""The same bundle behind Mosec, whose dynamic batcher collects whole requests. Needs the package mosec.

Run as `python -m bench.mosec_server FOLDER WORKERS --address HOST --port PORT`. JSON strings over HTTP: a
word in, its target text out. A worker is a process with the service's engine; a batch is stepped until all
of it has ended.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mosec import Server, Worker  # type: ignore[import-not-found]

from bundle.reader import read_bundle
from service.engine import Engine
from service.settings import Settings

FOLDER = "BENCH_BUNDLE"  # a variable: Mosec starts workers without arguments
WAIT_MS = 1


class Decoder(Worker):  # type: ignore[misc]
    """One worker."""

    def __init__(self) -> None:
        super().__init__()
        self._bundle = read_bundle(Path(os.environ[FOLDER]))
        self._engine = Engine(self._bundle, "", Settings().max_rows)
        self._engine.warm_up()
        self._most = self._bundle.manifest.limits.max_target_length

    def forward(self, data: list[str]) -> list[str]:
        """A batch of words, each as its target text."""
        answers = self._decode([self._bundle.source.encode(word) for word in data])
        return [self._bundle.target.decode(answer) for answer in answers]

    def _decode(self, sources: Sequence[Sequence[int]]) -> list[list[int]]:
        self._engine.encode(sources, range(len(sources)))
        answers: list[list[int]] = [[] for _ in sources]
        open_rows = set(range(len(sources)))
        while open_rows:
            tokens, _ = self._engine.step(len(sources))
            for row in list(open_rows):
                if tokens[row] == self._engine.end_id or len(answers[row]) == self._most:
                    open_rows.discard(row)
                else:
                    answers[row].append(tokens[row])
        return answers


if __name__ == "__main__":
    folder, workers = sys.argv[1:3]
    del sys.argv[1:3]  # the rest is Mosec's
    server = Server()
    variables = [{FOLDER: folder}] * int(workers)
    rows = Settings().max_rows
    server.append_worker(Decoder, num=int(workers), max_batch_size=rows, max_wait_time=WAIT_MS, env=variables)
    server.run()
