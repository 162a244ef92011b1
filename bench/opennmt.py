"""`python -m bench.opennmt`: how fast training is beside OpenNMT-py's, with the same pairs and sizes.

OpenNMT-py is in an environment of its own, whose interpreter is told; version 3.5.1 runs with the PyTorch
that is locked here, though it asks for an older one. A network of 2 x 256 LSTM units without attention learns
from batches of 256 pairs. Tokens are those of sources and targets; a second is one of the clock, so nothing
else must run.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.machine import describe

BATCH, UPDATES = 256, 100
SIZE, LAYERS, DROPOUT = 256, 2, 0.25
SPEED = re.compile(r"(\d+)/ *(\d+) tok/s")  # OpenNMT-py's, of sources and of targets
OURS = {
    "model.embedding_size": SIZE,
    "model.hidden_size": SIZE,
    "model.encoder_layers": LAYERS,
    "model.decoder_layers": LAYERS,
    "model.bidirectional": False,
    "model.dropout": DROPOUT,
    "training.batch_size": BATCH,
    "training.epochs": 2,
}
PRECISIONS = ("bf16-mixed", "32-true")  # the recipes' own, and the only one that OpenNMT-py has on a CPU


def main(arguments: Sequence[str]) -> int:
    """Trains with both, prints speeds and ratios as JSON. Returns the exit status."""
    options = _parser().parse_args(arguments)
    lines = options.pairs.read_text(encoding="utf-8").splitlines()[: BATCH * UPDATES]
    try:
        figures = _compare(lines, options.python, options.threads)
    except subprocess.CalledProcessError as error:
        print(f"{error}\n{error.stdout}", file=sys.stderr)
        return 1
    print(json.dumps(figures | {"threads": options.threads, "machine": describe()}, indent=2))
    return 0


def _compare(lines: Sequence[str], python: str, threads: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs = _theirs(lines, folder, python, threads)
        figures: dict[str, object] = {"opennmt.fp32": theirs}
        for precision in PRECISIONS:
            ours = _ours(lines, folder / precision, precision, threads)
            figures |= {f"chairlift.{precision}": ours, f"ratio.{precision}": round(ours / theirs, 2)}
    return figures


def _theirs(lines: Sequence[str], folder: Path, python: str, threads: int) -> float:
    """Tokens a second that OpenNMT-py reports at the end."""
    pairs = [line.split("\t")[:2] for line in lines]
    sides = {"src": [" ".join(source) for source, _ in pairs], "tgt": [target for _, target in pairs]}
    for side, texts in sides.items():
        (folder / side).write_text("\n".join(texts) + "\n", encoding="utf-8")
        tokens = sorted({token for text in texts for token in text.split()})
        (folder / f"{side}.vocab").write_text("".join(f"{token}\t1\n" for token in tokens), encoding="utf-8")
    settings = {
        "data": {
            "pairs": {"path_src": str(folder / "src"), "path_tgt": str(folder / "tgt"), "transforms": []}
        },
        "src_vocab": str(folder / "src.vocab"),
        "tgt_vocab": str(folder / "tgt.vocab"),
        "save_data": str(folder / "data"),
        "save_model": str(folder / "model"),
        "encoder_type": "rnn",
        "decoder_type": "rnn",
        "rnn_type": "LSTM",
        "global_attention": "none",
        "layers": LAYERS,
        "hidden_size": SIZE,
        "word_vec_size": SIZE,
        "dropout": [DROPOUT],
        "batch_size": BATCH,
        "batch_type": "sents",
        "optim": "adam",
        "learning_rate": 0.001,
        "train_steps": 2 * UPDATES,
        "report_every": UPDATES,
        "num_workers": 0,
    }
    config = folder / "opennmt.yaml"
    config.write_text(json.dumps(settings), encoding="utf-8")  # which is YAML, too
    said = _run([python, "-m", "onmt.bin.train", "-config", str(config)], threads)
    *_, (sources, targets) = SPEED.findall(said)
    return float(sources) + float(targets)


def _ours(lines: Sequence[str], folder: Path, precision: str, threads: int) -> float:
    """Tokens a second of the last epoch."""
    folder.mkdir()
    for name, part in (("train", lines), ("dev", lines[:BATCH]), ("test", lines[:BATCH])):
        (folder / f"{name}.tsv").write_text("\n".join(part) + "\n", encoding="utf-8")
    words = ["-m", "training", "g2p-en-tiny", "--data", str(folder), "--run", str(folder / "run")]
    words += ["--threads", str(threads), "--device", "cpu"]
    for key, value in (OURS | {"training.precision": precision}).items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    _run([sys.executable, *words], threads)
    with (folder / "run" / "metrics.csv").open(encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    return float(last["tokens_per_second"])


def _run(words: Sequence[str], threads: int) -> str:
    """Runs a program. Returns what it printed. Raises CalledProcessError."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        words, env=environment, text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.stdout


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.opennmt", description=__doc__)
    parser.add_argument("--python", required=True, help="the interpreter that has OpenNMT-py")
    parser.add_argument("--pairs", type=Path, required=True, help="lines of a word, a tab, and its phonemes")
    parser.add_argument("--threads", type=int, default=2, help="of each training (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
