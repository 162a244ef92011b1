"""The decoder: one token in, scores of the next one out, as often as wanted.

Knows nothing of how a source was encoded. Letters: B batch, S source length, T target length, L layers,
H hidden size, D size of an encoder output, E embedding size, V target tokens that can be emitted.
Summary at every step: Cho et al. (2014). Attentional vector, input feeding: Luong, Pham and Manning (2015).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.attention import Attention, Memory
from training.recipe import Model
from training.recurrent import Recurrent, State, make_dropout


class Decoded(NamedTuple):
    """What a decoder made of T tokens."""

    logits: Tensor  # [B, T, V]
    state: State  # after the last token, [L, B, H] each; with input feeding also the last vector [1, B, H]
    alignments: Tensor | None  # [B, T, S], where there is attention


class Decoder(nn.Module):
    """Writes a target, a token a step. It reads V + 1 tokens (<S> is the last) and emits V.

    With attention the query is the first layer's output. The context goes to the further layers, and with the
    top layer's output into the attentional vector, from which the tokens are scored. So without input feeding
    no layer waits for a later one's last step, and T known tokens take one call a layer.
    """

    def __init__(self, target_size: int, sizes: Model) -> None:
        super().__init__()
        hidden, memory = sizes.hidden_size, sizes.memory_size
        attends = sizes.attention != "none"
        self.every_step = sizes.context == "every-step"
        self.input_feeding = sizes.input_feeding
        self.embedding = nn.Embedding(target_size, sizes.embedding_size)
        self.dropout = make_dropout(sizes.dropout, sizes.variational_dropout)
        fed = memory if self.every_step else hidden if self.input_feeding else 0
        self.recurrent = self._layers(
            sizes.embedding_size + fed, sizes, 1 if attends else sizes.decoder_layers
        )
        self.attention = Attention(sizes) if attends else None
        if attends:
            further = sizes.decoder_layers - 1
            self.further = self._layers(hidden + memory, sizes, further) if further else None
            self.attentional = nn.Linear(hidden + memory, hidden)
        self.output = nn.Linear(hidden + memory if self.every_step else hidden, target_size - 1)

    def forward(self, tokens: Tensor, state: State, memory: Memory | None) -> Decoded:
        """tokens [B, T], and the state and memory that `Seq2Seq.begin` made."""
        embedded = self.dropout(self.embedding(tokens))  # [B, T, E]
        if self.attention is None:
            vectors, state = self._follow(embedded, state, memory)
            alignments = None
        elif self.input_feeding:
            vectors, state, alignments = self._feed(embedded, state, memory)
        else:
            vectors, state, alignments = self._attend(embedded, state, memory)
        return Decoded(self.output(self.dropout(vectors)), state, alignments)

    def _layers(self, inputs: int, sizes: Model, layers: int) -> Recurrent:
        return Recurrent(sizes.cell, inputs, sizes.hidden_size, layers, self.dropout)

    def _follow(self, x: Tensor, state: State, memory: Memory | None) -> tuple[Tensor, State]:
        """No attention: x [B, T, E] -> what tokens are scored from, [B, T, H (+ D with a summary)]."""
        if memory is None:
            outputs, state = self.recurrent(x, state)
            return outputs, state
        summary = memory.values.expand(-1, x.shape[1], -1)  # [B, T, D], the same at every step
        outputs, state = self.recurrent(torch.cat((x, summary), dim=2), state)
        return torch.cat((outputs, summary), dim=2), state

    def _attend(self, x: Tensor, state: State, memory: Memory | None) -> tuple[Tensor, State, Tensor]:
        """x [B, T, in] -> attentional vectors [B, T, H], state, alignments [B, T, S]."""
        assert self.attention is not None
        assert memory is not None
        outputs, first = self.recurrent(x, tuple(part[:1] for part in state))  # [B, T, H]
        context, alignments = self.attention(outputs, memory)  # [B, T, D], [B, T, S]
        if self.further is None:
            state = first
        else:
            x = torch.cat((self.dropout(outputs), context), dim=2)  # [B, T, H + D]
            outputs, rest = self.further(x, tuple(part[1:] for part in state))
            state = tuple(torch.cat(pair) for pair in zip(first, rest, strict=True))
        return torch.tanh(self.attentional(torch.cat((outputs, context), dim=2))), state, alignments

    def _feed(self, embedded: Tensor, state: State, memory: Memory | None) -> tuple[Tensor, State, Tensor]:
        """The same with input feeding: each token is read together with the last attentional vector."""
        *state_, last = state
        layers, vector = tuple(state_), last.transpose(0, 1)  # [B, 1, H]
        vectors, alignments = [], []
        for token in embedded.unbind(1):  # [B, E]
            x = torch.cat((token.unsqueeze(1), vector), dim=2)  # [B, 1, E + H]
            vector, layers, alignment = self._attend(x, layers, memory)
            vectors.append(vector)
            alignments.append(alignment)
        return torch.cat(vectors, 1), (*layers, vector.transpose(0, 1)), torch.cat(alignments, 1)
