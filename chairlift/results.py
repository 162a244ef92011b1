"""What the client hands back: frozen values, one for each message of the wire. Knows nothing of gRPC."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class FinishReason(enum.Enum):
    """Why a sequence ended."""

    EOS = "eos"
    """The model emitted <E>."""
    LENGTH = "length"
    """The length limit was reached before <E>."""
    LOOP = "loop"
    """The tokens ran in a circle, and `loop_repeats` was given."""
    CONSTRAINT = "constraint"
    """The options left no token that might come next, and no other whole answer."""
    DEADLINE = "deadline"
    """Time was up, and `partial_on_deadline` was given."""
    UNSPECIFIED = "unspecified"
    """A newer server gave a reason that this client does not know."""


class AnswerSource(enum.Enum):
    """Who gave an answer."""

    MODEL = "model"
    """The model decoded it."""
    LEXICON = "lexicon"
    """The model's exception lexicon has the input, exactly: nothing was decoded, and the score is 0."""
    UNSPECIFIED = "unspecified"
    """An older server did not say, or a newer one gave a source that this client does not know."""


@dataclass(frozen=True, slots=True)
class ModelReference:
    """The model version that answered. The same digest and request give the same answer."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Alternatives:
    """The tokens that the model finds likeliest at one position, best first."""

    token_ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One candidate answer; `score` is the sum of its tokens' natural-log probabilities, <E> included."""

    text: str
    token_ids: tuple[int, ...]
    score: float
    finish_reason: FinishReason
    normalised_score: float
    """What hypotheses are ranked by: score and biases, by length**length_penalty."""
    log_probabilities: tuple[float, ...]
    """Of each token, then of <E> if it came. Empty unless asked for."""
    alternatives: tuple[Alternatives, ...]
    """For each of log_probabilities. Empty unless asked for."""
    alignments: tuple[tuple[float, ...], ...]
    """For each token, then for <E> if it came: how much of the attention each token of the normalised source
    got. Empty unless asked for."""
    confidence: float | None
    """Probability that the text is exactly right; None where `Model.calibration` cannot say."""


@dataclass(frozen=True, slots=True)
class Generation:
    """The answer to one input: hypotheses, best first and at least one. The properties are the best one's."""

    hypotheses: tuple[Hypothesis, ...]
    source_length: int
    """Tokens of the normalised source."""
    unknown_tokens: int
    """How many of them the vocabulary lacks."""
    model: ModelReference
    source: AnswerSource

    @property
    def text(self) -> str:
        return self.hypotheses[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.hypotheses[0].token_ids

    @property
    def score(self) -> float:
        return self.hypotheses[0].score

    @property
    def confidence(self) -> float | None:
        return self.hypotheses[0].confidence

    @property
    def finish_reason(self) -> FinishReason:
        return self.hypotheses[0].finish_reason


@dataclass(frozen=True, slots=True)
class TargetScore:
    """How probable the model finds a target: `score` is the natural-log probability of all of it."""

    score: float
    token_ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    """Of each token given those before it, then of <E>."""
    source_length: int
    """Tokens of the normalised source."""
    unknown_tokens: int
    """How many of them the vocabulary lacks."""
    model: ModelReference


@dataclass(frozen=True, slots=True)
class InputError:
    """Why one input among several has no answer. A value, not an exception: its neighbours have theirs."""

    code: str
    """Name of a gRPC status code, such as INVALID_ARGUMENT."""
    message: str
    field: str
    """The field at fault, such as inputs[3]; empty when none is."""


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """Tokens that are decided. The texts of all chunks, joined, are the text of the hypothesis."""

    index: int
    """Position of the first token in the target, from 0."""
    token_ids: tuple[int, ...]
    text: str
    log_probabilities: tuple[float, ...]
    """Natural-log probability of each token."""


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


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a person should know before using a model."""

    title: str
    description: str
    licence: str
    data: tuple[DataSource, ...]
    scores: tuple[Score, ...]
    training_commit: str


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
