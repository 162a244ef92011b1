"""The recurrent encoder-decoder: the encoder's last state alone starts the decoder.

Knows nothing of text, files or optimisers. Letters: B batch, S source length, T target length, L layers,
H hidden size, E embedding size, V target tokens that can be emitted.
Sutskever, Vinyals and Le, "Sequence to Sequence Learning with Neural Networks" (2014), two-way encoder added.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from training.recipe import Model

State = tuple[Tensor, Tensor]  # hidden and cell, each [L, B, H]


class Encoder(nn.Module):
    """Reads a source; its outputs are dropped, its last state is kept."""

    def __init__(self, source_size: int, sizes: Model) -> None:
        super().__init__()
        directions = 2 if sizes.bidirectional else 1
        self.embedding = nn.Embedding(source_size, sizes.embedding_size)
        self.dropout = nn.Dropout(sizes.dropout)
        self.lstm = nn.LSTM(
            sizes.embedding_size,
            sizes.hidden_size // directions,
            sizes.encoder_layers,
            batch_first=True,
            dropout=sizes.dropout if sizes.encoder_layers > 1 else 0.0,
            bidirectional=sizes.bidirectional,
        )

    def forward(self, source: Tensor, lengths: Tensor) -> State:
        """source [B, S], lengths [B] (on the CPU) -> state after each row's own length, [L, B, H] twice."""
        embedded = self.dropout(self.embedding(source))  # [B, S, E]
        if bool((lengths == source.shape[1]).all()):
            _, (hidden, cell) = self.lstm(embedded)
        else:
            packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            _, (hidden, cell) = self.lstm(packed)
        return self._join_directions(hidden), self._join_directions(cell)

    def _join_directions(self, state: Tensor) -> Tensor:
        """[L * directions, B, H / directions] -> [L, B, H]."""
        if not self.lstm.bidirectional:
            return state
        return torch.cat((state[0::2], state[1::2]), dim=2)


class Bridge(nn.Module):
    """Turns the encoder's last state into the decoder's first: a linear map a layer, for hidden and for cell.

    A decoder deeper than its encoder starts its further layers from the encoder's top one.
    """

    def __init__(self, sizes: Model) -> None:
        super().__init__()
        self.encoder_layers = sizes.encoder_layers
        size = sizes.hidden_size
        self.hidden = nn.ModuleList(nn.Linear(size, size) for _ in range(sizes.decoder_layers))
        self.cell = nn.ModuleList(nn.Linear(size, size) for _ in range(sizes.decoder_layers))

    def forward(self, hidden: Tensor, cell: Tensor) -> State:
        """[encoder L, B, H] twice -> [decoder L, B, H] twice."""
        picked = [min(layer, self.encoder_layers - 1) for layer in range(len(self.hidden))]
        return (
            torch.stack([torch.tanh(map_(hidden[i])) for i, map_ in zip(picked, self.hidden, strict=True)]),
            torch.stack([map_(cell[i]) for i, map_ in zip(picked, self.cell, strict=True)]),
        )


class Decoder(nn.Module):
    """Writes a target, a token a step. It reads V + 1 tokens (<S> is the last) and emits V."""

    def __init__(self, target_size: int, sizes: Model) -> None:
        super().__init__()
        self.embedding = nn.Embedding(target_size, sizes.embedding_size)
        self.dropout = nn.Dropout(sizes.dropout)
        self.lstm = nn.LSTM(
            sizes.embedding_size,
            sizes.hidden_size,
            sizes.decoder_layers,
            batch_first=True,
            dropout=sizes.dropout if sizes.decoder_layers > 1 else 0.0,
        )
        self.output = nn.Linear(sizes.hidden_size, target_size - 1)

    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens [B, T], state -> logits [B, T, V], state after the last token."""
        embedded = self.dropout(self.embedding(tokens))  # [B, T, E]
        outputs, state = self.lstm(embedded, state)  # [B, T, H]
        return self.output(self.dropout(outputs)), state


class Seq2Seq(nn.Module):
    """An encoder, a bridge where the encoder reads both ways, and a decoder."""

    def __init__(self, source_size: int, target_size: int, sizes: Model) -> None:
        super().__init__()
        self.start_id = target_size - 1
        self.encoder = Encoder(source_size, sizes)
        self.bridge = Bridge(sizes) if sizes.bidirectional else None
        self.decoder = Decoder(target_size, sizes)
        initialise(self)

    def encode(self, source: Tensor, lengths: Tensor) -> State:
        """source [B, S], lengths [B] -> the decoder's first state, [L, B, H] twice."""
        state: State = self.encoder(source, lengths)
        if self.bridge is not None:
            state = self.bridge(*state)
        return state

    def forward(self, source: Tensor, lengths: Tensor, read: Tensor) -> Tensor:
        """Teacher forcing: `read` [B, T], <S> and the true target -> logits [B, T, V] of what follows."""
        logits: Tensor = self.decoder(read, self.encode(source, lengths))[0]
        return logits

    @torch.inference_mode()
    def greedy(self, source: Tensor, lengths: Tensor, max_length: int) -> list[tuple[list[int], list[float]]]:
        """Feeds the decoder its own best token until <E> (id 0) or max_length tokens.

        Returns, for each row, the emitted ids (<E> too, where it came) and their natural-log probabilities.
        """
        was_training = self.training
        self.eval()
        state = self.encode(source, lengths)  # [L, B, H] twice
        token = torch.full((len(source), 1), self.start_id, device=source.device)  # [B, 1]
        done = torch.zeros(len(source), dtype=torch.bool, device=source.device)  # [B]
        tokens, scores = [], []
        for _ in range(max_length):
            logits, state = self.decoder(token, state)  # [B, 1, V]
            token = logits.argmax(dim=2)  # [B, 1]
            tokens.append(token)
            scores.append(logits.float().log_softmax(dim=2).gather(2, token.unsqueeze(2)).squeeze(2))
            done |= token.squeeze(1) == 0
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
    end = ids.index(0) + 1 if 0 in ids else len(ids)
    return ids[:end], scores[:end]


def initialise(model: nn.Module) -> None:
    """Orthogonal recurrent weights a gate, Xavier input weights, and a forget-gate bias of 1.

    PyTorch adds two bias vectors, so one of them holds the 1. Jozefowicz et al. (2015) for the bias.
    """
    for lstm in (module for module in model.modules() if isinstance(module, nn.LSTM)):
        for name, weight in lstm.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(weight)
                if name.startswith("bias_ih"):
                    weight.data[lstm.hidden_size : 2 * lstm.hidden_size] = 1.0  # gate order: i, f, g, o
                continue
            for gate in weight.data.chunk(4):
                (nn.init.orthogonal_ if name.startswith("weight_hh") else nn.init.xavier_uniform_)(gate)
