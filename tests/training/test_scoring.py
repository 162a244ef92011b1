"""Commands on trained runs: beams, ensembles, comparisons, lists of errors, labels to learn from."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.short_runs import random_run, said
from training.__main__ import main
from training.checkpoint import load_checkpoint, save_checkpoint
from training.data import load_splits
from training.recipe import Card, Files, Limits, Model, Recipe, Text, Training

WORDS = ["ab", "ba", "abc", "cab", "bb", "c"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `first`, `second` (with attention) and `stranger`, and data."""
    home = tmp_path_factory.mktemp("scoring")
    random_run(home / "first", 1)
    random_run(home / "second", 2, attention="general")
    random_run(home / "stranger", 3, letters="abcd")
    (home / "train.tsv").write_text("a\tb\nb\tb\n")
    (home / "test.tsv").write_text("".join(f"{word}\t{word[::-1]}\t{word}{word}\n" for word in WORDS))
    return home


def test_a_beam_is_scored_beside_greedy_decoding(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "evaluate", home / "first").endswith("\tgreedy\n")
    printed = said(capsys, "evaluate", home / "first", "--beam", 3, "--length-penalty", 0.5)
    assert printed.endswith("\tbeam 3, length penalty 0.5\n")
    greedy = json.loads((home / "first" / "scores-test.json").read_text())
    beam = json.loads((home / "first" / "scores-test-beam-3-penalty-0.5.json").read_text())
    assert (greedy["decoding"], beam["decoding"]) == ("greedy", "beam 3, length penalty 0.5")
    assert greedy["sources"] == beam["sources"] == len(WORDS)
    low, high = beam["wer_interval_95"]
    assert low <= beam["wer"] <= high


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--beam", "-1"], "--beam"),
        (["--beam", "33"], "--beam"),
        (["--beam", "wide"], "--beam"),
        (["--beam", "3", "--length-penalty", "-0.1"], "-0.1; 0 to 5 are allowed"),
        (["--beam", "3", "--length-penalty", "5.1"], "5.1; 0 to 5 are allowed"),
        (["--beam", "3", "--length-penalty", "nan"], "nan; 0 to 5 are allowed"),
        (["--beam", "3", "--length-penalty", "much"], "much; 0 to 5 are allowed"),
        (["--beam", "3", "--n-best", "4", "--answers", "x"], "--n-best: 1 to the beam's width, 3"),
        (["--n-best", "2", "--answers", "x"], "--n-best: 1 to the beam's width, 1"),
        (["--beam", "3", "--n-best", "2"], "--n-best: needs --answers FILE"),
        (["--length-penalty", "0.5"], "--length-penalty: ranks a beam; --beam is needed"),
        (["--split", "dev", "--file", "x"], "--split, --file: one of them is allowed"),
        (["--answers", "x", "--errors", "x"], "--errors, --answers: the same file"),
        (["--answers", "nowhere/x"], "there is no folder nowhere"),
        (["--errors", "/"], "is a folder; a file in a folder that exists is wanted"),
    ],
)
def test_decoding_of_no_sense_is_refused(
    arguments: list[str], says: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["evaluate", str(home / "first"), *arguments])
    assert refusal.value.code == 2
    assert says in capsys.readouterr().err


