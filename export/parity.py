"""Proof that the graphs do what PyTorch does, and that no neighbour changes an answer. No proof, no bundle.

Each source is decoded by ONNX Runtime in several batch sizes, padded among sources of other lengths, and must
give PyTorch's greedy tokens, with scores and first states as close as float rounding allows.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import: no thread, no files, no uploads
import onnxruntime as ort
import torch

from training.evaluate import answer
from training.model import Seq2Seq

Answer = tuple[list[int], list[float]]  # ids, with <E> where it came, and their log-probabilities

BATCH_SIZES = (1, 2, 7, 64)
MOST_SCORE_DIFFERENCE = 1e-5  # natural-log units, of a sequence's score; relative where that is over 1
MOST_TOKEN_DIFFERENCE = 1e-4  # natural-log units, of one token's score, however unlikely the token
MOST_STATE_DIFFERENCE = 1e-4  # the same for a component of a state


class ParityError(Exception):
    """The graphs differ from PyTorch. The text says in which tensor, for which source, and by how much."""


@dataclass(frozen=True)
class Graphs:
    """Sessions of one encoder and one decoder."""

    encoder: ort.InferenceSession
    decoder: ort.InferenceSession

    @classmethod
    def load(cls, encoder: bytes, decoder: bytes) -> "Graphs":
        """Sessions on the CPU with one thread. Raises ParityError when a batch axis is not free."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        graphs = cls(
            *(ort.InferenceSession(model, options, ["CPUExecutionProvider"]) for model in (encoder, decoder))
        )
        for session in (graphs.encoder, graphs.decoder):
            for tensor in (*session.get_inputs(), *session.get_outputs()):
                if not isinstance(tensor.shape[0], str):
                    raise ParityError(f"{tensor.name}: its first axis is {tensor.shape[0]}; it must be free")
        return graphs

    def encode(self, sources: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """The decoder's first state for sources padded to the longest, each [B, H]."""
        lengths = np.array([len(source) for source in sources], np.int32)
        padded = np.zeros((len(sources), lengths.max()), np.int64)
        for row, source in enumerate(sources):
            padded[row, : len(source)] = source
        names = [tensor.name for tensor in self.encoder.get_outputs()]
        return dict(zip(names, self.encoder.run(names, {"source": padded, "lengths": lengths}), strict=True))

    def greedy(self, sources: Sequence[Sequence[int]], start_id: int, max_length: int) -> list[Answer]:
        """Greedy ids (with <E>, id 0) and log-probabilities of each source, decoded together."""
        state = self.encode(sources)
        token = np.full(len(sources), start_id, np.int64)
        found: list[Answer] = [([], []) for _ in sources]
        live = set(range(len(sources)))
        names = ["next_token", "next_score", *(f"next_{name}" for name in state)]
        for _ in range(max_length):
            token, score, *arrays = self.decoder.run(names, {"token": token, **state})
            state = dict(zip(state, arrays, strict=True))
            for row in sorted(live):
                found[row][0].append(int(token[row]))
                found[row][1].append(float(score[row]))
            live -= {row for row in live if token[row] == 0}
            if not live:
                break
        return found


def check_parity(model: Seq2Seq, graphs: Graphs, sources: Sequence[Sequence[int]], max_length: int) -> float:
    """Compares every source in every batch size. Returns the largest score difference; raises ParityError."""
    expected = answer(model, sources, max_length)
    states = [_first_states(model, source) for source in sources]
    worst = 0.0
    for size in BATCH_SIZES:
        for start in range(0, len(sources), size):
            batch = sources[start : start + size]
            first = graphs.encode(batch)
            for index in range(start, start + len(batch)):
                _compare_states(first, index - start, states[index], f"source {index} in batches of {size}")
            found = graphs.greedy(batch, model.start_id, max_length)
            for index, (tokens, scores) in enumerate(found, start):
                worst = max(worst, _difference(tokens, scores, *expected[index], index, size))
    return worst


def check_invariance(
    graphs: Graphs, sources: Sequence[Sequence[int]], start_id: int, max_length: int
) -> list[Answer]:
    """Each source's answer, which must be the same, bit for bit, in every batch size. Raises ParityError."""
    alone = [graphs.greedy([source], start_id, max_length)[0] for source in sources]
    for size in BATCH_SIZES:
        for start in range(0, len(sources), size):
            found = graphs.greedy(sources[start : start + size], start_id, max_length)
            for index, answer_ in enumerate(found, start):
                if answer_ != alone[index]:
                    raise ParityError(f"source {index} in batches of {size}: neighbours change its answer")
    return alone


def _difference(
    tokens: list[int], scores: list[float], true: list[int], true_scores: list[float], index: int, size: int
) -> float:
    place = f"source {index} in batches of {size}"
    if tokens != true:
        step = next(
            (i for i, (a, b) in enumerate(zip(tokens, true, strict=False)) if a != b),
            min(len(tokens), len(true)),
        )
        raise ParityError(f"{place}: tokens differ from PyTorch's from step {step} on")
    difference = abs(sum(scores) - sum(true_scores)) / max(1, abs(sum(true_scores)))
    if not difference <= MOST_SCORE_DIFFERENCE:
        raise ParityError(
            f"{place}: its score differs by {difference:.2g}; {MOST_SCORE_DIFFERENCE:.0e} is allowed"
        )
    token_difference = max(abs(a - b) for a, b in zip(scores, true_scores, strict=True))
    if not token_difference <= MOST_TOKEN_DIFFERENCE:
        raise ParityError(
            f"{place}: a token's score differs by {token_difference:.2g}; "
            f"{MOST_TOKEN_DIFFERENCE:.0e} is allowed"
        )
    return difference


def _first_states(model: Seq2Seq, source: Sequence[int]) -> dict[str, np.ndarray]:
    """PyTorch's first state for a source alone, where there is no padding to get wrong: name -> [H]."""
    with torch.inference_mode():
        hidden, cell = model.encode(torch.tensor([source]), torch.tensor([len(source)]))
    states = {f"h_{layer}": state[0].numpy() for layer, state in enumerate(hidden)}
    return states | {f"c_{layer}": state[0].numpy() for layer, state in enumerate(cell)}


def _compare_states(found: dict[str, np.ndarray], row: int, true: dict[str, np.ndarray], place: str) -> None:
    for name, state in true.items():
        difference = float((np.abs(found[name][row] - state) / np.maximum(1, np.abs(state))).max())
        if not difference <= MOST_STATE_DIFFERENCE:
            raise ParityError(
                f"{place}: {name} differs by {difference:.2g}; {MOST_STATE_DIFFERENCE:.0e} is allowed"
            )
