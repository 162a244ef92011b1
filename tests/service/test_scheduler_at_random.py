"""Whoever comes, goes and is cut off around it, a sequence gets what it gets alone: at random, many times."""

import random

import pytest
from msgspec.structs import replace

from service import scheduler as module
from service.hypothesis import Hypothesis, Outcome
from service.options import Options, Sampling, pack
from service.rows import Rows
from service.scheduler import Scheduler
from service.sequence import Sequence
from tests.service.decoding_cases import decode
from tests.service.lift import FAR, Lift, TableEngine

WHOLE = {Outcome.EOS, Outcome.LENGTH, Outcome.LOOP, Outcome.CONSTRAINT}
SEEDS = range(40)
TOKENS = 12


def some_options(chance: random.Random) -> Options:
    """One way of decoding: half of them plain."""
    longest = chance.randint(1, 15)
    kind = chance.choice(
        [
            *[Options(longest)] * 6,
            Options(longest, beam_size=chance.randint(2, 4), n_best=2),
            Options(longest, beam_size=4, length_penalty=1.0, alternatives=2),
            Options(longest, beam_size=3, cascade_margin=0.3),
            Options(longest, sampling=Sampling(chance.randrange(9), 1.5), biases=((2, 1.0),), alternatives=2),
            Options(longest, no_repeat_ngram=2, loop_repeats=2),
            Options(max(3, longest), beam_size=2, lexicon=pack([(2, 3), (4, 5, 6), (7,)])),
        ]
    )
    return replace(kind, alignments=chance.random() < 0.3)


class Riders:
    """A crowd at a lift: each tick some come, some leave, some run out of time.

    A plain crowd is thin, decodes greedily and does not stream: its rows may take several steps in one go.
    """

    def __init__(self, lift: Lift, chance: random.Random, total: int = 60, plain: bool = False) -> None:
        self.lift = lift
        self.chance = chance
        self.plain = plain
        self.all: list[Sequence] = []
        self.left: set[int] = set()
        while len(self.all) < total or lift.scheduler.busy:
            come = chance.choice([0, 0, 0, 0, 0, 2] if plain else [0, 0, 1, 2, 9])
            self._come(min(come, total - len(self.all)))
            if self.all and chance.random() < 0.2:
                leavers = chance.choices(self.all, k=2)
                self.left |= {leaver.id for leaver in leavers}
                lift.cancel(*leavers)
            lift.tick()
            assert lift.now < 20_000, "somebody never ended"

    def _come(self, count: int) -> None:
        for _ in range(count):
            chance = self.chance
            source = [chance.randrange(2, 30) for _ in range(chance.randint(1, 8))]
            deadline = self.lift.now + chance.choice([FAR, FAR, FAR, chance.randint(1, 30)])
            self.all += self.lift.ride(
                source,
                options=Options(chance.randint(1, 15)) if self.plain else some_options(chance),
                deadline=deadline,
                priority=chance.randint(-1, 1),
                streams=not self.plain and chance.random() < 0.3,
            )

    def wrong(self) -> int:
        """How many answers, outcomes or streams are not what they must be."""
        return sum(not self._is_right(sequence) for sequence in self.all)

    def _is_right(self, sequence: Sequence) -> bool:
        end, said = self.lift.ended[sequence.id], self.lift.progress.get(sequence.id, [])
        if end.outcome is Outcome.CANCELLED:
            return sequence.id in self.left and not end.hypotheses
        if end.outcome is Outcome.DEADLINE:
            return sequence.deadline <= end.finished and not end.hypotheses
        if end.outcome not in WHOLE:
            return False
        true = decode(sequence.options, TOKENS, self.lift.engine.alone(sequence.source_ids))
        found = [(h.tokens, h.scores, h.reason, h.alternatives) for h in end.hypotheses]
        return (
            found == [(h.tokens, h.scores, h.reason, h.alternatives) for h in true]
            and said == end.hypotheses[0].tokens[: len(said)]
            and (sequence.streams or not said)
            and end.started < sequence.deadline
            and all(self._is_aligned(sequence, hypothesis) for hypothesis in end.hypotheses)
        )

    def _is_aligned(self, sequence: Sequence, hypothesis: Hypothesis) -> bool:
        wanted = sequence.options.alignments
        true = self.lift.engine.aligned(sequence.source_ids, hypothesis) if wanted else []
        return hypothesis.alignments == true


def crowd(seed: int, monkeypatch, engine=TableEngine, kind=Scheduler, rows=Rows) -> Riders:
    chance = random.Random(seed)
    monkeypatch.setattr("service.rows.TRIM_STEPS", chance.choice([1, 3, 1024]))
    monkeypatch.setattr(module, "HOLD_STEPS", chance.choice([0, 2]))
    monkeypatch.setattr("service.decoding.together.FEW", 1 + seed % 4)
    monkeypatch.setattr(module, "Rows", rows)
    lift = Lift(engine(rows=chance.randint(4, 12), seed=seed), chance.choice([5, 100]), kind)
    monkeypatch.setattr(module, "MOST_STEPS", chance.choice([1, 8]))
    return Riders(lift, chance, plain=chance.random() < 0.3)


