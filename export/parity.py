"""Proof that the graphs do what PyTorch does, and that no neighbour changes an answer. No proof, no bundle.

Each source is decoded by ONNX Runtime in several batch sizes, padded among sources of other lengths, and must
give PyTorch's greedy tokens, with scores and first states as close as float rounding allows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from bundle.graphs import SOURCE_BLOCK
from bundle.values import END_ID
from export.runtime import Session, session
from training.evaluate import answer
from training.model import Seq2Seq

Answer = tuple[list[int], list[float]]  # ids, with <E> where it came, and their log-probabilities

BATCH_SIZES = (1, 2, 7, 64)
MOST_SCORE_DIFFERENCE = 5e-5  # natural-log units, of a sequence's score; relative where that is over 1
MOST_TOKEN_DIFFERENCE = 1e-4  # natural-log units, of one token's score, however unlikely the token
MOST_STATE_DIFFERENCE = 1e-4  # the same for a component of a state or of memory; relative above 1
MOST_ALIGNMENT_DIFFERENCE = 1e-4  # of a weight
MOST_BLOCKS = 3  # widths of the source axis that invariance is tried at


class ParityError(Exception):
    """The graphs differ from PyTorch. The text says in which tensor, for which source, and by how much."""


class Decoded(NamedTuple):
    """A greedy answer: ids, <E> too where it came, their log-probabilities, and the attention at each.

    That is how much of it each token of the source got, [S]; there are none without attention.
    """

    tokens: list[int]
    scores: list[float]
    alignments: list[np.ndarray]


@dataclass(frozen=True)
class Graphs:
    """Sessions of one encoder and one decoder."""

    encoder: Session
    decoder: Session
    state: tuple[str, ...]  # what a step makes anew; what else the encoder makes is memory
    attends: bool

    @classmethod
    def load(cls, encoder: bytes, decoder: bytes) -> "Graphs":
        """Sessions of both. Raises ParityError when a batch axis is not free."""
        sessions = [session(model) for model in (encoder, decoder)]
        for one in sessions:
            for tensor in (*one.get_inputs(), *one.get_outputs()):
                if not isinstance(tensor.shape[0], str):
                    raise ParityError(f"{tensor.name}: its first axis is {tensor.shape[0]}; it must be free")
        made = [tensor.name for tensor in sessions[0].get_outputs()]
        next_ = {tensor.name for tensor in sessions[1].get_outputs()}
        state = tuple(name for name in made if f"next_{name}" in next_)
        return cls(sessions[0], sessions[1], state, "alignments" in next_)

    def encode(self, sources: Sequence[Sequence[int]], blocks: int = 0) -> dict[str, np.ndarray]:
        """The decoder's first state and memory for sources padded to the longest, each [B, ...].

        A source axis has the fewest blocks of SOURCE_BLOCK that hold all, and so many more.
        """
        lengths = np.array([len(source) for source in sources], np.int32)
        padded = np.zeros((len(sources), lengths.max()), np.int64)
        for row, source in enumerate(sources):
            padded[row, : len(source)] = source
        names = [tensor.name for tensor in self.encoder.get_outputs()]
        arrays = self.encoder.run(names, {"source": padded, "lengths": lengths})
        more = blocks * SOURCE_BLOCK + -padded.shape[1] % SOURCE_BLOCK
        return {
            name: np.pad(array, ((0, 0), (0, more), (0, 0))) if array.ndim == 3 else array
            for name, array in zip(names, arrays, strict=True)
        }

    def step(
        self, wanted: Sequence[str], tokens: np.ndarray, state: dict[str, np.ndarray]
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """One step of the decoder: the outputs that are wanted, and state and memory for the next step."""
        names = [*wanted, *(f"next_{name}" for name in self.state)]
        arrays = self.decoder.run(names, {"token": tokens, **state})
        made = dict(zip(self.state, arrays[len(wanted) :], strict=True))
        return arrays[: len(wanted)], state | made

    def decode(
        self, sources: Sequence[Sequence[int]], start_id: int, max_length: int, blocks: int = 0
    ) -> list[Decoded]:
        """Greedy answers of sources that are decoded together; `blocks` as in `encode`."""
        state = self.encode(sources, blocks)
        token = np.full(len(sources), start_id, np.int64)
        found = [Decoded([], [], []) for _ in sources]
        live = set(range(len(sources)))
        wanted = ["next_token", "next_score", *(["alignments"] if self.attends else [])]
        for _ in range(max_length):
            (token, score, *alignments), state = self.step(wanted, token, state)
            for row in sorted(live):
                found[row].tokens.append(int(token[row]))
                found[row].scores.append(float(score[row]))
                for weights in alignments:
                    found[row].alignments.append(weights[row, : len(sources[row])])
            live -= {row for row in live if token[row] == END_ID}
            if not live:
                break
        return found

    def greedy(self, sources: Sequence[Sequence[int]], start_id: int, max_length: int) -> list[Answer]:
        """Ids and log-probabilities of the same."""
        return [(found.tokens, found.scores) for found in self.decode(sources, start_id, max_length)]


def check_parity(model: Seq2Seq, graphs: Graphs, sources: Sequence[Sequence[int]], max_length: int) -> float:
    """Compares every source in every batch size. Returns the largest score difference; raises ParityError."""
    expected = answer(model, sources, max_length)
    states = [_first_states(model, source) for source in sources]
    alignments = [_alignments(model, source, ids) for source, (ids, _) in zip(sources, expected, strict=True)]
    worst = 0.0
    for size in BATCH_SIZES:
        for start in range(0, len(sources), size):
            batch = sources[start : start + size]
            first = graphs.encode(batch)
            for index in range(start, start + len(batch)):
                _compare_states(first, index - start, states[index], f"source {index} in batches of {size}")
            found = graphs.decode(batch, model.start_id, max_length)
            for index, one in enumerate(found, start):
                place = f"source {index} in batches of {size}"
                worst = max(worst, _difference(one.tokens, one.scores, *expected[index], place))
                _compare_alignments(one, alignments[index], place)
    return worst


def check_invariance(
    graphs: Graphs, sources: Sequence[Sequence[int]], start_id: int, max_length: int
) -> list[Answer]:
    """Each source's answer, which must be the same, bit for bit, in every batch size and however far padded.

    Raises ParityError.
    """
    alone = [graphs.decode([source], start_id, max_length)[0] for source in sources]
    for size in BATCH_SIZES:
        for number, start in enumerate(range(0, len(sources), size)):
            batch = sources[start : start + size]
            found = graphs.decode(batch, start_id, max_length, blocks=number % MOST_BLOCKS)
            for index, one in enumerate(found, start):
                if not _same_bits(one, alone[index]):
                    raise ParityError(f"source {index} in batches of {size}: neighbours change its answer")
    return [(one.tokens, one.scores) for one in alone]


def _same_bits(one: Decoded, other: Decoded) -> bool:
    pairs = zip(one.alignments, other.alignments, strict=True)
    return one[:2] == other[:2] and all(a.tobytes() == b.tobytes() for a, b in pairs)


def _difference(
    tokens: list[int], scores: list[float], true: list[int], true_scores: list[float], place: str
) -> float:
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
    """PyTorch's first state and memory for a source alone, with no padding to get wrong: name -> array."""
    with torch.inference_mode():
        parts, memory = model.begin(torch.tensor([source]), torch.tensor([len(source)]))
    states = model.encoder.recurrent.cell.states
    kinds = zip("hc", parts[:states], strict=False)
    found = {f"{kind}_{layer}": row[0] for kind, part in kinds for layer, row in enumerate(part)}
    if model.decoder.input_feeding:
        found["fed"] = parts[states][0, 0]
    if memory is not None and model.decoder.every_step:
        found["summary"] = memory.values[0, 0]
    elif memory is not None:
        found["keys"] = memory.keys[0]
        found["values"] = torch.cat((memory.values[0], memory.mask[0].unsqueeze(1)), 1)
    return {name: state.numpy() for name, state in found.items()}


