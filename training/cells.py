"""Recurrent cells: what their weights are, how they start, and one layer of one run over time.

Knows nothing of encoders, decoders or padding. Letters: T time, B batch, H hidden size, G gates.

With a = W x + b + R h, s the logistic function, and a peephole p on the cell state c where there is one:

    rnn             h' = tanh(a)
    gru             r = s(a_r);  z = s(a_z);  n = tanh(W_n x + b_n + r (R_n h + d_n));  h' = (1 - z) n + z h
    lstm            i = s(a_i);  f = s(a_f);  g = tanh(a_g);  o = s(a_o);  c' = f c + i g;  h' = o tanh(c')
    lstm-peephole   a_i + p_i c, a_f + p_f c, a_o + p_o c' in place of a_i, a_f, a_o
    lstm-coupled    i = 1 - f: three gates, and c' lies between c and g
    lstm-peephole-coupled   both

Elman (1990); Cho et al. (2014), with the reset gate after the product, as in PyTorch; Hochreiter and
Schmidhuber (1997) with Gers, Schmidhuber and Cummins (2000); peepholes: Gers and Schmidhuber (2000); coupled
gates: Greff et al. (2017). PyTorch runs rnn, gru and lstm; the others run here, with a backward pass of ours.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cell:
    """A kind of cell. `gates` are the blocks of its weights, in order; `peepholes` the gates that see c."""

    gates: tuple[str, ...]
    peepholes: tuple[str, ...] = ()
    states: int = 2  # h and c; 1 is h alone
    own: bool = False  # run here, not by PyTorch

    def parameters(self, inputs: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights of one layer and direction. PyTorch's cells have two biases."""
        rows = len(self.gates) * hidden
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden)}
        shapes |= {"bias": (rows,)} if self.own else {"bias_ih": (rows,), "bias_hh": (rows,)}
        return shapes | ({"peephole": (len(self.peepholes), hidden)} if self.peepholes else {})


CELLS = {
    "rnn": Cell(("h",), states=1),
    "gru": Cell(("r", "z", "n"), states=1),
    "lstm": Cell(("i", "f", "g", "o")),
    "lstm-peephole": Cell(("i", "f", "g", "o"), ("i", "f", "o"), own=True),
    "lstm-coupled": Cell(("f", "g", "o"), own=True),
    "lstm-peephole-coupled": Cell(("f", "g", "o"), ("f", "o"), own=True),
}


def initialise(cell: Cell, name: str, weight: Tensor) -> None:
    """Gives a weight its first values: orthogonal recurrent blocks, Xavier input blocks, zeros elsewhere.

    The forget gate has a bias of 1 in all, in one of PyTorch's two vectors: the cell remembers from the
    start, and a coupled one forgets a quarter a step. Jozefowicz, Zaremba and Sutskever (2015).
    """
    with torch.no_grad():
        if name == "weight_ih":
            for block in weight.chunk(len(cell.gates)):
                nn.init.xavier_uniform_(block)
        elif name == "weight_hh":
            for block in weight.chunk(len(cell.gates)):
                nn.init.orthogonal_(block)
        else:
            nn.init.zeros_(weight)
            if name in ("bias", "bias_ih") and "f" in cell.gates:
                weight.chunk(len(cell.gates))[cell.gates.index("f")].fill_(1.0)


