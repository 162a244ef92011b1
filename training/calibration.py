"""Fits the curve of bundle/confidence.py to answers that were right or wrong, and measures how true it is.

Knows nothing of models, files or decoding. Letters: B answers.

Temperature and bias: Platt (1999), Guo et al. (2017). Expected calibration error: Naeini et al. (2015), here
in groups of equal size, so that none is too small to be measured.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bundle.card import Precision
from bundle.confidence import curve, log_odds
from bundle.values import END_ID
from training.evaluate import Verdict
from training.recipe import Training

GROUPS = 10
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)  # over which precision is measured
DIGITS = 4  # that are kept
LEAST_ANSWERS = 50  # for a share of them to be worth a promise
SMOOTHINGS = tuple(step / 100 for step in range(16))  # of which a taught model has one
DRAWS = 500
DOUBT = 4.0  # log-odds of the ceiling where there is little to fit it on


@dataclass(frozen=True)
class Judged:
    """Whole answers: natural-log probabilities of each one's tokens [B], and whether it was right [B]."""

    scores: list[Sequence[float]]
    right: np.ndarray
    several: np.ndarray  # whether its source has several targets [B]: it was right if it was one of them
    emitted: int  # V, how many tokens may come

    @classmethod
    def of(
        cls,
        answers: Iterable[tuple[Sequence[int], Sequence[float]]],
        verdicts: Iterable[Verdict],
        emitted: int,
    ) -> "Judged":
        """Of ids and their natural-log probabilities, and what became of them.

        Answers without <E> are left out: they were cut off, and get no confidence.
        """
        whole = [
            (scores, verdict)
            for (ids, scores), verdict in zip(answers, verdicts, strict=True)
            if ids and ids[-1] == END_ID
        ]
        right = np.array([verdict.distance == 0 for _, verdict in whole])
        several = np.array([verdict.targets > 1 for _, verdict in whole])
        return cls([scores for scores, _ in whole], right, several, emitted)

    def odds(self, smoothing: float) -> list[float]:
        """The log-odds of each [B], as bundle/confidence.py has them."""
        return [log_odds(scores, smoothing, self.emitted) for scores in self.scores]

    @property
    def several_share(self) -> float:
        """Of the sources, those with several targets."""
        return float(self.several.mean())

    def can_stand_for(self, several_share: float) -> bool:
        """Whether weights can make that the share: sources of both kinds are there, or it is so."""
        return 0 < self.several_share < 1 or several_share == self.several_share

    def weights(self, several_share: float) -> np.ndarray:
        """What each answer counts [B], 1 in the mean, so that such a share has several targets."""
        own = self.several_share
        if own == several_share:
            return np.ones(len(self.several))
        return np.where(self.several, several_share / own, (1 - several_share) / (1 - own))


@dataclass(frozen=True)
class Curve:
    """What turns the scores of an answer's tokens into a confidence."""

    temperature: float
    bias: float
    ceiling: float
    smoothing: float = 0.0

    def confidences(self, judged: Judged) -> np.ndarray:
        """The probability that each answer is right [B]."""
        odds = judged.odds(self.smoothing)
        return np.array([curve(one, self.temperature, self.bias, self.ceiling) for one in odds])


@dataclass(frozen=True)
class Group:
    """Answers of like confidence: the mean of it, and the share of them that is right."""

    confidence: float
    accuracy: float
    answers: int


def smoothings_of(options: Training) -> tuple[float, ...]:
    """What label smoothing may have taken from a token: the recipe's, where a model had no teachers."""
    return SMOOTHINGS if options.taught_by else (options.label_smoothing,)


def fit(judged: Judged, smoothings: Sequence[float], several_share: float | None = None) -> Curve:
    """The likeliest curve for one answer or more, with one of these smoothings.

    It holds where `several_share` of the sources have several targets, any of which is right: a split may
    have another share than the data that it stands for. The answers must be ones that can stand for it.
    """
    if several_share is None:
        several_share = judged.several_share
    assert judged.can_stand_for(several_share), "ask first"
    weights = judged.weights(several_share)
    return min((_fit(judged, weights, smoothing) for smoothing in smoothings), key=lambda found: found[0])[1]


def _fit(judged: Judged, weights: np.ndarray, smoothing: float) -> tuple[float, Curve]:
    """The least loss, and its curve.

    Half a nat, in all, pulls each constant one unit towards an even curve, so that there is one also for few
    answers, or for answers that are all right.
    """
    given = torch.tensor(judged.odds(smoothing), dtype=torch.float64)
    wanted = torch.tensor(judged.right, dtype=torch.float64)
    weight = torch.tensor(weights, dtype=torch.float64)
    free = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [free], max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        confidences = torch.sigmoid(free[2] + DOUBT) * torch.sigmoid(given * torch.exp(-free[0]) + free[1])
        total = nn.functional.binary_cross_entropy(confidences, wanted, weight, reduction="sum")
        mean = (total + free.square().sum() / 2) / len(given)
        mean.backward()
        return mean

    search.step(loss)
    least = loss().item()
    temperature, bias, ceiling = free[0].exp().item(), free[1].item(), (free[2] + DOUBT).sigmoid().item()
    return least, Curve(round(temperature, DIGITS), round(bias, DIGITS), round(ceiling, DIGITS), smoothing)


def group_by_size(confidences: np.ndarray, right: np.ndarray) -> list[Group]:
    """confidences [B], right [B] -> ten groups of equal size, least confident first."""
    order = np.argsort(confidences, kind="stable")
    return _groups(confidences, right, np.array_split(order, GROUPS))


def group_by_width(confidences: np.ndarray, right: np.ndarray) -> list[Group]:
    """confidences [B], right [B] -> groups a tenth of confidence wide; those without answers are left out."""
    places = np.minimum((confidences * GROUPS).astype(int), GROUPS - 1)
    return _groups(confidences, right, [np.flatnonzero(places == place) for place in range(GROUPS)])


def _groups(confidences: np.ndarray, right: np.ndarray, members: Sequence[np.ndarray]) -> list[Group]:
    return [
        Group(float(confidences[one].mean()), float(right[one].mean()), len(one))
        for one in members
        if len(one)
    ]


def expected_error(groups: Sequence[Group]) -> float:
    """Mean distance of confidence from accuracy over all answers: 0 to 1."""
    distance = sum(group.answers * abs(group.confidence - group.accuracy) for group in groups)
    return float(round(distance / sum(group.answers for group in groups), DIGITS))


def error_by_chance(confidences: np.ndarray) -> tuple[float, float]:
    """`expected_error` in groups of equal size where every confidence [B] is true: few answers err too.

    The mean over draws of which answers are right, and what all but a twentieth of the draws stay below.
    """
    chance = np.random.default_rng(0)
    draws = [
        expected_error(group_by_size(confidences, chance.random(len(confidences)) < confidences))
        for _ in range(DRAWS)
    ]
    return round(float(np.mean(draws)), DIGITS), round(float(np.quantile(draws, 0.95)), DIGITS)


def precisions(confidences: np.ndarray, right: np.ndarray) -> tuple[Precision, ...]:
    """Share and accuracy of the answers over each of LEVELS; of a few answers nothing is promised."""
    return tuple(
        Precision(
            confidence=level,
            coverage=float(round(kept.mean(), DIGITS)),
            precision=float(round(right[kept].mean(), DIGITS)),
        )
        for level in LEVELS
        if (kept := confidences > level).sum() >= LEAST_ANSWERS
    )
