"""Command line of training: `python -m training RECIPE`, `python -m training evaluate RUN`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from training.checkpoint import CheckpointError, load_checkpoint
from training.data import DataError, load_splits, read_split
from training.evaluate import evaluate
from training.recipe import RecipeError, load_recipe
from training.report import RunFolder, RunFolderBusyError
from training.trainer import Trainer, TrainingError

RECIPES = Path(__file__).parent / "recipes"


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit status: 0, or 2 for an error that the caller can mend."""
    try:
        if arguments and arguments[0] == "evaluate":
            return _evaluate(_evaluate_parser().parse_args(arguments[1:]))
        return _train(_train_parser().parse_args(arguments))
    except (RecipeError, DataError, CheckpointError, RunFolderBusyError, TrainingError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2


def _train_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Trains a recipe, or goes on with a run that was stopped or killed.",
        epilog="python -m training evaluate RUN scores a trained run on its test split.",
    )
    parser.add_argument(
        "recipe", help=f"a TOML file, or the name of one in training/recipes: {_recipe_names()}"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="folder of the data files (default: recipe's)"
    )
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="run folder (default: runs/RECIPE)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override a setting"
    )
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to compute")
    return parser


def _train(options: argparse.Namespace) -> int:
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = load_recipe(_recipe_path(options.recipe), options.set)
    folder = RunFolder(options.run or Path("runs") / Path(options.recipe).stem)
    with folder.held():
        trainer = Trainer(recipe, load_splits(recipe, options.data), folder, options.device)
        trainer.run()
    progress = trainer.progress
    if progress["finished"]:
        print(f"best dev WER {progress['best_wer']:.2f} % (epoch {progress['best_epoch']}): {folder.best}")
    else:
        print(f"stopped at step {progress['step']}; the same command goes on from there")
    return 0


def _recipe_path(recipe: str) -> Path:
    """A name without .toml stands for a recipe of ours."""
    return Path(recipe) if recipe.endswith(".toml") else RECIPES / f"{recipe}.toml"


def _recipe_names() -> str:
    return ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))


def _evaluate_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training evaluate", description="Scores the best model of a run: greedy WER and PER."
    )
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument(
        "--split", default="test", help="train, dev or test (default)", choices=("train", "dev", "test")
    )
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="folder of the data files (default: recipe's)"
    )
    parser.add_argument("--file", type=Path, help="score this file instead of a split of the recipe")
    return parser


def _evaluate(options: argparse.Namespace) -> int:
    folder = RunFolder(options.run)
    checkpoint = load_checkpoint(folder.best)
    if options.file:
        split = read_split(options.file, options.file.stem)
    else:
        splits = load_splits(checkpoint.recipe, options.data)
        if options.split not in splits:
            raise DataError(f"split {options.split!r}: the recipe has {', '.join(splits)}")
        split = splits[options.split]
    limit = checkpoint.recipe.limits.max_target_length
    scores = evaluate(checkpoint.model(), split.by_source(), checkpoint.texts(), limit)
    folder.write_scores(
        split.name,
        {
            "dataset": split.name,
            "sha256": split.sha256,
            "examples": split.examples,
            "decoding": "greedy",
            "wer": scores.wer,
            "per": scores.per,
            "sources": scores.sources,
        },
    )
    print(f"{split.name}\tWER {scores.wer:.2f} %\tPER {scores.per:.2f} %\t{scores.sources} sources")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
