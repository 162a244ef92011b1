"""Nets that spell backwards learn targets from their ends, are read as all are, and agree with others."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs

from bundle.text import SourceText, TargetText, build_source, build_target
from export.__main__ import main as export
from tests.training.short_runs import random_run, said
from training.__main__ import main
from training.agreement import agree, read_along
from training.beam import BeamOptions
from training.checkpoint import load_checkpoint, save_checkpoint
from training.data import load_splits
from training.evaluate import evaluate, search, spelled
from training.examples import to_examples
from training.model import Seq2Seq
from training.recipe import Model, Recipe, RecipeError, load_recipe
from training.start import make_start

LONGEST = 3
SIZES = Model(embedding_size=4, hidden_size=6, attention="general")
SOURCES = [[2, 3], [4, 3, 2, 4], [3], [2, 2, 2]]


def network(seed: int) -> Seq2Seq:
    """Random weights; three tokens, <unk> among them, and <E>."""
    torch.manual_seed(seed)
    found = Seq2Seq(5, 5, SIZES)
    for parameter in found.parameters():
        parameter.data.mul_(3)
    return found.eval()


def worth(models: list[Seq2Seq], source: list[int], answer: tuple[int, ...]) -> float:
    """A token at a time: the logarithm of the mean probability."""
    total = 0.0
    for place, token in enumerate(answer):
        read = torch.tensor([[models[0].start_id, *answer[:place]]])
        with torch.inference_mode():
            told = torch.tensor([source]), torch.tensor([len(source)]), read
            logits = [model(*told)[0, -1] for model in models]
        total += float(np.log(np.mean([one.double().softmax(0)[token] for one in logits])))
    return total


def mirrored(answer: tuple[int, ...]) -> tuple[int, ...]:
    return (*answer[:-1][::-1], 0)


def test_the_answers_are_the_best_of_all_by_the_mean_of_both_sides() -> None:
    """Both beams are wide enough to find every answer there is."""
    forwards, backwards = [network(1), network(2)], [network(3)]
    options = BeamOptions(width=200, n_best=4, max_length=LONGEST)
    every = [
        (*tokens, 0) for length in range(LONGEST) for tokens in itertools.product((1, 2, 3), repeat=length)
    ]
    for source, found in zip(SOURCES, agree(forwards, backwards, SOURCES, options), strict=True):
        scores = {
            answer: (worth(forwards, source, answer) + worth(backwards, source, mirrored(answer))) / 2
            for answer in every
        }
        best = sorted(scores, key=lambda answer: -scores[answer])[:4]
        assert [one.ids for one in found] == best
        assert [one.score for one in found] == pytest.approx([scores[answer] for answer in best], abs=1e-4)


def test_each_side_brings_hypotheses_of_its_own() -> None:
    """With a beam of one: the answer is that of one side or of the other, whichever both find likelier."""
    forwards, backwards = [network(1)], [network(3)]
    options = BeamOptions(max_length=8)
    own = [best.ids for [best] in search(forwards, SOURCES, options)]
    others = [mirrored(best.ids) for [best] in search(backwards, SOURCES, options)]
    chosen = [best.ids for [best] in agree(forwards, backwards, SOURCES, options)]
    assert all(one in pair for one, pair in zip(chosen, zip(own, others, strict=True), strict=True))
    assert own != others


def test_what_is_read_along_is_worth_what_a_beam_says() -> None:
    models = [network(1), network(2)]
    found = search(models, SOURCES, BeamOptions(3, 1, max_length=8))
    answers = [best.ids for [best] in found]
    scores = [best.score for [best] in found]
    assert read_along(models, SOURCES, answers).tolist() == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize(
    ("ids", "read"), [([5, 6, 7, 0], [7, 6, 5, 0]), ([5, 6, 7], [7, 6, 5]), ([0], [0]), ([], [])]
)
def test_what_was_spelled_backwards_is_read_forwards(ids: list[int], read: list[int]) -> None:
    assert spelled(ids, backwards=True) == read
    assert spelled(ids, backwards=False) == ids


class Backwards:
    """In place of a network: it copies a source from its end."""

    def greedy(
        self, source: torch.Tensor, lengths: torch.Tensor, _: int
    ) -> list[tuple[list[int], list[float]]]:
        rows = zip(source.tolist(), lengths.tolist(), strict=True)
        return [([*row[:length][::-1], 0], [0.0]) for row, length in rows]


def test_dev_is_scored_as_it_is_read() -> None:
    texts = SourceText(build_source("abc", "char")), TargetText(build_target("abc", "char"))
    pairs = {"abc": ("abc",), "ab": ("ab",)}
    network: Seq2Seq = Backwards()  # type: ignore[assignment]
    assert evaluate(network, pairs, texts, 9, backwards=True).wer == 0
    assert evaluate(network, pairs, texts, 9).wer == 100


def test_a_run_learns_its_targets_from_their_ends(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    command = [str(tiny_recipe), "--run", str(folder), "--device", "cpu", "--set", "training.epochs=1"]
    assert main([*command, "--set", "model.backwards=true"]) == 0
    found = load_checkpoint(folder / "best.safetensors")
    assert found.recipe.model.backwards
    split = load_splits(found.recipe)["train"]
    plain, turned = (to_examples(split, *found.texts(), found.recipe.limits, way) for way in (False, True))
    for ids, other, length in zip(plain.target, turned.target, plain.target_lengths, strict=True):
        assert ids[:length].tolist() == other[:length][::-1].tolist()
    assert main(command) == 2
    assert "model.backwards is True there and False here" in capsys.readouterr().err


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Runs `first` and `second`, and `back`, which spells backwards; and data."""
    for seed, name in enumerate(("first", "second", "back")):
        random_run(tmp_path / name, seed)
    turn(tmp_path / "back")
    (tmp_path / "train.tsv").write_text("a\tb\nb\tb\n")
    (tmp_path / "test.tsv").write_text("".join(f"{word}\t{word}\n" for word in ("ab", "cab", "bb", "c")))
    return tmp_path


