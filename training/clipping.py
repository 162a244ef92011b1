"""Gradient clipping of both kinds, alone or together, and a tally of how often each bites.

By value: each component is capped to [-value, value]. By norm: the whole gradient g is scaled by norm / |g|_2
where |g|_2 is larger. Together, the components are capped first. Pascanu, Mikolov and Bengio (2013).
"""

import math
from dataclasses import dataclass

from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm


@dataclass(frozen=True)
class Clipped:
    """What one step's clipping did. `norm` is the L2 norm before any clip."""

    norm: float
    by_norm: bool
    components: int
    all_components: int


def clip_gradients(model: nn.Module, value: float, norm: float) -> Clipped:
    """Clips the gradients of a model in place; 0 leaves a clip out.

    Raises FloatingPointError when a gradient is not finite.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    before = get_total_norm(gradients).item()
    if not math.isfinite(before):
        raise FloatingPointError(f"the gradient's norm is {before}; lower the learning rate")
    components = 0
    if value:
        components = sum(int((gradient.abs() > value).sum()) for gradient in gradients)
        clip_grad_value_(parameters, value)
    by_norm = False
    if norm:
        by_norm = clip_grad_norm_(parameters, norm).item() > norm  # it returns the norm that it found
    return Clipped(before, by_norm, components, sum(gradient.numel() for gradient in gradients))


class ClipTally:
    """Sums over an epoch's steps, as plain numbers, so that a checkpoint can hold them."""

    @staticmethod
    def new() -> dict[str, float]:
        """Nothing counted yet."""
        names = ("steps", "norm_sum", "norm_max", "by_norm", "by_value", "components", "all_components")
        return dict.fromkeys(names, 0.0)

    @staticmethod
    def add(tally: dict[str, float], clipped: Clipped) -> None:
        """Counts one step."""
        tally["steps"] += 1
        tally["norm_sum"] += clipped.norm
        tally["norm_max"] = max(tally["norm_max"], clipped.norm)
        tally["by_norm"] += clipped.by_norm
        tally["by_value"] += clipped.components > 0
        tally["components"] += clipped.components
        tally["all_components"] += clipped.all_components

    @staticmethod
    def summary(tally: dict[str, float]) -> dict[str, float]:
        """Mean and largest norm before clipping; shares of clipped steps and of clipped components."""
        steps = max(tally["steps"], 1)
        return {
            "gradient_norm_mean": tally["norm_sum"] / steps,
            "gradient_norm_max": tally["norm_max"],
            "steps_clipped_by_norm": tally["by_norm"] / steps,
            "steps_clipped_by_value": tally["by_value"] / steps,
            "components_clipped_by_value": tally["components"] / max(tally["all_components"], 1),
        }
