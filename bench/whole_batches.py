"""Request-level batching, to be measured against: whole batches instead of rows that come and go.

The service's engine process with another scheduler: it collects sequences until all rows are taken or a short
time is over, encodes them, and steps until ALL have ended; only then does it answer, and collect again. Rows
of those that ended are stepped along. Front, link, graphs and options are the service's own. Run by the
server in bench/baseline.py as `python -m bench.whole_batches FD LEVEL`. No streams.
"""

import sys
import time
from collections.abc import Iterable

from service import engine_process
from service.engine import Engine
from service.hypothesis import Outcome
from service.messages import News
from service.sequence import Sequence
from service.waiting import Waiting

WINDOW_SECONDS = 0.001  # from the first arrival, until a batch that is not full starts
NAP_SECONDS = 0.0002


class WholeBatches:
    """Stands in for service/scheduler.py's Scheduler."""

    def __init__(self, engine: Engine, waiting: Waiting[Sequence], encode_tokens: int) -> None:
        del encode_tokens  # the whole batch is encoded at once
        self.waiting = waiting
        self.news = News()
        self.running: list[Sequence] = []  # nobody is, between two ticks
        self._engine = engine

    @property
    def busy(self) -> bool:
        """Whether a tick has anything to do."""
        return len(self.waiting) > 0

    def submit(self, sequences: Iterable[Sequence]) -> None:
        """Lets sequences wait for the next batch."""
        for sequence in sequences:
            self.waiting.push(sequence)

    def cancel(self, ids: Iterable[int]) -> None:
        """Ends those that wait; a batch that runs, runs."""
        left = set(ids)
        for sequence in [waiting for waiting in self.waiting if waiting.id in left]:
            self.waiting.discard(sequence)
            self._end(sequence, Outcome.CANCELLED)

    def abort(self) -> None:
        """Ends every sequence that waits, as drained."""
        for sequence in list(self.waiting):
            self.waiting.discard(sequence)
            self._end(sequence, Outcome.DRAINED)

    def tick(self) -> None:
        """Waits a moment for more, or decodes a batch from beginning to end."""
        first = next(iter(self.waiting))
        if len(self.waiting) < self._engine.rows and time.monotonic() < first.arrived + WINDOW_SECONDS:
            time.sleep(NAP_SECONDS)
            return
        batch = [self.waiting.pop() for _ in range(min(len(self.waiting), self._engine.rows))]
        now = time.monotonic()
        for sequence in batch:
            sequence.started = now
        self._engine.encode([sequence.source_ids for sequence in batch], range(len(batch)))
        self.news.encode_rows.append(len(batch))
        self.news.encode_seconds.append(self._engine.run_seconds)
        outcomes: dict[int, Outcome] = {}  # by row
        while len(outcomes) < len(batch):
            self._step(batch, outcomes)
        for row, sequence in enumerate(batch):
            self._end(sequence, outcomes[row])

    def _step(self, batch: list[Sequence], outcomes: dict[int, Outcome]) -> None:
        """One step of every row, also of those that ended long ago."""
        early = [
            row
            for row, sequence in enumerate(batch)
            if sequence.search is None and len(sequence.tokens) < sequence.options.min_length
        ]
        [(tokens, scores)] = self._engine.steps(len(batch), 1, early)
        self.news.step_rows.append(len(batch))
        self.news.step_seconds.append(self._engine.run_seconds)
        now = time.monotonic()
        for row, sequence in enumerate(batch):
            if row in outcomes:
                continue
            sequence.first_token = sequence.first_token or now
            if sequence.search is not None:
                _, read = sequence.search.advance(self._engine.distributions([row]))
                if read:
                    self._engine.place([row], [row], read)
                else:
                    outcomes[row] = Outcome(sequence.search.hypotheses[0].reason)
                continue
            sequence.tokens.append(tokens[row])
            sequence.scores.append(scores[row])
            if tokens[row] == self._engine.end_id:
                outcomes[row] = Outcome.EOS
            elif len(sequence.tokens) == sequence.options.max_length:
                outcomes[row] = Outcome.LENGTH

    def _end(self, sequence: Sequence, outcome: Outcome) -> None:
        self.news.ended.append(sequence.finish(outcome, time.monotonic()))


if __name__ == "__main__":
    assert "Scheduler" in vars(engine_process)
    vars(engine_process)["Scheduler"] = WholeBatches
    sys.exit(engine_process.main())
