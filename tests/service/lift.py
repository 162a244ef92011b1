"""A scheduler under watch: a clock that is set by hand, and what must hold at every step."""

import numpy as np

from service.decoder import put_off_ends
from service.decoding.search import search_for
from service.hypothesis import Hypothesis, Outcome
from service.messages import Ended, News
from service.options import Options
from service.scheduler import Scheduler
from service.sequence import Sequence
from service.waiting import Waiting
from tests.service.decoding_cases import distributions

FAR = 1e9
STATES = 997


class Lift:
    """A scheduler with its engine. `ride` submits, `tick` takes one step, `run` goes on until all ended."""

    def __init__(self, engine, encode_tokens=100, kind=Scheduler) -> None:
        self.engine = engine
        self.now = 100.0
        self.ended: dict[int, Ended] = {}
        self.progress: dict[int, list[int]] = {}
        self.news: list[News] = []
        self.step_owners: list[list[int]] = []  # whose rows each step ran
        self.scheduler = kind(engine, Waiting(), encode_tokens, lambda: self.now)
        self._next_id = 1
        self._holes = 0
        self._step, engine.step = engine.step, self._watched_step

    def _watched_step(self, count):
        running = self.scheduler.running
        self._holes += running.count(None) + abs(
            len(running) - count
        )  # the scheduler catches what is raised here
        self.step_owners.append([sequence.id for sequence in running if sequence])
        return self._step(count)

    def ride(
        self, *sources, max_length=99, options=None, deadline=FAR, priority=0, streams=False
    ) -> list[Sequence]:
        """Submits one sequence for each source."""
        sequences = []
        options = options or Options(max_length)
        for source in sources:
            search = search_for(options, self.engine.emitted)
            sequence = Sequence(
                self._next_id, list(source), options, deadline, self.now, priority, streams, search
            )
            self._next_id += 1
            sequences.append(sequence)
        self.scheduler.submit(sequences)
        return sequences

    def cancel(self, *sequences) -> None:
        self.scheduler.cancel([sequence.id for sequence in sequences])

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.scheduler.tick()
            self.take_news()
            self.check()
            self.now += 1

    def run(self) -> None:
        for _ in range(5000):
            if not self.scheduler.busy:
                break
            self.tick()
        assert not self.scheduler.busy, "somebody never ended"
        self.take_news()
        assert not any(self.scheduler.running) and not len(self.scheduler.waiting)

    def take_news(self) -> None:
        news, self.scheduler.news = self.scheduler.news, News()
        self.news.append(news)
        for progress in news.progress:
            assert progress.id not in self.ended, "a stream goes on after its end"
            assert len(progress.tokens) == len(progress.scores) > 0
            self.progress.setdefault(progress.id, []).extend(progress.tokens)
        for end in news.ended:
            assert end.id not in self.ended, "a sequence ended twice"
            self.ended[end.id] = end

    def check(self) -> None:
        """What holds between any two ticks."""
        assert not self._holes, "a step had rows that nobody has"
        owners = [sequence for sequence in self.scheduler.running if sequence]
        runners = {sequence.id: sequence for sequence in owners}.values()
        reserved = sum(sequence.width for sequence in runners)
        assert self.scheduler._rows.reserved == reserved <= self.engine.rows, (
            "more rows are promised than are there"
        )
        for sequence in runners:
            assert 1 <= len(sequence.rows) <= sequence.width
            assert all(self.scheduler.running[row] is sequence for row in sequence.rows)
        assert sum(len(sequence.rows) for sequence in runners) == len(owners)

    def outcome(self, sequence: Sequence) -> Outcome:
        return self.ended[sequence.id].outcome

    def tokens(self, sequence: Sequence) -> list[int]:
        """Of the best hypothesis."""
        return self.ended[sequence.id].hypotheses[0].tokens


class TableEngine:
    """A decoder whose states are numbers: what follows depends on a row's state, which depends on its source
    and on every token that it has read. A row that is lost, mixed up or moved late gives other answers."""

    end_id = 0
    run_seconds = 0.0
    replayed = False

    def __init__(self, rows: int, emitted: int = 12, seed: int = 0) -> None:
        self.rows = rows
        self.emitted = emitted
        logits = np.random.default_rng(seed).normal(0, 2, (STATES, emitted))
        logits -= np.log(np.exp(logits).sum(1, keepdims=True))
        self.table = logits.astype(np.float32)  # [STATES, V]
        self.state = [0] * rows
        self.token = [0] * rows

    def encode(self, sources, rows):
        for source, row in zip(sources, rows, strict=True):
            self.state[row], self.token[row] = self.first(source), self.emitted

    def step(self, count):
        self.state[:count] = map(self.after, self.state[:count], self.token[:count])
        found = self.table[self.state[:count]]
        self.token[:count] = found.argmax(1).tolist()
        return self.token[:count], found.max(1).tolist()

    def steps(self, count, most, short):
        said = []
        while len(said) < most and not (said and self.end_id in said[-1][0]):
            said.append(self.step(count))
            put_off_ends(self, short, *said[-1])
        return said

    def distributions(self, rows):
        return distributions(lambda state: self.table[state], [self.state[row] for row in rows])

    def alignments(self, rows):
        return np.stack([self.weights(self.state[row]) for row in rows])  # [len(rows), 16]

    @staticmethod
    def weights(state: int) -> np.ndarray:
        return np.arange(state, state + 16, dtype=np.float32)

    def aligned(self, source: list[int], hypothesis: Hypothesis) -> list[list[float]]:
        """What a hypothesis of this source comes with, where alignments are asked for."""
        state, found = self.first(source), []
        for token in [self.emitted, *hypothesis.tokens][: len(hypothesis.scores)]:
            state = self.after(state, token)
            found.append(self.weights(state)[: len(source)].tolist())
        return found

    def place(self, rows, sources, tokens):
        states = [self.state[source] for source in sources]
        for row, state, token in zip(rows, states, tokens, strict=True):
            self.state[row], self.token[row] = state, token

    def move(self, rows, sources):
        self.place(rows, sources, [self.token[source] for source in sources])

    @staticmethod
    def first(source: list[int]) -> int:
        return sum(id_ * 31**place for place, id_ in enumerate(source)) % STATES

    @staticmethod
    def after(state: int, token: int) -> int:
        return (state * 31 + token * 7 + 1) % STATES

    def alone(self, source: list[int]):
        """The model of one source: the log-probabilities [V] after some tokens."""

        def model(tokens):
            state = self.after(self.first(source), self.emitted)
            for token in tokens:
                state = self.after(state, token)
            return self.table[state]

        return model
