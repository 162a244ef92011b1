"""Fits how sure a profile may be of its greedy answers, and measures it on pairs that it was not fitted on.

Knows nothing of how a bundle is written.
"""

from pathlib import Path

from bundle.card import Calibration
from export.profiles import Exported
from export.scores import greedy_answers, read_pairs
from training.calibration import Judged, expected_error, fit, group_by_size, precisions
from training.checkpoint import Checkpoint
from training.evaluate import judge


def fit_calibration(exported: Exported, checkpoint: Checkpoint, dev: Path, test: Path) -> Calibration | None:
    """Constants fitted on the pairs of one file, figures measured on those of another.

    None where every answer to one of them was cut off. Raises DataError.
    """
    smoothing = checkpoint.recipe.training.label_smoothing
    dataset, fitted_on = _judged(exported, checkpoint, dev, smoothing)
    measured_on, judged = _judged(exported, checkpoint, test, smoothing)
    if not fitted_on.odds or not judged.odds:
        return None
    curve = fit(fitted_on)
    confidences = curve.confidences(judged.odds)
    return Calibration(
        temperature=curve.temperature,
        bias=curve.bias,
        smoothing=smoothing,
        ceiling=curve.ceiling,
        profile=exported.name,
        dataset=dataset,
        sources=len(fitted_on.odds),
        measured_on=measured_on,
        measured_sources=len(judged.odds),
        expected_error=expected_error(group_by_size(confidences, judged.right)),
        precisions=precisions(confidences, judged.right),
    )


def _judged(exported: Exported, checkpoint: Checkpoint, file: Path, smoothing: float) -> tuple[str, Judged]:
    """The name of a file's pairs, and the answers to its sources."""
    split, target = read_pairs(file), checkpoint.texts()[1]
    pairs = split.by_source()
    answers = greedy_answers(exported, checkpoint, list(pairs))
    verdicts = judge([ids for ids, _ in answers], pairs, target)
    right = [verdict.distance == 0 for verdict in verdicts]
    return split.name, Judged.of(answers, right, smoothing, len(target.tokens) - 1)
