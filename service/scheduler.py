"""Continuous batching: sequences join and leave rows at any step, and nobody waits for the slowest.

Knows nothing of text, transport, tensors, processes or metrics. One thread owns it: between two ticks it
takes sequences and cancels, and every tick admits, steps and retires. Who has which row is in rows.py.
"""

import heapq
import logging
import time
from collections.abc import Callable, Iterable

from service.decoder import Decoder, DeviceLost, put_off_ends
from service.decoding.search import Search
from service.decoding.together import advance
from service.hypothesis import Outcome
from service.lengths import Lengths
from service.messages import News, Progress
from service.rows import Rows
from service.sequence import Sequence
from service.waiting import Waiting, forget_dead

log = logging.getLogger(__name__)

COMPANY, HOLD_STEPS = 8, 2  # sequences; steps for which fewer wait for so many
FEW_ROWS, MOST_STEPS = 8, 8  # so many steps of so few rows in one go are over soon enough for a newcomer


class Scheduler:
    """`waiting` and `running`, and the tick between them. What happened is in `news` until it is taken."""

    def __init__(
        self,
        engine: Decoder,
        waiting: Waiting[Sequence],
        encode_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.waiting = waiting
        self.news = News()
        self._engine = engine
        self._rows = Rows(engine.rows)
        self._encode_tokens = encode_tokens  # most source tokens encoded between two steps
        self._clock = clock
        self._inside: dict[int, Sequence] = {}  # by id: all that wait or run
        self._held = 0  # steps for which newcomers have waited for company
        self._searching: dict[int, Sequence] = {}
        self._streaming: dict[int, Sequence] = {}
        self._deadlines: list[tuple[float, int]] = []  # of those inside, and of some who ended
        self._lengths = Lengths()  # of plain sequences
        self._fresh: list[Sequence] = []  # those whose first step comes next

    @property
    def running(self) -> list[Sequence | None]:
        """By row. None: a hole, filled before the next step."""
        return self._rows.running

    @property
    def busy(self) -> bool:
        """Whether a tick has anything to do."""
        return bool(self._inside)

    def submit(self, sequences: Iterable[Sequence]) -> None:
        """Lets sequences wait for rows."""
        for sequence in sequences:
            self._inside[sequence.id] = sequence
            self.waiting.push(sequence)
            heapq.heappush(self._deadlines, (sequence.deadline, sequence.id))

    def cancel(self, ids: Iterable[int]) -> None:
        """Ends sequences whose callers left; their rows are free at once. The ended stay as they are."""
        for id_ in ids:
            if sequence := self._inside.get(id_):
                self._end(sequence, Outcome.CANCELLED)

    def abort(self) -> None:
        """Ends every sequence inside, as drained."""
        for sequence in list(self._inside.values()):
            self._end(sequence, Outcome.DRAINED)

    def lose(self) -> list[Sequence]:
        """Ends every sequence that runs, as lost with its device. Returns those who wait."""
        for sequence in list(self._inside.values()):
            if sequence.started or sequence.rows:
                self._end(sequence, Outcome.LOST)
        return list(self._inside.values())

    def tick(self) -> None:
        """Admits newcomers, runs one step for everybody, retires those who are done."""
        began, ran = self._clock(), 0.0
        self._expire(began)
        if self.waiting:
            ran += self._admit(began)
        rows, sources = self._rows.close_holes()
        if rows:
            self._engine.move(rows, sources)
        if self.running:
            ran += self._step()
            self.news.overhead_seconds.append(self._clock() - began - ran)

    def _expire(self, now: float) -> None:
        """Ends those whose time is over, in the queue and in the rows."""
        while self._deadlines and self._deadlines[0][0] <= now:
            sequence = self._inside.get(heapq.heappop(self._deadlines)[1])
            if sequence is not None:
                self._end(sequence, Outcome.DEADLINE)

    # Admission

    def _admit(self, now: float) -> float:
        """Gives rows to those next in the queue, as far as rows and the encoder's budget go.

        A few newcomers wait a step or two for company while others decode: one source alone costs the encoder
        twice what it costs among eight.
        """
        if self.running and len(self.waiting) < min(COMPANY, self._rows.free) and self._held < HOLD_STEPS:
            self._held += 1
            return 0.0
        self._held = 0
        newcomers: list[Sequence] = []
        budget = self._encode_tokens
        while self.waiting:
            sequence = self.waiting.peek()
            budget -= len(sequence.source_ids)
            if sequence.width > self._rows.free or (newcomers and budget < 0):
                break
            self.waiting.pop()
            self._rows.take(sequence)
            newcomers.append(sequence)
        return self._encode(newcomers, now) if newcomers else 0.0

    def _encode(self, newcomers: list[Sequence], now: float) -> float:
        sources = [sequence.source_ids for sequence in newcomers]
        try:
            self._engine.encode(sources, [sequence.rows[0] for sequence in newcomers])
        except DeviceLost:
            raise
        except Exception:
            log.error("the encoder failed", exc_info=True)
            return self._encode_singly(newcomers, now)
        for sequence in newcomers:
            self._start(sequence, now)
        self.news.encode_rows.append(len(newcomers))
        self.news.encode_seconds.append(self._engine.run_seconds)
        return self._engine.run_seconds

    def _encode_singly(self, newcomers: list[Sequence], now: float) -> float:
        """One of them is the culprit: alone, each gets what is his."""
        ran = 0.0
        for sequence in newcomers:
            try:
                self._engine.encode([sequence.source_ids], sequence.rows)
            except DeviceLost:
                raise
            except Exception:
                self._end(sequence, Outcome.FAILED)
            else:
                ran += self._engine.run_seconds
                self._start(sequence, now)
        return ran

    def _start(self, sequence: Sequence, now: float) -> None:
        if not sequence.started:
            sequence.started = now
            self._fresh.append(sequence)
        if sequence.search is not None:
            self._searching[sequence.id] = sequence
        else:
            self._lengths.add(sequence, self._rows.steps)
        if sequence.streams:
            self._streaming[sequence.id] = sequence

    # The step

    def _step(self) -> float:
        """One decoder run for everybody; whoever ends leaves his row before the next."""
        count = len(self.running)
        broken: list[int] = []
        quiet: list[tuple[list[int], list[float]]] = []  # steps before the last, in which nothing happened
        short = self._lengths.short_rows(self._rows.steps)
        try:
            *quiet, (tokens, scores) = self._engine.steps(count, self._most_steps(count), short)
        except DeviceLost:
            raise
        except Exception:
            log.error("a decoder step failed", exc_info=True, extra={"rows": count})
            tokens, scores, broken = self._engine.step_singly(count)
            put_off_ends(self._engine, short, tokens, scores)
        ran, now = self._engine.run_seconds, self._clock()
        for step in quiet:
            self._rows.record(*step)
        self._rows.record(tokens, scores)
        steps = len(quiet) + 1
        self.news.step_rows += [count] * steps
        self.news.step_seconds += [ran / steps] * steps
        self.news.replays += self._engine.replayed
        first = now - ran * len(quiet) / steps
        for sequence in self._fresh:
            sequence.first_token = sequence.first_token or first
        self._fresh.clear()
        for row in (*broken, *_not_numbers(scores)):  # such a row is poisoned, its neighbours are not
            if (owner := self.running[row]) is not None:
                self._end(owner, Outcome.FAILED)
        if self._searching:
            self._advance_searches()
        self._retire_plain(tokens)
        for sequence in self._streaming.values():
            self._tell(sequence, tokens, scores)
        return ran

    def _most_steps(self, count: int) -> int:
        """How many steps there are before anybody but the engine has to look.

        More than one where few decode, and greedily: there a look costs as much as a step.
        """
        if count > FEW_ROWS or self.waiting or self._searching or self._streaming:
            return 1
        return self._lengths.quiet_steps(self._rows.steps, MOST_STEPS)

    def _retire_plain(self, tokens: list[int]) -> None:
        """Ends the greedy ones that emitted <E>, or as many tokens as they may."""
        row = -1
        for _ in range(tokens.count(self._engine.end_id)):
            row = tokens.index(self._engine.end_id, row + 1)
            owner = self.running[row]
            if owner is not None and owner.search is None:
                self._end(owner, Outcome.EOS)
        for sequence in self._lengths.ending(self._rows.steps):
            self._end(sequence, Outcome.LENGTH)

    def _advance_searches(self) -> None:
        """Lets every search decide what its rows read next; all states move in one go."""
        searching = list(self._searching.values())
        held = [row for sequence in searching for row in sequence.rows]
        said = self._engine.distributions(held)
        looks = [sequence.looks for sequence in searching for _ in sequence.rows]
        if any(looks):
            said.alignments, said.lengths = self._engine.alignments(held), looks
        searches = [sequence.search for sequence in searching if sequence.search]
        decided = advance(searches, [len(sequence.rows) for sequence in searching], said)
        rows: list[int] = []
        sources: list[int] = []
        read: list[int] = []
        for sequence, search, step in zip(searching, searches, decided, strict=True):
            if step is None:
                self._end(sequence, Outcome.FAILED)
                continue
            own, (parents, tokens) = sequence.rows, step
            if not parents:
                self._end_search(sequence, search)
                continue
            self._rows.resize(sequence, len(parents))
            rows += sequence.rows
            sources += [own[parent] for parent in parents]
            read += tokens
        if rows:
            self._engine.place(rows, sources, read)

    def _end_search(self, sequence: Sequence, search: Search) -> None:
        """A search has ended: with its hypotheses, or to start again as another kind."""
        if search.again is None:
            self._end(sequence, Outcome(search.hypotheses[0].reason))
            return
        self._release(sequence)
        sequence.search = search.again
        self.waiting.push(sequence)

    def _tell(self, sequence: Sequence, tokens: list[int], scores: list[float]) -> None:
        """Tells a stream what is new and final."""
        if sequence.search is None:
            row = sequence.rows[0]
            self.news.progress.append(Progress(sequence.id, [tokens[row]], [scores[row]]))
        elif len(sequence.search.final) > sequence.sent:
            new = slice(sequence.sent, len(sequence.search.final))
            sequence.sent = new.stop
            search = sequence.search
            self.news.progress.append(Progress(sequence.id, search.final[new], search.final_scores[new]))

    # The end

    def _end(self, sequence: Sequence, outcome: Outcome) -> None:
        """The one way out: rows, queue and bookkeeping are free of the sequence, and the news has it."""
        if sequence.rows:
            self._release(sequence)
        else:
            self.waiting.discard(sequence)
        del self._inside[sequence.id]
        forget_dead(self._deadlines, self._inside)
        self.news.ended.append(sequence.finish(outcome, self._clock()))

    def _release(self, sequence: Sequence) -> None:
        self._rows.leave(sequence)
        self._searching.pop(sequence.id, None)
        self._lengths.discard(sequence)
        self._streaming.pop(sequence.id, None)


def _not_numbers(scores: list[float]) -> list[int]:
    total = sum(scores)
    return [] if total == total else [row for row, score in enumerate(scores) if score != score]
