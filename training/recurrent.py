"""Recurrent layers of one kind of cell, one or two directions, for padded rows of any lengths.

Knows nothing of tokens. Letters: B batch, T time, H hidden size of one direction, L layers.
Weights have PyTorch's names, such as `weight_hh_l0_reverse`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from training.cells import CELLS, initialise, run_own

State = tuple[Tensor, ...]  # h and, in the cells that have one, c


class Dropout(nn.Dropout):
    """Dropout that draws four elements from each 64-bit random number; PyTorch draws a number an element.

    On a CPU that is four times as fast, and the share is a multiple of 1 / 65,536. Elsewhere it is PyTorch's.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape."""
        dropped = round(self.p * 65_536)
        if not (self.training and dropped) or x.device.type != "cpu":
            return super().forward(x)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 32_768
        return x * kept.to(x.dtype).mul_(65_536 / (65_536 - dropped))


class VariationalDropout(nn.Dropout):
    """Dropout with one mask for all steps of a sequence: Gal and Ghahramani (2016), between layers."""

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, any]."""
        return x * nn.functional.dropout(torch.ones_like(x[:, :1]), self.p, self.training)


def make_dropout(share: float, variational: bool) -> nn.Dropout:
    """Dropout of either kind."""
    return VariationalDropout(share) if variational else Dropout(share)


class Recurrent(nn.Module):
    """A stack of recurrent layers; `dropout` is applied between them."""

    def __init__(
        self,
        cell: str,
        inputs: int,
        hidden_size: int,
        layers: int,
        dropout: nn.Module,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.kind = cell
        self.cell = CELLS[cell]
        self.hidden_size = hidden_size
        self.num_layers = layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.ways = ("", "_reverse") if bidirectional else ("",)
        for layer in range(layers):
            size = inputs if layer == 0 else hidden_size * len(self.ways)
            for way in self.ways:
                for name, shape in self.cell.parameters(size, hidden_size).items():
                    weight = nn.Parameter(torch.empty(shape))
                    initialise(self.cell, name, weight)
                    self.register_parameter(f"{name}_l{layer}{way}", weight)

    def forward(
        self, x: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """x [B, T, in], state [L * directions, B, H] each -> outputs [B, T, directions * H], last state.

        No state is zeros. With lengths [B] (on the CPU) the last state is that after each row's own length,
        and outputs beyond are 0; only for rows that start from zeros.
        """
        assert state is None or lengths is None
        rows = len(self.ways)
        if state is None:
            zeros = x.new_zeros(self.num_layers * rows, len(x), self.hidden_size)
            state = (zeros,) * self.cell.states
        run = self._own_layer if self.cell.own else self._torch_layer
        last = []
        for layer in range(self.num_layers):
            first = tuple(part[layer * rows : (layer + 1) * rows] for part in state)
            x, after = run(layer, x if layer == 0 else self.dropout(x), first, lengths)
            last.append(after)
        return x, tuple(torch.cat(parts) for parts in zip(*last, strict=True))

    def weights(self, layer: int, way: str) -> dict[str, Tensor]:
        """The weights of one layer and direction ("" or "_reverse"), by their names in `Cell.parameters`."""
        names = self.cell.parameters(1, 1)
        return {name: self.get_parameter(f"{name}_l{layer}{way}") for name in names}

    def _torch_layer(
        self, layer: int, x: Tensor, state: State, lengths: Tensor | None
    ) -> tuple[Tensor, State]:
        """One layer of PyTorch's own; padded rows are packed, so that their padding is never read."""
        runs: dict[str, Any] = {"rnn": torch.rnn_tanh, "gru": torch.gru, "lstm": torch.lstm}
        run = runs[self.kind]
        weights = [weight for way in self.ways for weight in self.weights(layer, way).values()]
        first = state if self.cell.states == 2 else state[0]
        options = (weights, True, 1, 0.0, self.training, self.bidirectional)
        if lengths is None:
            outputs, *after = run(x, first, *options, True)
            return outputs, tuple(after)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        data, *after = run(packed.data, packed.batch_sizes, first, *options)
        packed = PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
        return outputs, tuple(part[:, packed.unsorted_indices] for part in after)

    def _own_layer(self, layer: int, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """One layer of ours: a row is read up to its end or from there on, and what follows it is dropped."""
        outputs, last = [], []
        for number, way in enumerate(self.ways):
            read = _turned(x, lengths) if way else x
            hidden, memory = run_own(
                self.cell, read.transpose(0, 1), state[0][number], state[1][number], self.weights(layer, way)
            )  # [T, B, H] twice
            last.append(tuple(_at_end(part, lengths) for part in (hidden, memory)))
            outputs.append(_turned(hidden.transpose(0, 1), lengths) if way else hidden.transpose(0, 1))
        joined = torch.cat(outputs, dim=2)  # [B, T, directions * H]
        if lengths is not None:
            joined = joined.masked_fill(_beyond(x, lengths).unsqueeze(2), 0.0)
        return joined, tuple(torch.stack(parts) for parts in zip(*last, strict=True))


def _beyond(x: Tensor, lengths: Tensor) -> Tensor:
    """[B, T], True where a row has ended."""
    return torch.arange(x.shape[1], device=x.device) >= lengths.to(x.device).unsqueeze(1)


def _turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each row [T, in] backwards, its padding left where it is."""
    if lengths is None:
        return x.flip(1)
    places = torch.arange(x.shape[1], device=x.device)
    turned = lengths.to(x.device).unsqueeze(1) - 1 - places  # [B, T]
    index = torch.where(turned >= 0, turned, places)
    return x.gather(1, index.unsqueeze(2).expand_as(x))


def _at_end(states: Tensor, lengths: Tensor | None) -> Tensor:
    """[T, B, H] -> [B, H], after each row's last step."""
    if lengths is None:
        return states[-1]
    rows = torch.arange(states.shape[1], device=states.device)
    return states[lengths.to(states.device) - 1, rows]