@pytest.mark.parametrize("seed", SEEDS)
def test_everybody_gets_what_he_gets_alone(seed, monkeypatch):
    riders = crowd(seed, monkeypatch)
    assert riders.wrong() == 0
    assert len(riders.lift.ended) == len(riders.all) == 60


def test_the_crowd_is_a_crowd(monkeypatch):
    """What the tests here lean on happens often enough."""
    riders = [crowd(seed, monkeypatch) for seed in range(10)]
    outcomes = [end.outcome for crowd_ in riders for end in crowd_.lift.ended.values()]
    for outcome in (Outcome.EOS, Outcome.LENGTH, Outcome.CANCELLED, Outcome.DEADLINE):
        assert outcomes.count(outcome) > 10
    steps = [owners for crowd_ in riders for owners in crowd_.lift.step_owners]
    assert sum(len(set(owners)) > 1 for owners in steps) > len(steps) / 2
    assert sum(len(set(owners)) < len(owners) for owners in steps) > len(steps) / 4


class StaysPut(TableEngine):
    """Broken on purpose: a moved row leaves its state behind."""

    def move(self, rows, sources):
        pass


class OneByOne(TableEngine):
    """Broken on purpose: rows are copied one after the other, over states that are needed yet."""

    def place(self, rows, sources, tokens):
        for row, source, token in zip(rows, sources, tokens, strict=True):
            self.state[row], self.token[row] = self.state[source], token


class LooksElsewhere(TableEngine):
    """Broken on purpose: what the first row looked at is told of every row."""

    def alignments(self, rows):
        return super().alignments([0] * len(rows))


class GoesPastTheEnd(TableEngine):
    """Broken on purpose: several steps in one go do not stop where somebody ends."""

    def steps(self, count, most, short):
        return [TableEngine.steps(self, count, 1, short)[0] for _ in range(most)]


class ForgetsTheLog(Rows):
    """Broken on purpose: what was not read yet is thrown away."""

    def _trim(self):
        self._tokens.clear()
        self._scores.clear()
        self._logged_from = self.steps


class ReadsTooLate(Rows):
    """Broken on purpose: a row's log is read after another sequence has moved in."""

    def close_holes(self):
        read, self.read = self.read, lambda _: None
        moved = super().close_holes()
        self.read = read
        return moved


class TellsAll(Scheduler):
    """Broken on purpose: a beam's stream is sent the best so far, final or not."""

    def _tell(self, sequence, tokens, scores):
        if sequence.search is None or not getattr(sequence.search, "_live", None):
            super()._tell(sequence, tokens, scores)
            return
        best = sequence.search._live[0]
        new = slice(sequence.sent, len(best.tokens))
        sequence.sent = new.stop
        if best.tokens[new]:
            self.news.progress.append(module.Progress(sequence.id, best.tokens[new], best.scores[new]))


@pytest.mark.parametrize("engine", [StaysPut, OneByOne, LooksElsewhere, GoesPastTheEnd])
def test_an_engine_that_mixes_rows_up_is_seen(engine, monkeypatch):
    """Negative controls."""
    assert sum(crowd(seed, monkeypatch, engine=engine).wrong() for seed in range(5)) > 0


@pytest.mark.parametrize("rows", [ForgetsTheLog, ReadsTooLate])
def test_rows_that_mix_tokens_up_are_seen(rows, monkeypatch):
    """Negative controls."""
    assert sum(crowd(seed, monkeypatch, rows=rows).wrong() for seed in range(5)) > 0


def test_a_scheduler_that_tells_too_much_is_seen(monkeypatch):
    """Negative control."""
    assert sum(crowd(seed, monkeypatch, kind=TellsAll).wrong() for seed in range(5)) > 0


class LeavesHoles(Rows):
    """Broken on purpose: the last rows stay where they are."""

    def close_holes(self):
        return [], []


class PromisesTooMuch(Scheduler):
    """Broken on purpose: a beam counts as one row."""

    def _admit(self, now):
        self._rows.reserved = len({id(sequence) for sequence in self.running if sequence})
        return super()._admit(now)


@pytest.mark.parametrize("broken", [{"rows": LeavesHoles}, {"kind": PromisesTooMuch}], ids=str)
def test_the_watch_sees_what_may_not_be(broken, monkeypatch):
    """Negative controls."""
    with pytest.raises((AssertionError, IndexError)):
        for seed in range(5):
            crowd(seed, monkeypatch, **broken)
