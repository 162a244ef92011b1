"""A calibration finds the constants that made-up answers came from, and its measures tell true from false."""

import re
from pathlib import Path

import numpy as np
import pytest

from bundle.confidence import curve
from tests.training.short_runs import random_run, said
from training.__main__ import main
from training.calibration import (
    Curve,
    Judged,
    error_by_chance,
    expected_error,
    fit,
    group_by_size,
    group_by_width,
    precisions,
    smoothings_of,
)
from training.checkpoint import load_checkpoint, save_checkpoint
from training.evaluate import Verdict
from training.recipe import Training

ANSWERS = 20_000
EMITTED = 40


def made_up(temperature: float, bias: float, ceiling: float, answers: int = ANSWERS) -> Judged:
    """Answers that are right as often as these constants say."""
    chance = np.random.default_rng(5)
    odds = chance.normal(1, 5, answers)
    true = np.array([curve(one, temperature, bias, ceiling) for one in odds])
    return judged([[-np.logaddexp(0, -one)] for one in odds], chance.random(answers) < true)


def judged(scores: list[list[float]], right: np.ndarray) -> Judged:
    """Answers to sources with one target each."""
    return Judged(scores, right, np.zeros(len(scores), bool), EMITTED)


@pytest.mark.parametrize(
    "constants", [(1.0, 0.0, 0.98), (2.5, 0.0, 0.97), (0.6, -0.8, 0.9), (1.5, 1.0, 0.999)]
)
def test_constants_are_found_again(constants: tuple[float, float, float]) -> None:
    found = fit(made_up(*constants), [0.0])
    assert (found.temperature, found.bias, found.ceiling) == pytest.approx(constants, rel=0.08, abs=0.08)
    assert found.ceiling == pytest.approx(constants[2], abs=0.01)


def test_a_fit_is_true_and_what_it_was_fitted_to_is_not() -> None:
    answers = made_up(2.5, -0.5, 0.9)
    before = Curve(1, 0, 1).confidences(answers)
    after = fit(answers, [0.0]).confidences(answers)
    for group in (group_by_size, group_by_width):
        assert expected_error(group(before, answers.right)) > 0.1
        assert expected_error(group(after, answers.right)) < 0.015


@pytest.mark.parametrize("answers", [400, 10_000])
def test_true_confidences_err_by_chance_as_much_as_is_said(answers: int) -> None:
    """With p (1 - p) / n the variance of a group's accuracy; false ones err more."""
    confidences = np.full(answers, 0.3)
    mean, most = error_by_chance(confidences)
    assert mean == pytest.approx(np.sqrt(2 / np.pi * 0.3 * 0.7 / (answers / 10)), rel=0.05)
    true, false = (np.random.default_rng(3).random(answers) < share for share in (0.3, 0.45))
    assert expected_error(group_by_size(confidences, true)) < most < 1.6 * mean
    assert expected_error(group_by_size(confidences, false)) > most


@pytest.mark.parametrize("right", [True, False])
def test_answers_that_are_all_alike_have_a_curve(right: bool) -> None:
    alike = judged([[-0.3]] * 50, np.full(50, right))
    found = fit(alike, [0.0])
    one = found.confidences(alike)[0]
    assert one > 0.9 if right else one < 0.1
    assert 0.01 <= found.temperature <= 100
    assert 0 < found.ceiling <= 1


def test_measures_are_plain_arithmetic() -> None:
    confidences = np.array([0.95, 0.85, 0.15, 0.85])
    right = np.array([True, True, False, False])
    groups = group_by_width(confidences, right)
    found = [(group.confidence, group.accuracy, group.answers) for group in groups]
    assert found == [(0.15, 0.0, 1), (pytest.approx(0.85), 0.5, 2), (0.95, 1.0, 1)]
    assert expected_error(groups) == pytest.approx((0.15 + 2 * 0.35 + 0.05) / 4)
    assert [group.answers for group in group_by_size(confidences, right)] == [1, 1, 1, 1]
    many = precisions(np.repeat(confidences, 25), np.repeat(right, 25))
    promised = [(one.confidence, one.coverage, one.precision) for one in many]
    assert promised == [(0.5, 0.75, 0.6667), (0.8, 0.75, 0.6667)]  # over 0.9 are 25 answers: too few


def test_ten_groups_of_equal_size() -> None:
    confidences = np.linspace(0, 0.5, 1005)
    groups = group_by_size(confidences, confidences > 0.25)
    assert len(groups) == 10
    assert {group.answers for group in groups} == {100, 101}
    assert [group.confidence for group in groups] == sorted(group.confidence for group in groups)


def test_cut_off_answers_do_not_count() -> None:
    answers = [([3, 0], [-0.1, -0.1]), ([3, 3], [-0.1, -0.1]), ([], [])]
    verdicts = [Verdict("a", "", "", distance, 1, targets) for distance, targets in ((0, 2), (1, 1), (1, 1))]
    whole = Judged.of(answers, verdicts, 4)
    assert (len(whole.odds(0.0)), whole.right.tolist(), whole.several.tolist()) == (1, [True], [True])
    assert Judged.of(answers[1:], verdicts[1:], 4).odds(0.0) == []


