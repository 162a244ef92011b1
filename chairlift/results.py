"""What the client hands back for inputs: frozen values, one for each message of the wire.

Knows nothing of gRPC, or of models but their names.
"""

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
    """The model version that answered. `digest`: of what it learnt, and of its lexicon."""

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
