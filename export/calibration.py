"""Fits how sure a profile may be of its greedy answers, and measures it on pairs that it was not fitted on.

Knows nothing of how a bundle is written.
"""

from pathlib import Path

from bundle.card import Calibration
from export.profiles import Exported
from export.scores import greedy_answers, read_pairs
from training.calibration import Judged, expected_error, fit, group_by_size, precisions, smoothings_of
from training.checkpoint import Checkpoint
from training.evaluate import judge


def fit_calibration(
    exported: Exported, checkpoint: Checkpoint, dev: Path, test: Path, train: Path | None = None
) -> Calibration | None:
    """Constants fitted on the pairs of one file, figures measured on those of another.

    With `train`, sources with several targets count as if there were as many of them as in that file.
    None where every answer to one of them was cut off. Raises DataError.
    """
    dataset, fitted_on = _judged(exported, checkpoint, dev)
    measured_on, judged = _judged(exported, checkpoint, test)
    if not fitted_on.scores or not judged.scores:
        return None
    share = None
    if train:
        [part] = read_pairs(train, checkpoint).parts
        if fitted_on.can_stand_for(part.several_share):
            share = part.several_share
            dataset += f", weighted to {share:.1%} with several targets"
        else:
            print(f"calibration\t{dataset} as it is: {fitted_on.several_share:.0%} have several targets")
    curve = fit(fitted_on, smoothings_of(checkpoint.recipe.training), share)
    confidences = curve.confidences(judged)
    return Calibration(
        temperature=curve.temperature,
        bias=curve.bias,
        smoothing=curve.smoothing,
        ceiling=curve.ceiling,
        profile=exported.name,
        dataset=dataset,
        sources=len(fitted_on.scores),
        measured_on=measured_on,
        measured_sources=len(judged.scores),
        expected_error=expected_error(group_by_size(confidences, judged.right)),
        precisions=precisions(confidences, judged.right),
    )


def _judged(exported: Exported, checkpoint: Checkpoint, file: Path) -> tuple[str, Judged]:
    """The name of a file's pairs, and the answers to its sources."""
    split, target = read_pairs(file, checkpoint), checkpoint.texts()[1]
    pairs = split.by_source()
    answers = greedy_answers(exported, checkpoint, list(pairs))
    verdicts = judge([ids for ids, _ in answers], pairs, target)
    return split.name, Judged.of(answers, verdicts, len(target.tokens) - 1)
