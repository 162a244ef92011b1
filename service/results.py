"""What a sequence that has ended is to its caller: an answer with its texts, or an error.

Knows nothing of queues, shared answers or transport.
"""

import logging
from collections.abc import Sequence as Sized
from typing import Literal

from msgspec import Struct

from bundle.reader import Bundle
from service.confidence import confidences
from service.dispatcher import Submission
from service.errors import DeadlineExceeded, DeviceGone, Draining, Internal, ServiceError
from service.hypothesis import Hypothesis, Outcome

log = logging.getLogger(__name__)


class Answer(Struct, frozen=True):
    """What became of one input. Equal inputs may share one answer: it is never changed."""

    hypotheses: list[Hypothesis]  # best first
    texts: list[str]  # of each hypothesis
    source_length: int
    unknown_tokens: int
    confidences: Sized[float | None]  # of each hypothesis
    source: Literal["model", "lexicon"] = "model"


class Chunk(Struct, frozen=True):
    """Tokens that a stream has decided on, and what they add to the text."""

    index: int
    token_ids: list[int]
    text: str
    scores: list[float]


Result = Answer | ServiceError


def result_of(submission: Submission, bundle: Bundle) -> Result:
    """What became of a sequence that has ended. A failure is logged under its error id."""
    assert submission.ended is not None
    outcome, found = submission.ended.outcome, submission.ended.hypotheses
    if found:
        likely = confidences(bundle.manifest, submission.options, found)
        return answer_of(found, submission.source_ids, likely, bundle)
    if outcome is Outcome.DEADLINE:
        return too_late()
    if outcome is Outcome.DRAINED:
        return Draining("the server stopped before the answer was complete")
    if outcome is Outcome.LOST:
        return DeviceGone("the device that decoded was lost before the answer was complete")
    error = Internal()
    log.error("a sequence failed", extra={"error_id": error.error_id})
    return error


def answer_of(
    found: list[Hypothesis],
    ids: list[int],
    likely: Sized[float | None],
    bundle: Bundle,
    source: Literal["model", "lexicon"] = "model",
) -> Answer:
    """Hypotheses for a source's ids as an answer, with the texts. `likely`: the confidence in each."""
    texts = [bundle.target.decode(hypothesis.tokens) for hypothesis in found]
    unknown = ids.count(bundle.manifest.vocabulary.source_unknown_id)
    return Answer(found, texts, len(ids), unknown, likely, source)


def size_bytes(submission: Submission, answer: Answer) -> int:
    """About what a kept answer and its key take in memory."""
    options = submission.options
    entries = len(options.prefix) + len(options.allowed) + len(options.banned) + len(options.biases)
    tokens = sum(len(hypothesis.scores) for hypothesis in answer.hypotheses)
    pairs = tokens * options.alternatives
    weights = tokens * len(submission.source_ids) if options.alignments else 0
    sizes = 8 * len(submission.source_ids) + 64 * (entries + tokens) + 112 * pairs + 32 * weights
    return len(options.lexicon) + sizes


def too_late() -> DeadlineExceeded:
    """Nothing whole was found in time."""
    return DeadlineExceeded("the deadline passed before the answer was complete")