def run_own(
    cell: Cell, x: Tensor, hidden: Tensor, memory: Tensor, weights: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """One layer of a cell of ours: x [T, B, in], h and c [B, H] -> h and c after every step, [T, B, H] twice.

    The inputs of all steps are one product. Gradients: `_OwnLayer.backward`.
    """
    drive = nn.functional.linear(x, weights["weight_ih"], weights["bias"])  # [T, B, G * H]
    kind = drive.dtype  # what autocast made of it
    recurrent, peephole = weights["weight_hh"].to(kind), weights.get("peephole")
    outputs: tuple[Tensor, Tensor] = _OwnLayer.apply(  # type: ignore[no-untyped-call]
        drive,
        hidden.to(kind),
        memory.to(kind),
        recurrent,
        None if peephole is None else peephole.to(kind),
        cell.gates[0] == "f",
    )
    return outputs


class _OwnLayer(torch.autograd.Function):
    """An LSTM layer with peepholes, coupled gates or both, over all steps.

    Backward goes through time once, then makes the recurrent weights' gradient of all steps in one product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        drive: Tensor,
        h: Tensor,
        c: Tensor,
        recurrent: Tensor,
        peephole: Tensor | None,
        coupled: bool,
    ) -> tuple[Tensor, Tensor]:
        """drive [T, B, G * H], h and c [B, H], recurrent [G * H, H], peephole [P, H] -> [T, B, H] twice."""
        steps, batch, _ = drive.shape
        gates = torch.empty_like(drive)  # sums first, then what the gates let through
        hidden = drive.new_empty(steps + 1, batch, h.shape[1])
        memory = torch.empty_like(hidden)
        hidden[0], memory[0] = h, c
        for t in range(steps):
            torch.addmm(drive[t], hidden[t], recurrent.t(), out=gates[t])
            *i_, f, g, o = gates[t].chunk(drive.shape[2] // h.shape[1], 1)
            c = memory[t]
            if peephole is not None:
                for gate, weight in zip((*i_, f), peephole, strict=False):
                    gate.addcmul_(weight, c)
            f.sigmoid_()
            g.tanh_()
            if coupled:
                torch.lerp(g, c, f, out=memory[t + 1])  # g + f (c - g)
            else:
                torch.mul(f, c, out=memory[t + 1]).addcmul_(i_[0].sigmoid_(), g)
            if peephole is not None:
                o.addcmul_(peephole[-1], memory[t + 1])
            torch.mul(o.sigmoid_(), memory[t + 1].tanh(), out=hidden[t + 1])
        ctx.save_for_backward(gates, hidden, memory, recurrent, peephole)
        ctx.coupled = coupled
        return hidden[1:], memory[1:]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of h and c after every step -> those of drive, h, c, recurrent and peephole."""
        gates, hidden, memory, recurrent, peephole = ctx.saved_tensors
        size = hidden.shape[2]
        drive = torch.empty_like(gates)  # gradients of the gates' sums
        d_hidden, d_memory = torch.zeros_like(hidden[0]), torch.zeros_like(hidden[0])
        for t in reversed(range(len(gates))):
            d_hidden, d_memory = d_hidden + outer[0][t], d_memory + outer[1][t]
            d_memory = _step_back(
                gates[t], memory[t], memory[t + 1], peephole, ctx.coupled, (d_hidden, d_memory), drive[t]
            )
            d_hidden = drive[t] @ recurrent
        d_recurrent = drive.flatten(0, 1).t() @ hidden[:-1].flatten(0, 1)
        d_peephole = None
        if peephole is not None:
            *seen, last = [drive[..., k * size : (k + 1) * size] for k in _peepholes(ctx.coupled)]
            sums = [(part.float() * memory[:-1]).sum((0, 1)) for part in seen]
            sums.append((last.float() * memory[1:]).sum((0, 1)))
            d_peephole = torch.stack(sums).to(peephole.dtype)
        return drive, d_hidden, d_memory, d_recurrent, d_peephole, None


def _peepholes(coupled: bool) -> tuple[int, ...]:
    """Which blocks of the gates have a peephole, in the peephole's order."""
    return (0, 2) if coupled else (0, 1, 3)


def _step_back(
    gates: Tensor,
    c: Tensor,
    next_c: Tensor,
    peephole: Tensor | None,
    coupled: bool,
    outer: tuple[Tensor, Tensor],
    drive: Tensor,
) -> Tensor:
    """One step back in time: writes the gradient of the gates' sums to `drive`, returns that of c."""
    d_h, d_c = outer
    blocks = len(drive[0]) // len(c[0])
    *i_, f, g, o = gates.chunk(blocks, 1)
    *d_i, d_f, d_g, d_o = drive.chunk(blocks, 1)
    squashed = next_c.tanh()
    d_o.copy_(d_h * squashed * o * (1 - o))
    d_c = d_c + d_h * o * (1 - squashed * squashed)
    if peephole is not None:
        d_c = d_c.addcmul(d_o, peephole[-1])
    let_in = 1 - f if coupled else i_[0]
    d_g.copy_(d_c * let_in * (1 - g * g))
    d_f.copy_(d_c * ((c - g) if coupled else c) * f * (1 - f))
    if not coupled:
        d_i[0].copy_(d_c * g * let_in * (1 - let_in))
    d_c = d_c * f
    if peephole is not None:
        for part, weight in zip((*d_i, d_f), peephole, strict=False):
            d_c = d_c.addcmul(part, weight)
    return d_c
