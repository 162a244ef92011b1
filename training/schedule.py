"""The optimiser, and the learning rate of each step. Knows nothing of data or of what the model does."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from training.recipe import Training


def make_optimizer(network: nn.Module, options: Training) -> Optimizer:
    """Adam, or AdamW, which pulls matrices (biases stay) towards 0 by rate * weight_decay.

    Kingma and Ba (2015); Loshchilov and Hutter (2019).
    """
    if options.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), options.learning_rate, fused=True)
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, options.learning_rate, weight_decay=options.weight_decay, fused=True)


def learning_rate(options: Training, step: int, total_steps: int, dev_errors: Sequence[float] = ()) -> float:
    """Rate of a step counted from 0, after the epochs with these dev errors.

    Linear warm-up; then constant; half a cosine down to 0; falling with the square root of the step (Vaswani
    et al., 2017); or times `plateau_factor` whenever `plateau_epochs` epochs brought no new lowest error.
    """
    warmup, peak = options.warmup_steps, options.learning_rate
    if step < warmup:
        return peak * (step + 1) / warmup
    match options.schedule:
        case "cosine":
            share = (step - warmup) / max(1, total_steps - warmup)
            return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        case "inverse-sqrt":
            return peak * math.sqrt(max(1, warmup) / max(1, warmup, step))
        case "plateau":
            return float(peak * options.plateau_factor ** _plateaus(dev_errors, options.plateau_epochs))
        case _:
            return peak


def _plateaus(errors: Sequence[float], patience: int) -> int:
    """How often `patience` epochs in a row brought no new lowest error."""
    lowest, stale, found = math.inf, 0, 0
    for error in errors:
        stale = 0 if error < lowest else stale + 1
        lowest = min(lowest, error)
        if stale == patience:
            found, stale = found + 1, 0
    return found
