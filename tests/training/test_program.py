"""The command line: what a run leaves behind, and what it refuses."""

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from training.__main__ import main
from training.checkpoint import load_checkpoint, save_checkpoint
from training.evaluate import Scores
from training.recipe import RECIPES, Extra, RecipeError, load_recipe
from training.report import RunFolder
from training.trainer import Trainer


@pytest.fixture(scope="module")
def trained(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("program") / "run"
    assert main(command(tiny_recipe, folder)) == 0
    return folder


def command(recipe: Path, folder: Path, *more: str) -> list[str]:
    return [str(recipe), "--run", str(folder), "--device", "cpu", "--set", "training.epochs=2", *more]


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_run_leaves_its_records(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {
        ".lock",
        "audit.json",
        "best.safetensors",
        "checkpoint.safetensors",
        "curves.png",
        "layers.csv",
        "layers.png",
        "metrics.csv",
        "recipe.json",
        "tensorboard",
    }
    assert len((trained / "metrics.csv").read_text().splitlines()) == 3


def test_an_epoch_is_one_line_however_wide(
    tiny_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(RunFolder, "_draw_curves", lambda folder, history, layers: None)
    assert main(command(tiny_recipe, tmp_path, "--set", "training.epochs=1")) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 1
    assert re.fullmatch(r"epoch 1  loss .* dev WER .* by norm, \d+ % by value", lines[0])


def test_a_finished_run_says_so_and_changes_nothing(
    trained: Path, tiny_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(trained)
    assert main(command(tiny_recipe, trained)) == 0
    assert "this run has ended; nothing to do" in capsys.readouterr().err
    assert contents(trained) == before


def test_another_recipe_in_the_same_folder_is_refused_and_changes_nothing(
    trained: Path, tiny_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(trained)
    for change, named in (
        ("model.dropout=0.1", "model.dropout is 0.2 there and 0.1 here"),
        ("data.train=200", "; train is another file"),
    ):
        assert main(command(tiny_recipe, trained, "--set", change)) == 2
        said = capsys.readouterr().err
        assert "holds a run of another recipe or other data (" in said and named in said
    assert contents(trained) == before


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--threads", "-1", "from 1 to 1024"),
        ("--threads", "0", "from 1 to 1024"),
        ("--device", "cuda", "no GPU"),
    ],
)
def test_what_this_machine_has_not_is_refused(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch, option, value, reason
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    arguments = command(tiny_recipe, tmp_path, option, value)
    try:
        status = main(arguments)
    except SystemExit as error:
        status = error.code
    assert status == 2 and reason in capsys.readouterr().err


def test_a_second_trainer_is_refused(
    trained: Path, tiny_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunFolder(trained).held():
        assert main(command(tiny_recipe, trained)) == 2
    assert "another process is training here" in capsys.readouterr().err
    assert main(command(tiny_recipe, trained)) == 0


def test_a_folder_that_is_no_run_is_left_as_it_is(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("kept")
    (tmp_path / "metrics.csv").write_text("somebody's")
    assert main(command(tiny_recipe, tmp_path)) == 2
    assert "no run's folder, yet it has metrics.csv" in capsys.readouterr().err
    assert (tmp_path / "metrics.csv").read_text() == "somebody's"
    (tmp_path / "metrics.csv").unlink()
    (tmp_path / "recipe.json").write_text('{"eggs": 3}')
    assert main(command(tiny_recipe, tmp_path)) == 2
    assert "yet it has recipe.json" in capsys.readouterr().err
    (tmp_path / "recipe.json").unlink()
    assert main(command(tiny_recipe, tmp_path)) == 0


def test_a_best_model_without_its_checkpoint_is_not_overwritten_by_another_run(
    trained: Path, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that was killed before its first checkpoint begins anew; no other run takes its place."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "checkpoint.safetensors").unlink()
    before = contents(folder)
    assert main(command(tiny_recipe, folder, "--set", "training.seed=5")) == 2
    assert "holds a run of another recipe" in capsys.readouterr().err
    assert contents(folder) == before
    assert main(command(tiny_recipe, folder)) == 0
    best = "best.safetensors"
    assert (folder / best).read_bytes() == (trained / best).read_bytes(), "the same seed, the same file"
    (folder / best).unlink()
    assert main(command(tiny_recipe, folder)) == 2
    assert "has ended, and its best model is gone" in capsys.readouterr().err


@pytest.mark.parametrize("sign", ["history", "examples"])
def test_a_run_that_read_its_data_otherwise_is_refused(
    sign: str, trained: Path, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an earlier version did: its steps were those of other epochs."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    path = folder / "checkpoint.safetensors"
    found = load_checkpoint(path)
    if sign == "history":
        del found.state["examples"]
        found.state["progress"]["history"][0]["step"] += 1
    else:
        found.state["examples"] += 1
    save_checkpoint(path, found)
    assert main(command(tiny_recipe, folder)) == 2
    assert "read the same data as other examples" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_refused(
    trained: Path, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (trained / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.safetensors").write_bytes(content[:-100])
    assert main(command(tiny_recipe, tmp_path)) == 2
    assert f"training: {tmp_path}/checkpoint.safetensors: damaged: " in capsys.readouterr().err
    (tmp_path / "checkpoint.safetensors").write_bytes((trained / "best.safetensors").read_bytes())
    assert main(command(tiny_recipe, tmp_path)) == 2
    assert "cannot go on from it" in capsys.readouterr().err


def test_a_checkpoint_that_lacks_progress_is_refused_by_the_name_of_what_it_lacks(
    trained: Path, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load_checkpoint(trained / "checkpoint.safetensors")
    progress = {name: value for name, value in found.state["progress"].items() if name != "best_wer"}
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, replace(found, state=found.state | {"progress": progress}))
    assert main(command(tiny_recipe, tmp_path)) == 2
    assert f"{path}: cannot go on from it: it lacks 'best_wer'" in capsys.readouterr().err


@pytest.mark.parametrize(("epochs", "best"), [(1, 2), (2, 3), (3, 4)])
def test_the_best_epoch_has_the_lowest_mean_of_the_last_errors(
    epochs: int,
    best: int,
    tiny_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Means of two: 90, 70, 65, 67.5, 70; of three: 90, 70, 73.3, 61.7, 73.3."""
    errors = iter([90.0, 50.0, 80.0, 55.0, 85.0])
    monkeypatch.setattr("training.trainer.evaluate", lambda *_: Scores(next(errors), 0.0, 1))
    monkeypatch.setattr(RunFolder, "_draw_curves", lambda folder, history, layers: None)
    changes = (f"training.mean_of_epochs={epochs}", "training.epochs=5", "training.patience_epochs=5")
    sets = [word for change in (*changes, "data.train=40") for word in ("--set", change)]
    assert main([str(tiny_recipe), "--run", str(tmp_path), "--device", "cpu", *sets]) == 0
    progress = load_checkpoint(tmp_path / "checkpoint.safetensors").state["progress"]
    assert progress["best_epoch"] == best
    assert load_checkpoint(tmp_path / "best.safetensors").state["epoch"] == best


@pytest.mark.parametrize("where", ["loss", "gradient", "weights"])
def test_numbers_that_are_not_finite_stop_the_run_before_best_is_touched(
    where: str,
    tiny_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = Trainer._step

    def step(self: Trainer, indices: Any) -> None:
        last = self.progress["step"] == 2 * self.steps_per_epoch - 1
        weight = self.network.decoder.output.weight
        if last and where == "loss":
            weight.data.fill_(torch.nan)
        if last and where == "gradient":
            weight.register_hook(lambda gradient: gradient * torch.inf)
        real(self, indices)
        if last and where == "weights":
            assert self.average is not None
            next(self.average.module.parameters()).data[0] = torch.nan

    kept: dict[str, bytes] = {}
    monkeypatch.setattr(Trainer, "_step", step)
    monkeypatch.setattr(
        RunFolder, "_draw_curves", lambda folder, history, layers: kept.update(best=folder.best.read_bytes())
    )
    assert main(command(tiny_recipe, tmp_path, "--set", "training.clip_value=0.0")) == 2
    assert re.search(r"the loss is nan|norm is|a weight is not finite", capsys.readouterr().err)
    assert (tmp_path / "best.safetensors").read_bytes() == kept["best"]
    found = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert all(bool(tensor.float().isfinite().all()) for tensor in found.tensors.values())


def test_evaluate_scores_a_split_and_a_file(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(trained)]) == 0
    rates = r"WER [\d.]+ % \([\d.]+ to [\d.]+\)\tPER [\d.]+ % \([\d.]+ to [\d.]+\)"
    assert re.fullmatch(rf"test\t{rates}\t20 sources\tgreedy\n", capsys.readouterr().out)
    (tmp_path / "mine.tsv").write_text("ab\tba\ncd\tdc\n")
    assert main(["evaluate", str(trained), "--file", str(tmp_path / "mine.tsv")]) == 0
    assert capsys.readouterr().out.startswith("mine.tsv\tWER")
    for name in ("test", "mine.tsv"):
        (trained / f"scores-{name}.json").unlink()


def test_evaluate_makes_no_folder_of_a_name_mistyped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("training.epochs=0", "Expected `int` >= 1"),
        ("training.epoch=1", "training: .*unknown field `epoch`; allowed are seed, epochs, "),
        ("training.precision=16-mixed", "'16-mixed'; allowed are 32-true, bf16-mixed"),
        ("model.cell=LSTM", "model.cell: .*'LSTM'; allowed are gru, lstm, "),
        ("model.bidirectional=1", "model.bidirectional: .*; allowed are true and false"),
        ("training.seed=99999999999999999999", "training.seed: "),
        ('data.alphabet=""', "data.alphabet: "),
        ("model.hidden_size=7", "must be even"),
        ("model.embedding_size=2000000", "model.embedding_size: Expected `int` <= 1048576"),
        ("limits.max_source_length=65537", "limits.max_source_length: Expected `int` <= 65536"),
        ("training.bucket_width=1000000000000", "training.bucket_width: Expected `int` <= "),
        ("training.clip_norm=inf", "training.clip_norm: Expected `float` <= 1000000"),
        ("training.clip_value=inf", "training.clip_value: "),
        ("training.learning_rate=inf", "training.learning_rate: "),
        ("training.weight_decay=inf", "training.weight_decay: "),
        ('card.title=""', "card.title: Expected `str` of length >= 1"),  # which no bundle could have
        ("nothing.here=1", "expected table.key=value"),
        ("training.epochs", "expected table.key=value"),
    ],
)
def test_a_wrong_recipe_is_refused_by_the_key(tiny_recipe: Path, change: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        load_recipe(tiny_recipe, [change])


def test_extra_files_are_names_or_tables() -> None:
    change = 'data.extra=["a.tsv", {file = "b.tsv", name = "B", licence = "MIT"}]'
    data = load_recipe(RECIPES / "g2p-en.toml", [change]).data
    plain = Extra(file="a.tsv", name=data.name, licence=data.licence)
    assert data.extras == (plain, Extra(file="b.tsv", name="B", licence="MIT"))
    with pytest.raises(RecipeError, match=r"data.extra.0: .*`nam`; allowed are file, name, licence"):
        load_recipe(RECIPES / "g2p-en.toml", ['data.extra=[{file = "b.tsv", nam = "B"}]'])
    with pytest.raises(RecipeError, match="missing required field `licence`"):
        load_recipe(RECIPES / "g2p-en.toml", ['data.extra=[{file = "b.tsv", name = "B"}]'])


def test_our_recipes_are_good_and_go_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    for path in (Path(__file__).parents[2] / "training" / "recipes").glob("*.toml"):
        assert load_recipe(path).card.title
    assert main(["nothing-of-ours"]) == 2
    assert "nothing-of-ours: none of ours, which are g2p-en, g2p-en-tiny, names-ar-en, reverse" in (
        capsys.readouterr().err
    )
