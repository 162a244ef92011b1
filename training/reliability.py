"""Command `python -m training calibrate`: how true a run's confidence is, as a table and as a picture.

The constants are fitted on one set of pairs and measured on another. Writes nothing that a bundle holds:
export fits them anew, to the answers of its own graphs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.arguments import command_parser, parse, refuse_unread_data, split_of
from training.atomic import write_atomically
from training.calibration import (
    LEAST_ANSWERS,
    LEVELS,
    Judged,
    error_by_chance,
    expected_error,
    fit,
    group_by_size,
    group_by_width,
    precisions,
    smoothings_of,
)
from training.data import DataError, Split, load_splits, normalisers, read_split
from training.ensemble import Ensemble, load_ensemble


def run_calibrate(arguments: Sequence[str]) -> int:
    """Prints the table, and draws the reliability plot into the run's folder."""
    parser = command_parser("calibrate", "Fits how sure a run may be of its answers, and measures it.")
    parser.add_argument("runs", type=Path, nargs=1, metavar="RUN", help="run folder")
    parser.add_argument("--fit", type=Path, metavar="FILE", help="fit on this file (default: split dev)")
    parser.add_argument(
        "--train",
        type=Path,
        metavar="FILE",
        help="pairs that those stand for: sources with several targets count as if there were as many of "
        "them as in FILE (default: the recipe's training file; with --fit, none)",
    )
    options = parse(parser, arguments)
    refuse_unread_data(parser, options, read=not options.fit)
    ensemble = load_ensemble(options.runs, options)
    split = split_of(ensemble.checkpoint, options)
    fitted_on, share = _fitted_on(ensemble, options)
    if fitted_on.sha256 == split.sha256:
        raise DataError(f"{split.name}: fitted on and measured on; what is fitted is measured on other pairs")
    fitting = _judged(ensemble, fitted_on)
    if share is not None and not fitting.can_stand_for(share):
        share = None
    curve = fit(fitting, smoothings_of(ensemble.checkpoint.recipe.training), share)
    judged = _judged(ensemble, split)
    confidences, right = curve.confidences(judged), judged.right
    groups = group_by_size(confidences, right)
    picture = options.runs[0] / f"reliability-{split.name}{ensemble.suffix}.png"
    from training.plots import draw_reliability  # slow to import

    title = f"{split.name}, {ensemble.decoding}, fitted on {fitted_on.name}"
    write_atomically(picture, draw_reliability(groups, title))
    print(
        f"fitted on {fitted_on.name}\ttemperature {curve.temperature:g}, bias {curve.bias:g}, "
        f"ceiling {curve.ceiling:g}, smoothing {curve.smoothing:g}\t{ensemble.decoding}"
    )
    if share is not None:
        print(
            f"several targets\t{fitting.several_share:.1%} of the sources of {fitted_on.name}, "
            f"which count as {share:.1%}"
        )
    print("confidence\tright\tanswers")
    for group in groups:
        print(f"{group.confidence:.4f}\t{group.accuracy:.4f}\t{group.answers}")
    by_width = expected_error(group_by_width(confidences, right))
    print(
        f"{split.name}\texpected calibration error {expected_error(groups):.4f} in groups of equal size, "
        f"{by_width:.4f} in groups of equal width\t{len(right)} answers"
    )
    mean, most = error_by_chance(confidences)
    print(f"by chance\t{mean:.4f} were every confidence true, {most:.4f} at most in 95 %")
    found = {promise.confidence: promise for promise in precisions(confidences, right)}
    few = f"fewer than {LEAST_ANSWERS} answers"
    for level in LEVELS:
        one = found.get(level)
        said = f"{one.coverage:.2%} of the answers, {one.precision:.2%} of them right" if one else few
        print(f"over {level:g}\t{said}")
    print(picture)
    return 0


def _judged(ensemble: Ensemble, split: Split) -> Judged:
    """Its answers to a split's sources. Raises DataError where none is whole."""
    answers = ensemble.answers_to(split)
    verdicts = ensemble.judge(split, answers)
    judged = Judged.of(
        [(best.ids, best.scores) for best, *_ in answers],
        verdicts,
        len(ensemble.texts[1].tokens) - 1,  # all but <S>
    )
    if not judged.scores:
        raise DataError(f"{split.name}: no answer is whole; a calibration needs one at least")
    return judged


def _fitted_on(ensemble: Ensemble, options: argparse.Namespace) -> tuple[Split, float | None]:
    """What to fit on; and, where that is said, the share of sources with several targets to fit for."""
    normalise = normalisers(ensemble.checkpoint.recipe)
    splits = {} if options.fit else load_splits(ensemble.checkpoint.recipe, options.data)
    fitted_on = read_split(options.fit, options.fit.name, normalise) if options.fit else splits["dev"]
    stands_for = read_split(options.train, "train", normalise) if options.train else splits.get("train")
    return fitted_on, stands_for.parts[0].several_share if stands_for and stands_for.parts else None
