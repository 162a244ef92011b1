"""The model card: whence the data, and scores of the model that is exported, and of no other."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

pytest.importorskip("torch")

from export.card import make_card
from training.__main__ import main
from training.checkpoint import load_checkpoint
from training.data import DataError, audit, load_splits
from training.recipe import Extra, Files


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run that was evaluated on two words."""
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "words.tsv").write_text("chair\tT1 T2\nlift\tT3\n")
    assert main(["evaluate", str(folder), "--file", str(tmp_path / "words.tsv")]) == 0
    return folder


def scored(run: Path) -> list[str]:
    card = make_card(load_checkpoint(run / "best.safetensors"), run)
    return [f"{score.metric} {score.dataset}" for score in card.scores]


def test_scores_have_their_intervals(run: Path) -> None:
    measured = json.loads((run / "scores-words.tsv.json").read_bytes())
    wer, per = make_card(load_checkpoint(run / "best.safetensors"), run).scores
    for score, name in ((wer, "wer"), (per, "per")):
        assert score.value == pytest.approx(measured[name], abs=0.005)
        assert score.interval_95 == pytest.approx(measured[f"{name}_interval_95"], abs=0.005)


def test_scores_name_their_model(run: Path) -> None:
    scores = json.loads((run / "scores-words.tsv.json").read_bytes())
    assert scores["model_sha256"] == hashlib.sha256((run / "best.safetensors").read_bytes()).hexdigest()
    assert scored(run) == ["WER words.tsv", "PER words.tsv"]


def test_each_file_has_its_own_name_licence_and_count(tmp_path: Path, tiny_run: Path) -> None:
    """A plain extra file has the training file's; the test split has none of the extra ones."""
    for file in ("train", "more", "names", "dev", "test"):
        (tmp_path / f"{file}.tsv").write_text(f"chair\tT1\n{file}\tT2\n")
    extra = ("more.tsv", Extra(file="names.tsv", name="Census", licence="CC0-1.0"))
    names = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv", "extra": extra}
    files = Files(folder=str(tmp_path), name="Words", licence="MIT", **names)
    found = load_checkpoint(tiny_run / "best.safetensors")
    recipe = structs.replace(found.recipe, data=files)
    report = audit(load_splits(recipe))
    (tmp_path / "audit.json").write_text(json.dumps(report))
    shutil.copy(tiny_run / "best.safetensors", tmp_path)
    sources = make_card(replace(found, recipe=recipe), tmp_path).data
    assert [(one.split, one.name, one.licence, one.examples) for one in sources] == [
        ("train", "Words", "MIT", 2),
        ("train", "Words", "MIT", 1),
        ("train", "Census", "CC0-1.0", 1),
        ("dev", "Words", "MIT", 2),
        ("test", "Words", "MIT", 2),
    ]
    for source, file in ((sources[0], "train.tsv"), (sources[2], "names.tsv")):
        assert source.sha256 == hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
    for split in ("train", "dev", "test"):  # an older audit counted no files
        del report[split]["files"]
    (tmp_path / "audit.json").write_text(json.dumps(report))
    sources = make_card(replace(found, recipe=recipe), tmp_path).data
    assert [(one.split, one.name, one.examples) for one in sources] == [
        ("train", "Words", 4),
        ("dev", "Words", 2),
        ("test", "Words", 2),
    ]


def test_the_cards_recipe_names_no_folder_of_extra_files(tiny_run: Path) -> None:
    found = load_checkpoint(tiny_run / "best.safetensors")
    extra = ("/secret/more.tsv", Extra(file="../secret/names.tsv", name="Census", licence="CC0-1.0"))
    recipe = structs.replace(found.recipe, data=structs.replace(found.recipe.data, extra=extra))
    told = make_card(replace(found, recipe=recipe), tiny_run).recipe["data"]["extra"]
    assert told == ["more.tsv", {"file": "names.tsv", "name": "Census", "licence": "CC0-1.0"}]


@pytest.mark.parametrize(
    ("digest", "says"), [("0" * 64, "of another model"), (None, "of a model that it does not name")]
)
def test_scores_of_another_model_are_left_out_and_named(
    digest: str | None, says: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "scores-words.tsv.json"
    scores = json.loads(path.read_bytes()) | {"model_sha256": digest}
    path.write_text(json.dumps({key: value for key, value in scores.items() if value is not None}))
    capsys.readouterr()
    assert scored(run) == []
    assert f"scores\t{path.name} left out: {says}; evaluate the run again" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{", "[]", "7"])
def test_scores_that_cannot_be_read_are_named(content: str, run: Path) -> None:
    path = run / "scores-words.tsv.json"
    path.write_text(content)
    with pytest.raises(DataError, match=f"{path}: .*; evaluate the run again"):
        scored(run)
