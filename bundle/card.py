"""What a manifest tells people: where a model comes from, and what was fitted and measured on it.

Knows nothing about graphs, shapes or files.
"""

from typing import Annotated, Any

import msgspec

from bundle.values import (
    MOST_BEAM,
    Count,
    Length,
    Line,
    Microseconds,
    Percent,
    ProfileName,
    Prose,
    Sha256,
    Share,
)


class DataSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Data that the model learnt from."""

    name: Line
    licence: Line
    split: Line
    examples: Count
    sha256: Sha256


class Score(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured result."""

    dataset: Line
    metric: Line
    value: float
    sources: Count  # distinct inputs that were scored
    decoding: Line
    interval_95: tuple[float, float] | None = None  # where it lies with 95 % of samples of the sources


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the graphs of a profile take with so many rows."""

    profile: ProfileName
    rows: Annotated[int, msgspec.Meta(ge=1, le=65_536)]
    source_microseconds: Microseconds  # of the encoder, for each source
    step_microseconds: Microseconds  # of the decoder, for all rows


class Speed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast the graphs were on the machine that exported them."""

    machine: Line  # its processor
    runtime: Line  # what ran the graphs, with its version
    threads: Annotated[int, msgspec.Meta(ge=1, le=65_536)]
    source_length: Length  # tokens of each source
    timings: Annotated[tuple[Timing, ...], msgspec.Meta(max_length=64)]


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the model comes from and how good it is."""

    title: Line
    description: Prose
    licence: Line
    data: tuple[DataSource, ...]
    scores: tuple[Score, ...]
    training_commit: Line
    recipe: dict[str, Any]  # the recipe that trained the model, as it was read
    speed: Speed | None = None


class Cascade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Greedy decoding, and a beam for those answers alone in which two tokens came closer than a margin.

    What it was fitted on says what it gives: there, `beam_share` of the sources went to the beam.
    """

    beam_size: Annotated[int, msgspec.Meta(ge=2, le=MOST_BEAM)]
    margin: Annotated[float, msgspec.Meta(gt=0, le=100)]  # of the two best log-probabilities of a step
    profile: ProfileName  # whose graphs decoded
    dataset: Line
    sources: Count  # distinct inputs
    beam_share: Share
    greedy_wer: Percent
    cascade_wer: Percent
    beam_wer: Percent


class Precision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept, and how much of it is right, over one confidence."""

    confidence: Share
    coverage: Annotated[float, msgspec.Meta(gt=0, le=1)]  # of all answers
    precision: Share  # of those kept


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an answer's scores become the probability that it is right: bundle/confidence.py says how."""

    temperature: Annotated[float, msgspec.Meta(ge=0.01, le=100)]
    bias: Annotated[float, msgspec.Meta(ge=-100, le=100)]  # in natural-log odds
    smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)]  # of labels: what it took from each token
    ceiling: Annotated[float, msgspec.Meta(gt=0, le=1)]  # the highest confidence
    profile: ProfileName  # whose graphs decoded
    dataset: Line  # it was fitted on
    sources: Annotated[int, msgspec.Meta(ge=1, le=2**53)]  # of it, with whole answers
    measured_on: Line  # what follows was
    measured_sources: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    expected_error: Share  # mean distance of confidence from accuracy, in ten groups of equal size
    precisions: Annotated[tuple[Precision, ...], msgspec.Meta(max_length=16)]  # ascending

    def __post_init__(self) -> None:
        levels = [promise.confidence for promise in self.precisions]
        if sorted(set(levels)) != levels:
            raise ValueError(f"precisions are for confidences {levels}; ascending ones are allowed")
