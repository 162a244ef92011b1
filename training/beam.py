"""Beam search, exact and plain: what the served one is checked against.

Knows nothing of text. Letters: B sources, R rows (live hypotheses of all sources), L layers, V tokens that
can be emitted.

A beam of width K holds K hypotheses, live or finished. In each step all tokens after all live ones are
ranked by what has added up, as float64 sums of float32 natural-log probabilities; ties go to the lower
parent, then to the lower token. The best K - finished stay, in that order; those that emit <E> are
finished. It ends when K are finished; when the live ones are `max_length` long, which finishes them; or
when n_best are finished and no live one can get among them: what has added up only falls, so its value now
over max_length^length_penalty is a bound. Finished ones rank by score / length^length_penalty, <E> counted;
ties go to the one that finished first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.attention import Memory
from training.model import Seq2Seq

END = 0


@dataclass(frozen=True)
class BeamOptions:
    """How wide, how many answers a source, and how length counts: 0 not at all, 1 as a mean a token."""

    width: int = 1
    n_best: int = 1
    length_penalty: float = 0.0
    max_length: int = 64


@dataclass(frozen=True)
class Hypothesis:
    """Emitted ids, <E> too where it came, with their log-probabilities; `score` is their sum in float64."""

    ids: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    score: float = 0.0

    def normalised(self, length_penalty: float) -> float:
        """What finished hypotheses are ranked by."""
        return float(self.score / len(self.ids) ** length_penalty)


class Beam:
    """The hypotheses of one source. Knows nothing of models."""

    def __init__(self, options: BeamOptions) -> None:
        self.options = options
        self.live = [Hypothesis()]  # best first, all of one length
        self.finished: list[Hypothesis] = []  # in the order in which they finished

    def advance(self, log_probs: np.ndarray) -> list[tuple[int, int]]:
        """log_probs [live, V], float32 -> parent and token of each new live hypothesis; none at the end."""
        so_far = np.array([hypothesis.score for hypothesis in self.live])
        totals = so_far[:, None] + log_probs.astype(np.float64)  # [live, V]
        room = self.options.width - len(self.finished)
        kept, live = [], []
        for place in np.argsort(-totals, axis=None, kind="stable")[:room]:
            parent, token = divmod(int(place), log_probs.shape[1])
            old = self.live[parent]
            scores = (*old.scores, float(log_probs[parent, token]))
            grown = Hypothesis((*old.ids, token), scores, float(totals[parent, token]))
            if token == END:
                self.finished.append(grown)
            else:
                kept.append((parent, token))
                live.append(grown)
        self.live = live
        if live and len(live[0].ids) == self.options.max_length:
            self.finished += live
            self.live = []
        elif live and self._is_decided():
            self.live = []
        return kept if self.live else []

    def ranking(self) -> list[Hypothesis]:
        """The n_best finished hypotheses, best first."""
        penalty = self.options.length_penalty
        ranked = sorted(self.finished, key=lambda hypothesis: -hypothesis.normalised(penalty))
        return ranked[: self.options.n_best]

    def _is_decided(self) -> bool:
        """Whether no live hypothesis can still beat the worst of the n_best."""
        best = self.ranking()
        if len(best) < self.options.n_best:
            return False
        bound = self.live[0].score / self.options.max_length**self.options.length_penalty
        return bool(bound <= best[-1].normalised(self.options.length_penalty))


class _Stepper:
    """One model and its rows."""

    def __init__(self, model: Seq2Seq, source: Tensor, lengths: Tensor) -> None:
        self.model = model.eval()
        self.state, self.memory = model.begin(source, lengths)

    def step(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Rows that follow `parents` [R] read `tokens` [R] -> log-probabilities [R, V] of what comes next."""
        state = tuple(part.index_select(1, parents) for part in self.state)  # [L, R, H]
        if self.memory is not None:
            self.memory = Memory(*(part.index_select(0, parents) for part in self.memory))
        logits, self.state, _ = self.model.decoder(tokens.unsqueeze(1), state, self.memory)
        log_probs: Tensor = logits[:, 0].float().log_softmax(dim=1)
        return log_probs


@torch.inference_mode()
def beam_search(
    models: Sequence[Seq2Seq], source: Tensor, lengths: Tensor, options: BeamOptions
) -> list[list[Hypothesis]]:
    """source [B, S], lengths [B] -> the n_best hypotheses of each source, best first.

    Of several models with one vocabulary, the mean of their probabilities decides.
    """
    steppers = [_Stepper(model, source, lengths) for model in models]
    beams = [Beam(options) for _ in range(len(source))]
    parents, tokens = list(range(len(source))), [models[0].start_id] * len(source)
    while parents:
        rows = torch.tensor(parents, device=source.device), torch.tensor(tokens, device=source.device)
        log_probs = _mean([stepper.step(*rows) for stepper in steppers]).cpu().numpy()  # [R, V]
        parents, tokens, first = [], [], 0
        for beam in beams:
            count = len(beam.live)
            if not count:
                continue
            for parent, token in beam.advance(log_probs[first : first + count]):
                parents.append(first + parent)
                tokens.append(token)
            first += count
    return [beam.ranking() for beam in beams]


def _mean(log_probs: list[Tensor]) -> Tensor:
    """Logarithm of the mean probability."""
    if len(log_probs) == 1:
        return log_probs[0]
    return torch.stack(log_probs).logsumexp(dim=0) - float(np.log(len(log_probs)))
