"""Gradient clipping of both kinds, alone or together, and what it did to each layer.

By value: each component is capped to [-value, value]. By norm: the whole gradient g is scaled by norm / |g|_2
where |g|_2 is larger. Together, the components are capped first. Pascanu, Mikolov and Bengio (2013).
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

_RECURRENT = re.compile(r"(?P<module>.+)\.(?:weight|bias|peephole)(?:_ih|_hh)?_l(?P<layer>\d+)(?:_reverse)?")


@dataclass
class LayerClipped:
    """What one step's clipping did to one layer. `before` and `after` are L2 norms."""

    before: float
    after: float
    components: int
    all_components: int


@dataclass(frozen=True)
class Clipped:
    """What one step's clipping did. `norm` is the L2 norm before any clip."""

    norm: float
    by_norm: bool
    layers: dict[str, LayerClipped]

    @property
    def components(self) -> int:
        """How many components were capped."""
        return sum(layer.components for layer in self.layers.values())

    @property
    def all_components(self) -> int:
        """How many there are."""
        return sum(layer.all_components for layer in self.layers.values())


def layer_of(parameter: str) -> str:
    """The layer that a parameter belongs to, such as `encoder.recurrent.0` (both directions)."""
    if found := _RECURRENT.fullmatch(parameter):
        return f"{found['module']}.{found['layer']}"
    return parameter.rpartition(".")[0] or parameter


def clip_gradients(model: nn.Module, value: float, norm: float) -> Clipped:
    """Clips the gradients of a model in place; 0 leaves a clip out.

    Raises FloatingPointError when a gradient is not finite.
    """
    parameters = {
        name: parameter for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    gradients = {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
    before = _norms(gradients.values())
    whole = math.hypot(*before)
    if not math.isfinite(whole):
        raise FloatingPointError(f"the gradient's norm is {whole}; lower the learning rate")
    capped, after = [0] * len(before), before
    if value:
        capped = torch.stack([(gradient.abs() > value).sum() for gradient in gradients.values()]).tolist()
        clip_grad_value_(parameters.values(), value)
        after = _norms(gradients.values())
    scale = 1.0
    if norm:
        found = clip_grad_norm_(parameters.values(), norm).item()  # the norm before this clip
        scale = min(1.0, norm / found) if found else 1.0
    layers: dict[str, LayerClipped] = {}
    for name, old, new, components in zip(gradients, before, after, capped, strict=True):
        layer = layers.setdefault(layer_of(name), LayerClipped(0.0, 0.0, 0, 0))
        layer.before = math.hypot(layer.before, old)
        layer.after = math.hypot(layer.after, new * scale)
        layer.components += components
        layer.all_components += gradients[name].numel()
    return Clipped(whole, scale < 1, layers)


def _norms(gradients: Iterable[Tensor]) -> list[float]:
    norms: list[float] = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]).tolist()
    return norms