def _alignments(model: Seq2Seq, source: Sequence[int], ids: Sequence[int]) -> np.ndarray | None:
    """PyTorch's for an answer, [T, S]; None without attention."""
    if model.decoder.attention is None:
        return None
    read = torch.tensor([[model.start_id, *ids[:-1]]])
    with torch.inference_mode():
        return model.align(torch.tensor([source]), torch.tensor([len(source)]), read)[0].numpy()


def _compare_states(found: dict[str, np.ndarray], row: int, true: dict[str, np.ndarray], place: str) -> None:
    if found.keys() != true.keys():
        raise ParityError(f"the encoder makes {sorted(found)}; {sorted(true)} is allowed")
    for name, state in true.items():
        read = found[name][row]
        if state.ndim == 2:
            if read[len(state) :].any():
                raise ParityError(f"{place}: {name} is not 0 at padding")
            read = read[: len(state)]
        difference = float((np.abs(read - state) / np.maximum(1, np.abs(state))).max())
        if not difference <= MOST_STATE_DIFFERENCE:
            raise ParityError(
                f"{place}: {name} differs by {difference:.2g}; {MOST_STATE_DIFFERENCE:.0e} is allowed"
            )


def _compare_alignments(found: Decoded, true: np.ndarray | None, place: str) -> None:
    if true is None:
        return
    difference = float(np.abs(np.array(found.alignments) - true).max())
    if not difference <= MOST_ALIGNMENT_DIFFERENCE:
        raise ParityError(
            f"{place}: an alignment differs by {difference:.2g}; {MOST_ALIGNMENT_DIFFERENCE:.0e} is allowed"
        )
