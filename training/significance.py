"""How sure an error rate is, and whether two models really differ.

Knows nothing of models. Bootstrap: Efron (1979), sources drawn with replacement; paired: Koehn (2004). Sign
test: McNemar (1947), its exact form.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluate import Verdict

RESAMPLES = 1000
Interval = tuple[float, float]  # that 95 percent of the resamples lie in


@dataclass(frozen=True)
class Comparison:
    """Error rates of a first model minus those of a second, in percent, on the same sources."""

    wer: float
    per: float
    wer_interval: Interval
    per_interval: Interval
    only_first_wrong: int
    only_second_wrong: int

    @property
    def chance(self) -> float:
        """How likely chance alone splits the sources that only one gets wrong as unevenly, to either side."""
        count = self.only_first_wrong + self.only_second_wrong
        fewer = min(self.only_first_wrong, self.only_second_wrong)
        tail: int = sum(math.comb(count, number) for number in range(fewer + 1))
        return min(1.0, float(2 * tail / 2**count))


def intervals(verdicts: Sequence[Verdict], seed: int = 1) -> tuple[Interval, Interval]:
    """Of WER and of PER, by the bootstrap."""
    rates = _resampled(_counts(verdicts), seed)  # [resamples, 2]
    return _interval(rates[:, 0]), _interval(rates[:, 1])


def compare(first: Sequence[Verdict], second: Sequence[Verdict], seed: int = 1) -> Comparison:
    """Paired: both are drawn together. Raises ValueError when they are not of the same sources."""
    if [verdict.source for verdict in first] != [verdict.source for verdict in second]:
        raise ValueError("only answers to the same sources can be compared")
    one, other = _counts(first), _counts(second)
    difference = _resampled(one, seed) - _resampled(other, seed)
    wrong = one[:, 0] - other[:, 0]
    wer, per = _rates(one) - _rates(other)
    return Comparison(
        wer=float(wer),
        per=float(per),
        wer_interval=_interval(difference[:, 0]),
        per_interval=_interval(difference[:, 1]),
        only_first_wrong=int((wrong > 0).sum()),
        only_second_wrong=int((wrong < 0).sum()),
    )


def _counts(verdicts: Sequence[Verdict]) -> np.ndarray:
    """[N, 3]: wrong, distance, length."""
    return np.array([(verdict.distance > 0, verdict.distance, verdict.length) for verdict in verdicts], float)


def _rates(counts: np.ndarray) -> np.ndarray:
    """[..., N, 3] -> [..., 2]: WER and PER in percent."""
    wrong, distance, length = np.moveaxis(counts.sum(axis=-2), -1, 0)
    return 100 * np.stack((wrong / counts.shape[-2], distance / np.maximum(length, 1)), axis=-1)


def _resampled(counts: np.ndarray, seed: int) -> np.ndarray:
    """[resamples, 2]; one seed draws the same sources."""
    chance = np.random.default_rng(seed)
    return np.stack(
        [_rates(counts[chance.integers(len(counts), size=len(counts))]) for _ in range(RESAMPLES)]
    )


def _interval(values: np.ndarray) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
