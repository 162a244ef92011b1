"""The recurrent encoder-decoder, with attention to the whole source or without.

Knows nothing of text, files or optimisers. Letters: B batch, S source length, T target length, L layers,
H hidden size of the decoder, D size of an encoder output (all directions), E embedding size, V target tokens
that can be emitted.
Sutskever, Vinyals and Le, "Sequence to Sequence Learning with Neural Networks" (2014), two-way encoder added.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bundle.values import END_ID
from training.attention import Memory
from training.cells import CELLS
from training.decoder import Decoder
from training.recipe import Model
from training.recurrent import Recurrent, State, make_dropout


class Encoder(nn.Module):
    """Reads a source."""

    def __init__(self, source_size: int, sizes: Model) -> None:
        super().__init__()
        self.embedding = nn.Embedding(source_size, sizes.embedding_size)
        self.dropout = make_dropout(sizes.dropout, sizes.variational_dropout)
        self.recurrent = Recurrent(
            sizes.cell,
            sizes.embedding_size,
            sizes.memory_size // (2 if sizes.bidirectional else 1),
            sizes.encoder_layers,
            self.dropout,
            sizes.bidirectional,
        )

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """source [B, S], lengths [B] (on the CPU) -> outputs [B, S, D], last state [L, B, D] each.

        The last state is the one after each row's own length; outputs beyond it are 0.
        """
        embedded = self.dropout(self.embedding(source))  # [B, S, E]
        padded = bool((lengths < source.shape[1]).any())
        outputs, state = self.recurrent(embedded, lengths=lengths if padded else None)
        return outputs, tuple(self._join_directions(part) for part in state)

    def _join_directions(self, state: Tensor) -> Tensor:
        """[L * directions, B, D / directions] -> [L, B, D]."""
        if not self.recurrent.bidirectional:
            return state
        return torch.cat((state[0::2], state[1::2]), dim=2)


class Bridge(nn.Module):
    """Turns the encoder's last state into the decoder's first: a linear map a layer, for hidden and for cell.

    A decoder with fewer layers than its encoder starts from the topmost; one with more starts its further
    layers from the top one.
    """

    def __init__(self, sizes: Model) -> None:
        super().__init__()
        self.picked = sizes.starting_layers
        size, hidden = sizes.memory_size, sizes.hidden_size
        self.hidden = nn.ModuleList(nn.Linear(size, hidden) for _ in self.picked)
        self.cell = nn.ModuleList(
            nn.Linear(size, hidden) for _ in self.picked if CELLS[sizes.cell].states == 2
        )

    def forward(self, hidden: Tensor, *cell: Tensor) -> State:
        """[encoder L, B, D] each -> [decoder L, B, H] each."""
        return torch.tanh(self._map(self.hidden, hidden)), *(self._map(self.cell, part) for part in cell)

    def _map(self, maps: nn.ModuleList, state: Tensor) -> Tensor:
        return torch.stack([map_(state[layer]) for layer, map_ in zip(self.picked, maps, strict=True)])


class Seq2Seq(nn.Module):
    """An encoder, a bridge where its state does not fit the decoder as it is, and a decoder."""

    def __init__(self, source_size: int, target_size: int, sizes: Model) -> None:
        super().__init__()
        self.start_id = target_size - 1
        self.encoder = Encoder(source_size, sizes)
        self.bridge = Bridge(sizes) if sizes.bridged else None
        self.decoder = Decoder(target_size, sizes)
        self.register_load_state_dict_pre_hook(_rename_old_weights)  # type: ignore[no-untyped-call]

    def begin(self, source: Tensor, lengths: Tensor) -> tuple[State, Memory | None]:
        """source [B, S], lengths [B] -> the decoder's first state, and what every step may look back on."""
        outputs, state = self.encoder(source, lengths)
        summary = state[0][-1].unsqueeze(1)  # [B, 1, D]
        if self.bridge is not None:
            state = self.bridge(*state)
        if self.decoder.every_step:
            return state, Memory(summary, summary, torch.ones_like(summary[:, :, 0], dtype=torch.bool))
        if self.decoder.attention is None:
            return state, None
        if self.decoder.input_feeding:
            state = (*state, torch.zeros_like(state[0][:1]))
        return state, self.decoder.attention.remember(outputs, lengths)

    def forward(self, source: Tensor, lengths: Tensor, read: Tensor) -> Tensor:
        """Teacher forcing: `read` [B, T], <S> and the true target -> logits [B, T, V] of what follows."""
        logits: Tensor = self.decoder(read, *self.begin(source, lengths)).logits
        return logits

    def align(self, source: Tensor, lengths: Tensor, read: Tensor) -> Tensor:
        """Teacher forcing: the attention weights [B, T, S] with which each token after `read` is emitted.

        For <S> and an answer's tokens, those are the weights with which that answer was decoded.
        Raises ValueError when the model has no attention.
        """
        if self.decoder.attention is None:
            raise ValueError("this model has no attention, so there is nothing to align")
        alignments: Tensor = self.decoder(read, *self.begin(source, lengths)).alignments
        return alignments

    @torch.inference_mode()
    def greedy(self, source: Tensor, lengths: Tensor, max_length: int) -> list[tuple[list[int], list[float]]]:
        """Feeds the decoder its own best token until <E> or max_length tokens.

        Returns, for each row, the emitted ids (<E> too, where it came) and their natural-log probabilities.
        """
        was_training = self.training
        self.eval()
        state, memory = self.begin(source, lengths)
        token = torch.full((len(source), 1), self.start_id, device=source.device)  # [B, 1]
        done = torch.zeros(len(source), dtype=torch.bool, device=source.device)  # [B]
        tokens, scores = [], []
        for _ in range(max_length):
            logits, state, _ = self.decoder(token, state, memory)  # [B, 1, V]
            token = logits.argmax(dim=2)  # [B, 1]
            tokens.append(token)
            scores.append(logits.float().log_softmax(dim=2).gather(2, token.unsqueeze(2)).squeeze(2))
            done |= token.squeeze(1) == END_ID
            if bool(done.all()):
                break
        self.train(was_training)
        return [
            _until_end(ids, row_scores)
            for ids, row_scores in zip(
                torch.cat(tokens, 1).tolist(), torch.cat(scores, 1).tolist(), strict=True
            )
        ]


def _until_end(ids: list[int], scores: list[float]) -> tuple[list[int], list[float]]:
    """Cuts a row after its <E>, if it has one."""
    end = ids.index(END_ID) + 1 if END_ID in ids else len(ids)
    return ids[:end], scores[:end]


def _rename_old_weights(model: nn.Module, weights: dict[str, Any], prefix: str, *_: object) -> None:
    """Checkpoints once called the recurrent layers `lstm`."""
    for name in [
        name for name in weights if name.startswith((f"{prefix}encoder.lstm.", f"{prefix}decoder.lstm."))
    ]:
        weights[name.replace("coder.lstm.", "coder.recurrent.")] = weights.pop(name)
