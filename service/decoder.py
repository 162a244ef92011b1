"""What the scheduler asks of an engine. Knows nothing of either; service/engine.py is one."""

from collections.abc import Sequence as Sized
from typing import Protocol

from service.decoding.distributions import Distributions


class Decoder(Protocol):
    """Rows of decoder state, and the runs that fill and step them."""

    rows: int
    end_id: int
    emitted: int  # V: tokens that can be emitted
    run_seconds: float  # time inside ONNX Runtime, of the last encode or step

    def encode(self, sources: Sized[Sized[int]], rows: Sized[int]) -> None:
        """Runs the encoder; source i's state goes to row rows[i], which reads <S> next."""

    def step(self, count: int) -> tuple[list[int], list[float]]:
        """Runs the decoder on rows 0..count-1: the best next token of each, and its log-probability."""

    def step_singly(self, count: int) -> tuple[list[int], list[float], list[int]]:
        """As `step`, a row at a time, after a step that threw; then the rows that throw alone."""

    def distributions(self, rows: Sized[int]) -> Distributions:
        """What the last step said of these rows."""

    def place(self, rows: Sized[int], sources: Sized[int], tokens: Sized[int]) -> None:
        """Copies the states of rows `sources` over those of `rows`, all at once, to read `tokens` next."""

    def move(self, rows: Sized[int], sources: Sized[int]) -> None:
        """Copies states and tokens of rows `sources` over those of `rows`, all at once."""