def turn(folder: Path) -> None:
    """From now on the run's model is one that spells backwards."""
    found = load_checkpoint(folder / "best.safetensors")
    sizes = structs.replace(found.recipe.model, backwards=True)
    turned = replace(found, recipe=structs.replace(found.recipe, model=sizes))
    save_checkpoint(folder / "best.safetensors", turned)


def test_both_kinds_score_and_label_together(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [home / name for name in ("first", "second", "back")]
    printed = said(capsys, "evaluate", *runs, "--beam", 3, "--n-best", 2, "--answers", home / "answers.tsv")
    assert printed.endswith("\tbeam 3, length penalty 0, 3 models, 1 of them backwards\n")
    checkpoints = [load_checkpoint(path / "best.safetensors") for path in runs]
    source, target = checkpoints[0].texts()
    first, second, back = (checkpoint.model() for checkpoint in checkpoints)
    sources = source.encode_many(["ab", "cab", "bb", "c"])
    right = agree([first, second], [back], sources, BeamOptions(3, 2, max_length=6))
    texts = [target.decode([i for i in one.ids if i]) for found in right for one in found]
    rows = [line.split("\t") for line in (home / "answers.tsv").read_text().splitlines()[1:]]
    assert [row[3] for row in rows] == texts
    (home / "words.txt").write_text("ab\ncab\n")
    said(capsys, "label", *runs, "--words", home / "words.txt", "--to", home / "labels.tsv", "--beam", 3)
    labels = dict(line.split("\t") for line in (home / "labels.tsv").read_text().splitlines())
    assert labels == {word: text for word, text in (("ab", texts[0]), ("cab", texts[2])) if text}


def test_alone_it_is_read_forwards(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = {}
    for name in ("back", "second"):
        said(capsys, "evaluate", home / name, "--answers", home / name / "answers.tsv")
        lines = (home / name / "answers.tsv").read_text().splitlines()[1:]
        answers[name] = [line.split("\t")[3] for line in lines]
    found = load_checkpoint(home / "back" / "best.safetensors")
    source, target = found.texts()
    sources = source.encode_many(["ab", "cab", "bb", "c"])
    greedy = [best for [best] in search([found.model()], sources, BeamOptions(max_length=6))]
    assert answers["back"] == [target.decode([i for i in one.ids if i])[::-1] for one in greedy]
    assert json.loads((home / "back" / "scores-test.json").read_text())["decoding"] == "greedy"


@pytest.mark.parametrize("runs", [("first", "back"), ("back", "first")])
def test_without_a_beam_there_is_nothing_to_agree_on(
    runs: tuple[str, str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *(str(home / name) for name in runs)]) == 2
    assert f"{runs[1]}: spells from the other end than " in capsys.readouterr().err


def test_it_is_neither_served_nor_a_teacher_of_the_others(
    home: Path, tiny: Recipe, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export([str(home / "back"), "--name", "back", "--version", "1", "--to", str(home / "models")]) == 2
    assert "spells backwards; a model that spells forwards can be served" in capsys.readouterr().err
    recipe = load_checkpoint(home / "first" / "best.safetensors").recipe
    train = load_splits(recipe)["train"]
    for arguments in ({"start_from": home / "back"}, {"teachers": [home / "first", home / "back"]}):
        with pytest.raises(RecipeError, match=r"back: its model\.backwards is another"):
            make_start(recipe, train, **arguments)
    turned = structs.replace(recipe, model=structs.replace(recipe.model, backwards=True))
    assert len(make_start(turned, train, teachers=[home / "back"]).teachers) == 1
    assert not load_recipe(tiny_recipe).model.backwards
