"""Attention: what a decoder sees of a whole source at one step.

Knows nothing of tokens or of the cells on either side. Letters: B batch, S source length, T target length,
H hidden size of the decoder, D size of an encoder output (all directions).
Dot and general: Luong, Pham and Manning (2015). Additive: Bahdanau, Cho and Bengio (2015).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.recipe import Model


class Memory(NamedTuple):
    """An encoded source, as every step of the decoder may look back on it."""

    values: Tensor  # [B, S, D], the encoder's outputs
    keys: Tensor  # [B, S, H], what queries are compared with; computed once a source
    mask: Tensor  # [B, S], True at the source's own tokens


class Attention(nn.Module):
    """Weighs the encoder's outputs m by how well their keys go with a query q, and adds them up.

    Score: `dot` q.m, `general` q.(W m), `additive` v.tanh(W q + U m). The weights are a softmax over a
    source's own tokens: padding has the weight 0 exactly.
    """

    def __init__(self, sizes: Model) -> None:
        super().__init__()
        hidden = sizes.hidden_size
        dot, additive = sizes.attention == "dot", sizes.attention == "additive"
        self.key = None if dot else nn.Linear(sizes.memory_size, hidden, bias=False)
        self.query = nn.Linear(hidden, hidden) if additive else None
        self.energy = nn.Linear(hidden, 1, bias=False) if additive else None

    def remember(self, values: Tensor, lengths: Tensor) -> Memory:
        """values [B, S, D], lengths [B] -> the memory of these sources."""
        keys = values if self.key is None else self.key(values)  # [B, S, H]
        places = torch.arange(values.shape[1], device=values.device)
        return Memory(values, keys, places < lengths.to(values.device).unsqueeze(1))

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """query [B, T, H] -> context [B, T, D], weights [B, T, S] that add up to 1 over S."""
        if self.query is None or self.energy is None:
            scores = query @ memory.keys.transpose(1, 2)  # [B, T, S]
        else:
            both = self.query(query).unsqueeze(2) + memory.keys.unsqueeze(1)  # [B, T, S, H]
            scores = self.energy(torch.tanh(both)).squeeze(3)  # [B, T, S]
        scores = scores.masked_fill(~memory.mask.unsqueeze(1), -torch.inf)
        weights = scores.softmax(dim=2)
        return weights.to(memory.values.dtype) @ memory.values, weights
