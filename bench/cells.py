"""`python -m bench.cells`: every kind of cell and of attention on one small recipe, side by side.

Starts the programs of training and export, one after the other, and knows nothing of how either works. A
training that was done is not done again; where something fails, the row says what. Letter: R rows.
"""

import argparse
import csv
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import cells_page
from bench.offline import step_us
from bench.words import choose
from bundle.reader import Bundle, read_bundle
from service.opening import open_engine

CELLS = ("lstm", "lstm-peephole", "lstm-coupled", "lstm-peephole-coupled", "gru", "rnn")
VIEWS = {  # what the decoder sees of the source; all with the first cell
    "last state": (),
    "every step": ("model.context=every-step",),
    "dot": ("model.attention=dot",),
    "general": ("model.attention=general",),
    "additive": ("model.attention=additive",),
}
SMALL = (
    "model.embedding_size=64",
    "model.hidden_size=128",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "model.dropout=0.1",
    "training.epochs=3",
    "training.patience_epochs=3",
    "training.batch_size=128",
    "training.learning_rate=3e-3",
    "training.warmup_steps=200",
    "training.average_decay=0.99",
)
ROWS = (1, 64)


@dataclass
class Row:
    """One network: what it is called, and what was found of it.

    Step times are microseconds by profile and R.
    """

    name: str
    changes: tuple[str, ...]
    figures: dict[str, float] = field(default_factory=dict)
    steps: dict[tuple[str, int], float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """What its run and its bundle are called."""
        return self.name.replace(" ", "-")


def main() -> int:
    """Trains, exports and measures all; writes the page. Returns the exit status: 1 where a row failed."""
    options = _parser().parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser talks
    cells = [Row(cell, (f"model.cell={cell}",)) for cell in CELLS]
    others = [Row(view, changes) for view, changes in VIEWS.items() if changes]
    bundles: list[tuple[Row, Bundle]] = []
    failed = False
    for row in (*cells, *others):
        try:
            _train(row, options)
            bundles.append((row, _export(row, options.to)))
        except Exception as error:  # whatever it was, the other rows go on
            row.notes.append(str(error))
            failed = True
        print(f"{row.name}\t{row.figures}\t{row.notes}", file=sys.stderr, flush=True)
    for number in range(options.rounds):  # round by round: a busy moment strikes one round, not one row
        print(f"step times, round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        for row, bundle in bundles:
            try:
                _measure(row, bundle, options.seconds)
            except Exception as error:
                row.notes.append(f"step: {error}")
                failed = True
    last_state = Row("last state", (), cells[0].figures, cells[0].steps, cells[0].notes)
    cells_page.write(options.page, cells, [last_state, *others], sys.argv[1:])
    print(options.page)
    return 1 if failed else 0


def _train(row: Row, options: argparse.Namespace) -> None:
    """Fills in the error rate and the speed of a run, which goes on where it was stopped."""
    run = options.to / row.folder
    words = ["training", options.recipe, "--run", str(run), "--threads", "1", "--device", "cpu"]
    words += ["--data", str(options.data)] if options.data else []
    for change in (*SMALL, *row.changes, *options.set):
        words += ["--set", change]
    _program(words)
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        epochs = list(csv.DictReader(file))
    row.figures["dev_wer"] = min(float(epoch["dev_wer"]) for epoch in epochs)
    row.figures["training_tokens_s"] = max(float(epoch["tokens_per_cpu_second"]) for epoch in epochs)


def _export(row: Row, home: Path) -> Bundle:
    """The bundle of a run, made anew, with what its manifest says."""
    models = home / "models"
    shutil.rmtree(models / row.folder, ignore_errors=True)
    run = str(home / row.folder)
    _program(["export", run, "--name", row.folder, "--version", "1", "--to", str(models)])
    folder = models / row.folder / "1"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    row.figures["parameters"] = manifest["architecture"]["parameters"]
    for profile in manifest["profiles"]:
        row.notes += [f"{profile['name']}: {note}" for note in profile["notes"]]
    return read_bundle(folder)


def _measure(row: Row, bundle: Bundle, seconds: float) -> None:
    """Microseconds of a decoder step by profile and R: the lowest of the medians of all rounds."""
    limit = bundle.manifest.limits.max_source_length
    sources = [bundle.source.encode(word) for word in choose(None, max(ROWS), limit)]
    for profile in bundle.manifest.profiles:
        for rows in ROWS:
            engine, _ = open_engine(bundle, profile.name, rows, "cpu", 1)
            engine.warm_up()
            found = step_us(engine, sources, seconds)
            key = profile.name, rows
            row.steps[key] = min(found, row.steps.get(key, found))


def _program(words: Sequence[str]) -> None:
    """Runs one of our programs. Raises RuntimeError with its name and the last line that it wrote."""
    result = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError((result.stderr.strip() or f"{words[0]}: no word of why").splitlines()[-1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cells",
        description="Trains each kind of cell and of attention on one small recipe, exports and measures it.",
    )
    parser.add_argument("--recipe", default="g2p-en-tiny", help="made small (default: %(default)s)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="folder of the data files")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override a setting"
    )
    parser.add_argument("--seconds", type=float, default=0.2, help="time of each measure (default 0.2)")
    parser.add_argument("--rounds", type=int, default=5, help="measures of each step (default 5)")
    parser.add_argument("--to", type=Path, default=Path("runs/cells"), help="runs and bundles")
    parser.add_argument("--page", type=Path, default=Path("docs/cells.md"), help="the page to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
