"""A calibration is fitted on what the default profile answers, and measured on other pairs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import export.calibration
import training.calibration
from bundle.confidence import confidence
from bundle.reader import Bundle, read_bundle
from export.__main__ import main
from export.parity import Answer, Graphs
from export.profiles import Exported
from export.scores import greedy_answers
from training.calibration import expected_error, group_by_size, precisions
from training.checkpoint import Checkpoint, load_checkpoint

LETTERS = "abcdefghij"
DEV, TEST = ([f"{first}{a}{b}" for a in LETTERS for b in LETTERS] for first in "dt")


def made_up(word: str) -> Answer:
    """T0 for every word, as surely as its last letter says; cut off where that is j."""
    sure = -0.02 - 0.3 * LETTERS.index(word[-1])
    return ([2, 0], [sure, -0.01]) if word[-1] != "j" else ([2] * 12, [sure] * 12)


def right(word: str) -> bool:
    """Rarely where the answer is not sure, and not always where it is."""
    return LETTERS.index(word[-2]) > LETTERS.index(word[-1])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Pairs to fit on, and others to measure on."""
    for name, words in (("dev.some.tsv", DEV), ("test.tsv", TEST)):
        lines = (f"{word}\t{'T0' if right(word) else 'T1'}\n" for word in words)
        (tmp_path / name).write_text("".join(lines))
    return tmp_path / "dev.some.tsv", tmp_path / "test.tsv"


def exported(run: Path, repository: Path, *arguments: object) -> Bundle:
    to = ["--name", "tiny", "--version", "1", "--to", str(repository)]
    assert main([str(run), *to, *map(str, arguments)]) == 0
    return read_bundle(repository / "tiny" / "1")


def test_it_is_measured_on_other_pairs_than_it_was_fitted_on(
    tiny_run: Path,
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def answer(exported: Exported, checkpoint: Checkpoint, sources: Sequence[str]) -> list[Answer]:
        assert exported.name == "int8"
        asked.extend(sources)
        return [made_up(source) for source in sources]

    monkeypatch.setattr(export.calibration, "greedy_answers", answer)
    monkeypatch.setattr(training.calibration, "LEAST_ANSWERS", 5)
    manifest = exported(tiny_run, tmp_path, "--dev", files[0], "--score", files[1]).manifest
    assert asked == DEV + TEST
    found, whole = manifest.calibration, [word for word in TEST if word[-1] != "j"]
    assert found is not None
    assert (found.profile, found.smoothing) == ("int8", 0)
    assert (found.dataset, found.sources) == ("dev", 90)
    assert (found.measured_on, found.measured_sources) == ("test", len(whole))
    emitted = manifest.vocabulary.target_size - 1
    confidences = np.array([confidence(found, made_up(word)[1], emitted) for word in whole])
    judged = np.array([right(word) for word in whole])
    assert found.expected_error == expected_error(group_by_size(confidences, judged)) < 0.1
    assert found.precisions == precisions(confidences, judged) != ()
    printed = capsys.readouterr().out
    assert f"calibration\ttemperature {found.temperature:g}, bias {found.bias:g}" in printed
    assert f"expected error {found.expected_error:.4f} on 90 to test" in printed
    assert "these were right on test: over 0.5 " in manifest.card.description
    [error] = [score for score in manifest.card.scores if score.metric == "ECE"]
    assert (error.value, error.dataset) == (round(100 * found.expected_error, 2), "test")


def test_answers_are_the_profiles_own(tiny_run: Path, tiny_bundle: Path) -> None:
    bundle, checkpoint = read_bundle(tiny_bundle), load_checkpoint(tiny_run / "best.safetensors")
    sources = bundle.source.encode_many(DEV)
    start_id, longest = bundle.manifest.vocabulary.start_id, bundle.manifest.limits.max_target_length
    for profile in ("int8", "fp32"):
        graphs = Graphs.load(*(bundle.graphs[f"{part}.{profile}.onnx"] for part in ("encoder", "decoder")))
        one = Exported(profile, b"", b"", (), graphs, [], 0.0)
        assert greedy_answers(one, checkpoint, DEV) == [
            graphs.greedy([source], start_id, longest)[0] for source in sources
        ]


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is T0, as surely as every other."""
    monkeypatch.setattr(
        export.calibration, "greedy_answers", lambda _, __, sources: [([2, 0], [-0.2, -0.2])] * len(sources)
    )


def test_it_is_fitted_for_the_share_of_the_pairs_that_dev_stands_for(
    tiny_run: Path, files: tuple[Path, Path], tmp_path: Path, alike: None
) -> None:
    """Half of dev's sources have several targets, which are always right, and a tenth of train's."""
    dev = (f"{word}\tT0\tT1\n" if word[-1] < "f" else f"{word}\tT1\n" for word in DEV)
    files[0].write_text("".join(dev))
    train = tmp_path / "train.tsv"
    train.write_text("".join(f"{word}\tT0\tT1\n" if word[-1] == "a" else f"{word}\tT0\n" for word in TEST))
    said = []
    for version, more in (("1", ()), ("2", ("--train", train))):
        to = ["--name", "tiny", "--version", version, "--to", str(tmp_path)]
        arguments = ["--dev", files[0], "--score", files[1], *more]
        assert main([str(tiny_run), *to, *map(str, arguments)]) == 0
        manifest = read_bundle(tmp_path / "tiny" / version).manifest
        assert manifest.calibration is not None
        emitted = manifest.vocabulary.target_size - 1
        said.append((manifest.calibration.dataset, confidence(manifest.calibration, [-0.2, -0.2], emitted)))
    assert said[0] == ("dev", pytest.approx(0.5, abs=0.02))
    assert said[1] == ("dev, weighted to 10.0% with several targets", pytest.approx(0.1, abs=0.05))


def test_where_dev_cannot_stand_for_them_it_says_so(
    tiny_run: Path, files: tuple[Path, Path], tmp_path: Path, alike: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """No source of dev has several targets."""
    train = tmp_path / "train.tsv"
    train.write_text("a\tT0\tT1\nb\tT0\n")
    found = exported(tiny_run, tmp_path, "--dev", files[0], "--score", files[1], "--train", train)
    assert found.manifest.calibration is not None and found.manifest.calibration.dataset == "dev"
    assert "calibration\tdev as it is: 0% have several targets" in capsys.readouterr().out


def test_what_dev_stands_for_counts_with_dev_alone(
    tiny_run: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        exported(tiny_run, tmp_path, "--score", files[1], "--train", files[0])
    assert "--train: says what confidence is fitted for" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        exported(tiny_run, tmp_path, "--cascade-beam", "3")
    assert "--cascade-beam: says how wide" in capsys.readouterr().err


def test_what_is_fitted_is_measured_on_other_pairs(
    tiny_run: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.tsv"
    again.write_bytes(Path(files[0]).read_bytes())
    with pytest.raises(AssertionError):
        exported(tiny_run, tmp_path, "--dev", files[0], "--score", again)
    assert "again.tsv: the pairs of --dev" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--dev", "--score"])
def test_without_pairs_for_both_there_is_none(
    option: str, tiny_run: Path, files: tuple[Path, Path], tmp_path: Path
) -> None:
    manifest = exported(tiny_run, tmp_path, option, files[0]).manifest
    assert manifest.calibration is None
    assert not any(score.metric == "ECE" for score in manifest.card.scores)


def test_where_all_answers_are_cut_off_there_is_none(
    tiny_run: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exported(tiny_run, tmp_path, "--dev", files[0], "--score", files[1]).manifest.calibration is None
    assert "calibration\tnone: no answer is whole" in capsys.readouterr().out
