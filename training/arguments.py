"""What commands are told: numbers, where to write; those on trained runs also how to decode, and which pairs.

Knows nothing of what they do with it.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from bundle.values import MOST_BEAM
from training.checkpoint import Checkpoint
from training.data import DataError, Split, load_splits, normalisers, read_split

MOST_LENGTH_PENALTY = 5.0


def command_parser(command: str, description: str, split: bool = True) -> argparse.ArgumentParser:
    """A parser of what says how to decode and, with `split`, of what says which pairs."""
    parser = argparse.ArgumentParser(prog=f"python -m training {command}", description=description)
    parser.add_argument(
        "--beam",
        type=int,
        choices=range(MOST_BEAM + 1),
        default=0,
        metavar="K",
        help="width (default 0: greedy)",
    )
    parser.add_argument(
        "--length-penalty",
        type=_length_penalty,
        default=0.0,
        metavar="X",
        help="a beam ranks by score / length^X (default 0)",
    )
    if split:
        parser.add_argument("--split", help="train, dev or test (default)", choices=("train", "dev", "test"))
        parser.add_argument(
            "--data", type=Path, metavar="FOLDER", help="folder of the data files (default: recipe's)"
        )
        parser.add_argument("--file", type=Path, help="score this file instead of a split of the recipe")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """What such a parser reads. Ends the program where one option would be ignored beside another."""
    options = parser.parse_args(arguments)
    if options.length_penalty and not options.beam:
        parser.error("--length-penalty: ranks a beam; --beam is needed")
    if "split" in options:
        if options.split and options.file:
            parser.error("--split, --file: one of them is allowed")
        options.split = options.split or "test"
    return options


def refuse_unread_data(parser: argparse.ArgumentParser, options: argparse.Namespace, read: bool) -> None:
    """Ends the program where a file replaces all that the folder of the data would be `read` for."""
    if options.file and options.data and not read:
        parser.error("--data: nothing of it is read beside --file; one of them is allowed")


def output(text: str) -> Path:
    """A file that can be written, for all that its folder says."""
    path = Path(os.path.realpath(text))  # what a link points to is written, not the link
    wrong = ""
    if path.is_dir():
        wrong = "is a folder"
    elif path.exists() and not path.is_file():
        wrong = "is a device or a pipe"
    elif not path.parent.is_dir():
        wrong = f"there is no folder {Path(text).parent}"
    if wrong:
        raise argparse.ArgumentTypeError(f"{text}: {wrong}; a file in a folder that exists is wanted")
    return path


def best_models(options: argparse.Namespace) -> list[Path]:
    """The files of the runs that the options name."""
    return [run / "best.safetensors" for run in options.runs]


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """What reads such a number, both bounds among them."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text}: a whole number from {least} to {most} is wanted")
        return int(text)

    return read


def refuse_to_overwrite(
    parser: argparse.ArgumentParser, name: str, written: Path | None, read: Sequence[Path | None]
) -> None:
    """Ends the program where the file of an option is one that is read."""
    for path in read:
        if path and written and path.exists() and written.exists() and written.samefile(path):
            parser.error(f"{name}: {written} is read; another file is needed")


def split_of(checkpoint: Checkpoint, options: argparse.Namespace) -> Split:
    """The pairs that the options name. A file goes by its whole name: test.tsv is not the split test."""
    if options.file:
        return read_split(options.file, options.file.name, normalisers(checkpoint.recipe))
    splits = load_splits(checkpoint.recipe, options.data)
    if options.split not in splits:
        raise DataError(f"split {options.split!r}: the recipe has {', '.join(splits)}")
    return splits[options.split]


def _length_penalty(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MOST_LENGTH_PENALTY:  # nor is what is not a number
        raise argparse.ArgumentTypeError(f"{text}; 0 to {MOST_LENGTH_PENALTY:g} are allowed")
    return value
