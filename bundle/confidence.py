"""How probable it is that an answer is exactly right, from what a model says of its tokens.

Knows nothing of text, or of how the constants were fitted. The service does this for each answer.

A model that learnt from smoothed labels gives no token much more than 1 - smoothing, however sure it is, so
that long answers look unlikely: what smoothing took is given back, token by token. Temperature and bias put
the odds of the whole answer right. The ceiling is how often an answer beyond doubt is right: references have
faults too.
"""

from collections.abc import Iterable
from math import exp, log, tanh

from bundle.card import Calibration

LEAST = 0.001  # of one token: below what smoothing alone gives it, a model says nothing
MOST = 1 - 1e-9  # of all tokens
SMALLEST = 1e-300  # of all tokens: a float that has a logarithm


def confidence(fitted: Calibration, scores: Iterable[float], emitted: int) -> float:
    """Probability that an answer is right. `scores` are its tokens' natural-log probabilities, `<E>`'s too.

    `emitted` is V, how many tokens may come.
    """
    odds = log_odds(scores, fitted.smoothing, emitted)
    return curve(odds, fitted.temperature, fitted.bias, fitted.ceiling)


def log_odds(scores: Iterable[float], smoothing: float, emitted: int) -> float:
    """Natural-log odds that all tokens are right, with what label smoothing took given back."""
    spread, scale = smoothing / emitted, 1 / (1 - smoothing)
    product = 1.0
    for probability in map(exp, scores):
        right = (probability - spread) * scale
        if right < 1:
            product *= right if right > LEAST else LEAST
    if product > MOST:
        product = MOST
    elif product < SMALLEST:
        product = SMALLEST
    return log(product / (1 - product))


def curve(odds: float, temperature: float, bias: float, ceiling: float) -> float:
    """`ceiling` times the logistic function of the odds over the temperature, plus the bias."""
    return ceiling * (1 + tanh((odds / temperature + bias) / 2)) / 2
