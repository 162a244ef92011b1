"""Which hypotheses get a confidence, and how much of it. Knows nothing of text or transport."""

from bundle.confidence import confidence
from bundle.manifest import Manifest
from service.hypothesis import Hypothesis
from service.options import Options


def confidences(manifest: Manifest, options: Options, found: list[Hypothesis]) -> list[float | None]:
    """The probability that each is right; None where it is not whole, and for all where nobody can say.

    That is where the model was not calibrated, or something else than the model decided too.
    """
    if manifest.calibration is None or not _model_decides(options):
        return [None] * len(found)
    emitted = manifest.vocabulary.target_size - 1
    return [
        confidence(manifest.calibration, hypothesis.scores, emitted) if hypothesis.reason == "eos" else None
        for hypothesis in found
    ]


def _model_decides(options: Options) -> bool:
    """Whether any answer may come, and the model's own ranking finds it."""
    return not (
        options.prefix
        or options.sampling
        or options.biases
        or options.banned
        or options.allowed
        or options.lexicon
        or options.min_length
        or options.no_repeat_ngram
    )
