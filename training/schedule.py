"""The learning rate of each step. Knows nothing of models or data."""

import math

from training.recipe import Training


def learning_rate(options: Training, step: int, total_steps: int) -> float:
    """Rate of a step counted from 0: linear warm-up, then constant or half a cosine down to 0."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    if options.schedule == "constant":
        return options.learning_rate
    share = (step - options.warmup_steps) / max(1, total_steps - options.warmup_steps)
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