def test_what_is_written_is_a_file(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe is left alone, where a device might lie; what a link points to is written."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemExit):
        main(["evaluate", str(home / "first"), "--errors", str(tmp_path / "pipe")])
    assert "is a device or a pipe" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(tmp_path / "errors.tsv")
    said(capsys, "evaluate", home / "first", "--errors", tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "errors.tsv").read_text().startswith("distance")


def test_a_file_does_not_pass_for_the_split_of_its_name(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "evaluate", home / "first")
    split = (home / "first" / "scores-test.json").read_bytes()
    (tmp_path / "test.tsv").write_text("ab\tba\n")
    assert said(capsys, "evaluate", home / "first", "--file", tmp_path / "test.tsv").startswith("test.tsv\t")
    assert (home / "first" / "scores-test.json").read_bytes() == split
    file = json.loads((home / "first" / "scores-test.tsv.json").read_text())
    assert (file["dataset"], file["sources"]) == ("test.tsv", 1)


def test_other_pairs_do_not_pass_for_the_runs_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under the names that the recipe has, in another folder."""
    folder = random_run(tmp_path / "run", 1)
    found = load_checkpoint(folder / "best.safetensors")
    (tmp_path / "train.tsv").write_text("a\tb\n")
    (tmp_path / "test.tsv").write_text("ab\tba\n")
    sha256 = load_splits(found.recipe)["test"].sha256
    save_checkpoint(folder / "best.safetensors", replace(found, state={"data": {"test": sha256}}))
    said(capsys, "evaluate", folder)
    own = (folder / "scores-test.json").read_bytes()
    (tmp_path / "other").mkdir()
    for name in ("train.tsv", "test.tsv"):
        (tmp_path / "other" / name).write_text("abcabcabca\tb\nc\tc\n")
    printed = said(capsys, "evaluate", folder, folder, "--data", tmp_path / "other")
    assert "not kept" not in printed, "of an ensemble nothing ever is"
    printed = said(capsys, "evaluate", folder, "--data", tmp_path / "other")
    assert "test\tnot kept for the model card: these are not the run's own pairs of that name\n" in printed
    assert "test\t1 sources over 8 tokens count, which the service refuses\n" in printed
    assert (folder / "scores-test.json").read_bytes() == own


def test_labels_never_overwrite_the_words(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = home / "train.tsv"
    before = words.read_bytes()
    for to in (words, home / ".." / home.name / words.name):
        with pytest.raises(SystemExit):
            main(["label", str(home / "first"), "--words", str(words), "--to", str(to)])
        assert "is read; another file is needed" in capsys.readouterr().err
    assert words.read_bytes() == before


def test_nothing_that_is_read_is_overwritten(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = home / "first" / "best.safetensors"
    before = best.read_bytes()
    for option, path in (("--answers", best), ("--errors", best), ("--answers", home / "test.tsv")):
        with pytest.raises(SystemExit):
            main(["evaluate", str(home / "first"), "--file", str(home / "test.tsv"), option, str(path)])
        assert f"{option}: {path} is read" in capsys.readouterr().err
    assert best.read_bytes() == before


def test_words_end_with_a_line_feed_alone(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, to = tmp_path / "words.txt", tmp_path / "labels.tsv"
    words.write_bytes(b"ab\r\nca\rb\n\n")
    assert "of 2 labelled" in said(capsys, "label", home / "first", "--words", words, "--to", to)


def test_the_list_of_answers(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def listed(*options: object) -> list[list[str]]:
        said(capsys, "evaluate", home / "first", "--answers", tmp_path / "answers.tsv", *options)
        header, *lines = (tmp_path / "answers.tsv").read_text().splitlines()
        assert header == "source\trank\tscore\tanswer"
        return [line.split("\t") for line in lines]

    greedy, best = listed(), listed("--beam", 4, "--n-best", 3)
    assert [row[:2] for row in greedy] == [[word, "1"] for word in WORDS]
    ranks = [row[1] for row in best]
    assert ranks == ["1", "2", "3"] * len(WORDS)
    for first, second, third in zip(best[::3], best[1::3], best[2::3], strict=True):
        assert first[0] == second[0] == third[0]
        assert 0 >= float(first[2]) >= float(second[2]) >= float(third[2])
        assert len({row[3] for row in (first, second, third)}) == 3
    assert [row[3] for row in listed("--beam", 4)] == [row[3] for row in best[::3]]


def test_an_ensemble_of_one_model_twice_is_that_model(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rates(*command: object) -> str:
        return said(capsys, "evaluate", *command).rpartition("\t")[0]

    first, second = home / "first", home / "second"
    assert rates(first, first) == rates(first)
    assert rates(first, first, "--beam", 3) == rates(first, "--beam", 3)
    assert said(capsys, "evaluate", first, second).endswith("\tgreedy, 2 models\n")


@pytest.mark.parametrize(
    ("command", "with_data"),
    [
        (["compare", "first"], ()),
        (["calibrate", "--fit", "test.tsv"], ()),
        (["evaluate"], ("--endings", "s")),
    ],
    ids=lambda value: " ".join(value),
)
def test_data_of_which_nothing_would_be_read_is_refused(
    command: list[str],
    with_data: tuple[str, ...],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beside a file; with endings the training pairs are read, the negative control."""
    monkeypatch.chdir(home)
    beside = [*command, "first", "--file", "test.tsv", "--data", str(home)]
    with pytest.raises(SystemExit):
        main(beside)
    assert "--data: nothing of it is read beside --file" in capsys.readouterr().err
    if with_data:
        assert main([*beside, *with_data]) == 0


def test_the_list_of_errors(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = said(capsys, "evaluate", home / "first", "--errors", tmp_path / "errors.tsv")
    header, *rows = [line.split("\t") for line in (tmp_path / "errors.tsv").read_text().splitlines()]
    assert header == ["distance", "source", "answer", "closest target"]
    assert f"WER {100 * len(rows) / len(WORDS):.2f} %" in printed
    assert [int(row[0]) for row in rows] == sorted((int(row[0]) for row in rows), reverse=True)
    for _, source, answered, closest in rows:
        assert closest in (source[::-1], source + source)
        assert answered not in (source[::-1], source + source)


@pytest.mark.parametrize("more", [[], ["--beam", "3", "--n-best", "2"], ["second"]], ids=str)
def test_a_source_that_normalises_to_nothing_is_a_wrong_answer(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lone accents, here, to a run that takes accents off."""
    (tmp_path / "odd.tsv").write_text("\u0301\tab\nab\tba\n\u0302\tb\n")
    first = random_run(tmp_path / "first", 1, strip_accents=True)
    second = str(random_run(tmp_path / "second", 2, strip_accents=True))
    more = [second if option == "second" else option for option in more]
    files = ["--file", tmp_path / "odd.tsv", "--answers", tmp_path / "answers.tsv"]
    printed = said(capsys, "evaluate", first, *more, *files)
    assert "odd.tsv\t2 sources normalise to nothing, which counts as a wrong answer" in printed
    assert "\t3 sources\t" in printed
    answers = (tmp_path / "answers.tsv").read_text().splitlines()
    assert [a for a in answers if a[0] in "\u0301\u0302"] == ["\u0301\t1\t0.0000\t", "\u0302\t1\t0.0000\t"]


def test_two_runs_are_compared(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = said(capsys, "compare", home / "first", home / "first")
    assert "WER of the first minus the second's +0.00 (+0.00 to +0.00)" in printed
    assert (
        "wrong in the first alone 0, in the second alone 0: by chance with probability 1\tgreedy" in printed
    )
    printed = said(capsys, "compare", home / "first", home / "second", "--beam", 2)
    assert re.search(r"PER of the first minus the second's [+-][\d.]+ \(", printed)


def test_labels_become_training_data(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = tmp_path / "words.txt"
    words.write_text("ab\n\nca\tignored\nab\nabcabcabc\na\n")
    to = home / "labels.tsv"
    printed = said(
        capsys, "label", home / "first", home / "second", "--words", words, "--to", to, "--beam", 2
    )
    lines = dict(line.split("\t") for line in to.read_text().splitlines())
    assert lines.keys() <= {"ab", "ca", "a"}  # none twice, and none longer than the limit
    assert f"{len(lines)} of 4 labelled" in printed
    to.write_text(f"{to.read_text()}a\tb\nzz\tab\n")  # one that is in the training data already
    data = Files(folder=".", train="train.tsv", dev="test.tsv", name="-", licence="-", extra=("labels.tsv",))
    recipe = Recipe(
        card=Card(title="", description=""),
        data=data,
        source=Text(level="char"),
        target=Text(level="char"),
        model=Model(embedding_size=4, hidden_size=8),
        training=Training(epochs=1, patience_epochs=1),
        limits=Limits(max_source_length=8, max_target_length=6),
    )
    train = load_splits(recipe, home)["train"]
    assert [pair.source for pair in train.pairs][:2] == ["a", "b"]
    assert train.pairs[-1].source == "zz"
    assert train.repeated == 1 + (lines.get("a") == "b")
    assert len(train.sha256) == 64


def test_runs_with_other_vocabularies_do_not_answer_together(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(home / "first"), str(home / "stranger")]) == 2
    assert "stranger: has another vocabulary than" in capsys.readouterr().err


def test_sources_that_a_training_source_turns_into_are_scored_apart(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(home / "first"), "--endings", "a,b,zz"]
    assert main(arguments) == 0
    whole, apart, count = capsys.readouterr().out.splitlines()
    assert "\t6 sources\t" in whole
    assert apart.startswith("test, no kin in train\t") and "\t3 sources\t" in apart  # abc, cab, c
    assert count == "test\t3 sources are a training one but for an ending"  # ab, ba, bb
