"""What the scheduler asks of an engine. Knows nothing of either; service/engine.py is one."""

from collections.abc import Sequence as Sized
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.decoding.distributions import Distributions


class DeviceLost(Exception):
    """The device that decodes answers nothing any more: no row is at fault, and none need be tried alone.

    Any method of a Decoder may raise it.
    """


class Decoder(Protocol):
    """Rows of decoder state, and the runs that fill and step them."""

    rows: int
    end_id: int
    emitted: int  # V: tokens that can be emitted
    run_seconds: float  # time inside ONNX Runtime or the kernels, of the last encode or step
    replayed: bool  # whether the last step was a captured graph of a device

    def encode(self, sources: Sized[Sized[int]], rows: Sized[int]) -> None:
        """Runs the encoder; source i's state goes to row rows[i], which reads <S> next."""

    def steps(self, count: int, most: int, short: Sized[int]) -> list[tuple[list[int], list[float]]]:
        """Runs the decoder on rows 0..count-1, once or up to `most` times: what each step said.

        That is the best next token of each row, and its log-probability; rows `short` may not emit <E>, and
        get their next best one instead. No step follows one in which a row emits <E>.
        """

    def step_singly(self, count: int) -> tuple[list[int], list[float], list[int]]:
        """One step, a row at a time, after one that threw: what it said, and the rows that throw alone."""

    def distributions(self, rows: Sized[int]) -> Distributions:
        """What the last step said of these rows."""

    def alignments(self, rows: Sized[int]) -> npt.NDArray[np.float32]:
        """How the last step weighed the tokens of these rows' sources, [len(rows), as many or more]."""

    def place(self, rows: Sized[int], sources: Sized[int], tokens: Sized[int]) -> None:
        """Copies the states of rows `sources` over those of `rows`, all at once, to read `tokens` next."""

    def move(self, rows: Sized[int], sources: Sized[int]) -> None:
        """Copies states and tokens of rows `sources` over those of `rows`, all at once."""


def put_off_ends(engine: Decoder, short: Sized[int], tokens: list[int], scores: list[float]) -> None:
    """Lets those of the rows `short` go on for which the last step said <E>: changes what it said.

    For engines whose graphs choose by themselves. The best token that may come is the best one of all or,
    where that is <E>, the second best: one look at the distributions of those few rows is enough.
    """
    rows = [row for row in short if tokens[row] == engine.end_id]
    if not rows:
        return
    said = engine.distributions(rows)
    for row, best, logs in zip(rows, said.top_tokens, said.top_scores, strict=True):
        second = best[0] == engine.end_id  # unless the row is poisoned
        tokens[row], scores[row] = best[second], logs[second]
    engine.place(rows, rows, [tokens[row] for row in rows])


def sizes_up_to(rows: int) -> list[int]:
    """Numbers of rows to try: the powers of two up to a number, and the number."""
    return sorted({*(1 << power for power in range(rows.bit_length())), rows})