def test_a_split_with_more_targets_a_source_stands_for_one_with_fewer() -> None:
    """Answers of one confidence are right more often where several would do; the fit counts them as told."""
    chance = np.random.default_rng(8)
    several = chance.random(ANSWERS) < 0.4
    right = chance.random(ANSWERS) < np.where(several, 0.9, 0.6)
    answers = Judged([[-0.5]] * ANSWERS, right, several, EMITTED)
    assert answers.several_share == pytest.approx(0.4, abs=0.01)
    for share, accuracy in ((None, 0.72), (0.4, 0.72), (0.1, 0.63), (0.0, 0.6), (1.0, 0.9)):
        assert fit(answers, [0.0], share).confidences(answers)[0] == pytest.approx(accuracy, abs=0.01)


@pytest.mark.parametrize("several", [True, False])
def test_no_source_can_stand_for_one_that_is_not_there(several: bool) -> None:
    answers = Judged([[-0.5]] * 4, np.full(4, True), np.full(4, several), EMITTED)
    assert answers.can_stand_for(float(several)) and not answers.can_stand_for(0.3)
    assert answers.weights(float(several)).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("smoothing", [0.0, 0.04, 0.12])
def test_the_smoothing_of_a_taught_model_is_found(smoothing: float) -> None:
    """Answers of 2 to 12 tokens, each right as often as its probability says once smoothing is given back."""
    chance = np.random.default_rng(6)
    true = [1 - chance.beta(0.3, 6, size) for size in chance.integers(2, 13, ANSWERS // 4)]
    scores = [np.log(one * (1 - smoothing) + smoothing / EMITTED).tolist() for one in true]
    right = chance.random(len(true)) < np.array([one.prod() for one in true])
    found = fit(judged(scores, right), smoothings_of(training(taught_by=("0",))))
    assert found.smoothing == pytest.approx(smoothing, abs=0.02)
    assert smoothings_of(training(label_smoothing=0.07)) == (0.07,)


def training(**changes: object) -> Training:
    return Training(epochs=1, patience_epochs=1, **changes)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = random_run(tmp_path / "run", 1)
    (tmp_path / "dev.tsv").write_text("".join(f"{a}{b}\t{a}\n" for a in "abc" for b in "abc"))
    (tmp_path / "mine.tsv").write_text("".join(f"{a}{b}\t{b}\n" for a in "abc" for b in "abc"))
    files = ("--fit", tmp_path / "dev.tsv", "--file", tmp_path / "mine.tsv")
    for options, suffix in (((), ""), (("--beam", 3, "--length-penalty", 0.5), "-beam-3-penalty-0.5")):
        printed = said(capsys, "calibrate", folder, *files, *options)
        assert re.search(r"fitted on dev.tsv\ttemperature [\d.]+, bias -?[\d.]+, ceiling [\d.]+", printed)
        assert re.search(r"mine.tsv\texpected calibration error [\d.]+ in groups of equal size", printed)
        assert re.search(r"by chance\t[\d.]+ were every confidence true, [\d.]+ at most", printed)
        assert "over 0.9\t" in printed
        picture = folder / f"reliability-mine.tsv{suffix}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert printed.endswith(f"{picture}\n")
        assert "several targets" not in printed


def test_the_command_fits_for_the_training_files_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = random_run(tmp_path / "run", 1)
    (tmp_path / "dev.tsv").write_text("ab\ta\tb\nbc\tb\n")
    (tmp_path / "train.tsv").write_text("".join(f"{a}{b}\t{a}\n" for a in "abcde" for b in "ab") + "aa\tb\n")
    (tmp_path / "mine.tsv").write_text("ba\tb\ncb\tc\n")
    files = (
        "--fit",
        tmp_path / "dev.tsv",
        "--file",
        tmp_path / "mine.tsv",
        "--train",
        tmp_path / "train.tsv",
    )
    printed = said(capsys, "calibrate", folder, *files)
    assert "several targets\t50.0% of the sources of dev.tsv, which count as 10.0%\n" in printed
    (tmp_path / "dev.tsv").write_text("ab\ta\nbc\tb\n")
    assert "several targets" not in said(capsys, "calibrate", folder, *files), "none can stand for one"


def test_the_command_needs_a_whole_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = random_run(tmp_path / "run", 1)
    (tmp_path / "pairs.tsv").write_text("ab\ta\n")
    checkpoint = load_checkpoint(folder / "best.safetensors")
    checkpoint.tensors["model.decoder.output.bias"][0] = -100.0  # <E> never comes
    save_checkpoint(folder / "best.safetensors", checkpoint)
    (tmp_path / "mine.tsv").write_text("ba\tb\n")
    files = ["--fit", str(tmp_path / "pairs.tsv"), "--file", str(tmp_path / "mine.tsv")]
    assert main(["calibrate", str(folder), *files]) == 2
    assert "pairs.tsv: no answer is whole" in capsys.readouterr().err
    assert main(["calibrate", str(folder), *files[:2], "--file", files[1]]) == 2
    assert "what is fitted is measured on other pairs" in capsys.readouterr().err
