"""Command line of training: `python -m training RECIPE`, and the commands in `COMMANDS`.

`torchrun --nproc-per-node N -m -- training RECIPE` trains with N processes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from training.arguments import whole_number
from training.checkpoint import CheckpointError
from training.data import DataError, load_splits
from training.gradients import run_gradients
from training.inventing import run_invent
from training.ranks import joined
from training.recipe import RecipeError, completed, find_recipe, load_recipe, recipe_names
from training.reliability import run_calibrate
from training.report import RunFolder, RunFolderError
from training.scoring import run_compare, run_evaluate, run_label
from training.start import best_digest, make_start
from training.trainer import Trainer, TrainingError

COMMANDS = {
    "evaluate": run_evaluate,
    "compare": run_compare,
    "calibrate": run_calibrate,
    "label": run_label,
    "invent": run_invent,
    "gradients": run_gradients,
}


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit status: 0, or 2 for an error that the caller can mend."""
    try:
        if arguments and arguments[0] in COMMANDS:
            return COMMANDS[arguments[0]](arguments[1:])
        return _train(_train_parser().parse_args(arguments))
    except (RecipeError, DataError, CheckpointError, RunFolderError, TrainingError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2


MOST_THREADS = 1024


def _train_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Trains a recipe, or goes on with a run that was stopped or killed.",
        epilog=f"Other commands, each with its own --help: python -m training {' | '.join(COMMANDS)}",
    )
    parser.add_argument(
        "recipe", help=f"a TOML file, or the name of one in training/recipes: {recipe_names()}"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="folder of the data files (default: recipe's)"
    )
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="run folder (default: runs/RECIPE)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override a setting"
    )
    parser.add_argument(
        "--from",
        dest="start_from",
        type=Path,
        metavar="RUN",
        help="start from the weights and vocabularies of another run's best model",
    )
    parser.add_argument(
        "--teacher",
        dest="teachers",
        action="append",
        type=Path,
        default=[],
        metavar="RUN",
        help="learn also what another run's best model expects, with its vocabularies; may be repeated",
    )
    parser.add_argument(
        "--threads",
        type=whole_number(1, MOST_THREADS),
        metavar="N",
        help="CPU threads (default: PyTorch's choice)",
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to compute")
    return parser


def _train(options: argparse.Namespace) -> int:
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = load_recipe(find_recipe(options.recipe), options.set)
    with joined(options.device) as ranks:
        started_from = best_digest(options.start_from) if options.start_from else ""
        recipe = completed(recipe, ranks.count, started_from, tuple(map(best_digest, options.teachers)))
        folder = RunFolder(options.run or Path("runs") / Path(options.recipe).stem, writes=ranks.rank == 0)
        with folder.held():
            splits = load_splits(recipe, options.data)
            start = make_start(recipe, splits["train"], options.start_from, options.teachers)
            trainer = Trainer(recipe, splits, start, folder, options.device, ranks)
            trainer.run()
    if ranks.rank:
        return 0
    progress = trainer.progress
    if progress["finished"]:
        epochs = recipe.training.mean_of_epochs
        wer = "best dev WER" if epochs == 1 else f"best mean dev WER of {epochs} epochs"
        print(f"{wer} {progress['best_wer']:.2f} % (epoch {progress['best_epoch']}): {folder.best}")
    else:
        print(f"stopped at step {progress['step']}; the same command goes on from there")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
