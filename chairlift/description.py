"""What a server says of the models that it holds: frozen values. Knows nothing of answers or of gRPC."""

from __future__ import annotations

from dataclasses import dataclass

from chairlift.results import ModelReference


@dataclass(frozen=True, slots=True)
class DataSource:
    """Data that a model was trained or scored on; `examples` counts pairs."""

    name: str
    licence: str
    split: str
    examples: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Score:
    """A measured quality, over so many `sources`; error rates are in percent."""

    dataset: str
    metric: str
    value: float
    sources: int
    decoding: str
    interval_95: tuple[float, float] | None = None
    """Where the value lies with 95 % of samples of the sources; None where that was not measured."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the graphs of a profile took: for each of `rows` sources, and for a step of all of them."""

    profile: str
    rows: int
    source_microseconds: float
    step_microseconds: float


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a model's graphs were on the machine that exported it; sources had `source_length` tokens.

    A server may be faster: with more threads, or where it has kernels of its own.
    """

    machine: str
    runtime: str
    threads: int
    source_length: int
    timings: tuple[Timing, ...]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a person should know before using a model."""

    title: str
    description: str
    licence: str
    data: tuple[DataSource, ...]
    scores: tuple[Score, ...]
    training_commit: str
    speed: Speed | None = None
    """None where it was not measured."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model version accepts: tokens of an input and of an answer, inputs of a call, a beam's size."""

    max_source_length: int
    max_target_length: int
    max_inputs: int
    max_beam_size: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """What kind of network a model is; `parameters` counts its weights."""

    cell: str
    encoder_layers: int
    decoder_layers: int
    embedding_size: int
    hidden_size: int
    bidirectional: bool
    attention: str
    """none, dot, general or additive; without attention there are no alignments."""
    parameters: int
    encoder_hidden_size: int
    """Numbers in one of the encoder's outputs, both directions together."""
    input_feeding: bool
    context: str
    """Where the encoder's last state goes: first-step or every-step."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """Greedy decoding, and a beam for the answers alone in which two tokens came closer than `margin`.

    Fitted on the `sources` of a dataset: the share of them that went to the beam, and error rates in percent.
    """

    beam_size: int
    margin: float
    profile: str
    dataset: str
    sources: int
    beam_share: float
    greedy_wer: float
    cascade_wer: float
    beam_wer: float


@dataclass(frozen=True, slots=True)
class Precision:
    """What answers over a `confidence` are: which share of all, and how much of that is right."""

    confidence: float
    coverage: float
    precision: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How tokens' log-probabilities become a confidence; the wire's Calibration has the formula.

    Fitted on the `sources` of a dataset. On another one confidence was on average `expected_error` away from
    accuracy, and keeping only what is over a confidence gave `precisions`, in ascending order.
    """

    temperature: float
    bias: float
    smoothing: float
    ceiling: float
    profile: str
    dataset: str
    sources: int
    measured_on: str
    measured_sources: int
    expected_error: float
    precisions: tuple[Precision, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """One model version as a server holds it. Only `Client.model` fills the vocabularies, tokens by id.

    One that is not ready, which the server could not load, has a name and a version and nothing else.
    """

    reference: ModelReference
    ready: bool
    is_default: bool
    card: ModelCard
    limits: Limits
    profiles: tuple[str, ...]
    profile: str
    device: str
    architecture: Architecture
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    cascade: Cascade | None
    """What `cascade=True` asks for; None where none was fitted."""
    calibration: Calibration | None
    """What `Hypothesis.confidence` follows; None where none was fitted."""
    lexicon_entries: int
    """Inputs that the exception lexicon answers; 0: there is none."""
