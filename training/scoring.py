"""Commands on trained runs: `python -m training evaluate | compare | label`.

Several runs answer together, as an ensemble: the mean of their probabilities decides.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.text import SourceText, TargetText
from training.atomic import write_atomically
from training.beam import BeamOptions
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from training.data import DataError, Split, load_splits, read_split
from training.evaluate import Verdict, answer, judge, score, search
from training.model import Seq2Seq
from training.report import RunFolder
from training.significance import compare, intervals

MOST_BEAM = 64


@dataclass(frozen=True)
class Ensemble:
    """The best models of one run or more, which share their vocabularies, and how they decode."""

    checkpoint: Checkpoint  # the first
    models: list[Seq2Seq]
    options: BeamOptions
    is_beam: bool

    @property
    def texts(self) -> tuple[SourceText, TargetText]:
        """How they read and write."""
        return self.checkpoint.texts()

    @property
    def decoding(self) -> str:
        """For people and model cards."""
        beam = f"beam {self.options.width}, length penalty {self.options.length_penalty:g}"
        together = f", {len(self.models)} models" if len(self.models) > 1 else ""
        return (beam if self.is_beam else "greedy") + together

    def answers(self, sources: Sequence[Sequence[int]]) -> list[list[int]]:
        """The best ids of each source. One model's greedy answers are made as the service makes them."""
        if self.is_beam or len(self.models) > 1:
            found = search(self.models, sources, self.options)
            return [list(best.ids) for best, *_ in found]
        greedy = answer(self.models[0], sources, self.options.max_length)
        return [ids for ids, _ in greedy]

    def verdicts(self, split: Split) -> list[Verdict]:
        """Its answers to a split's sources, judged."""
        grouped = split.by_source()
        source, target = self.texts
        return judge(self.answers(source.encode_many(list(grouped))), grouped, target)


def load_ensemble(runs: Sequence[Path], options: argparse.Namespace) -> Ensemble:
    """Raises CheckpointError when a run has no best model, or another vocabulary than the first."""
    checkpoints = [load_checkpoint(run / "best.safetensors") for run in runs]
    first = checkpoints[0]
    for run, other in zip(runs, checkpoints, strict=True):
        if (other.source_text, other.target_text) != (first.source_text, first.target_text):
            raise CheckpointError(f"{run}: has another vocabulary than {runs[0]}")
    width = options.beam or 1
    beam = BeamOptions(width, 1, options.length_penalty, first.recipe.limits.max_target_length)
    return Ensemble(first, [checkpoint.model() for checkpoint in checkpoints], beam, bool(options.beam))


def run_evaluate(arguments: Sequence[str]) -> int:
    """Scores runs on a split; a single run's scores are kept in its folder."""
    parser = _parser("evaluate", "Scores the best model of a run, or of several together: WER and PER.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("--errors", type=Path, metavar="FILE", help="list the wrong answers, worst first")
    options = parser.parse_args(arguments)
    ensemble = load_ensemble(options.runs, options)
    split = _split(ensemble.checkpoint, options)
    verdicts = ensemble.verdicts(split)
    scores, (wer, per) = score(verdicts), intervals(verdicts)
    if len(options.runs) == 1:
        RunFolder(options.runs[0]).write_scores(
            f"{split.name}-beam-{options.beam}" if options.beam else split.name,
            {
                "dataset": split.name,
                "sha256": split.sha256,
                "examples": split.examples,
                "decoding": ensemble.decoding,
                "wer": scores.wer,
                "per": scores.per,
                "sources": scores.sources,
                "wer_interval_95": wer,
                "per_interval_95": per,
            },
        )
    if options.errors:
        write_atomically(options.errors, _error_list(verdicts))
    print(
        f"{split.name}\tWER {scores.wer:.2f} % ({wer[0]:.2f} to {wer[1]:.2f})\t"
        f"PER {scores.per:.2f} % ({per[0]:.2f} to {per[1]:.2f})\t"
        f"{scores.sources} sources\t{ensemble.decoding}"
    )
    return 0


def run_compare(arguments: Sequence[str]) -> int:
    """Compares two runs on the same sources."""
    parser = _parser("compare", "Compares the best models of two runs on the same sources.")
    parser.add_argument("first", type=Path, metavar="RUN")
    parser.add_argument("second", type=Path, metavar="RUN")
    options = parser.parse_args(arguments)
    first, second = (load_ensemble([run], options) for run in (options.first, options.second))
    split = _split(first.checkpoint, options)
    found = compare(first.verdicts(split), second.verdicts(split))
    for name, value, (low, high) in (
        ("WER", found.wer, found.wer_interval),
        ("PER", found.per, found.per_interval),
    ):
        print(
            f"{split.name}\t{name} of the first minus the second's {value:+.2f} ({low:+.2f} to {high:+.2f})"
        )
    print(
        f"{split.name}\twrong in the first alone {found.only_first_wrong}, in the second alone "
        f"{found.only_second_wrong}: by chance with probability {found.chance:.2g}\t{first.decoding}"
    )
    return 0


def run_label(arguments: Sequence[str]) -> int:
    """Answers a list of sources; the file that comes out can be learnt from (`data.extra`)."""
    parser = _parser(
        "label", "Writes what runs answer as a training file, to teach another model.", split=False
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("--words", type=Path, required=True, metavar="FILE", help="sources: the first column")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="the file to write")
    options = parser.parse_args(arguments)
    ensemble = load_ensemble(options.runs, options)
    source, target = ensemble.texts
    lines = options.words.read_text(encoding="utf-8-sig").splitlines()
    words = dict.fromkeys(line.split("\t")[0].strip() for line in lines)
    longest = ensemble.checkpoint.recipe.limits.max_source_length
    usable = {word: ids for word in words if word and 0 < len(ids := source.encode(word)) <= longest}
    written = []
    for word, ids in zip(usable, ensemble.answers(list(usable.values())), strict=True):
        text = target.decode([token for token in ids if token != 0])
        if text and ids[-1] == 0:  # cut off at the limit, it would teach to ramble
            written.append(f"{word}\t{text}\n")
    write_atomically(options.to, "".join(written).encode())
    print(f"{options.to}\t{len(written)} of {len(words)} labelled\t{ensemble.decoding}")
    return 0


def _parser(command: str, description: str, split: bool = True) -> argparse.ArgumentParser:
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
        "--length-penalty", type=float, default=0.0, help="a beam ranks by score / length^this (default 0)"
    )
    if split:
        parser.add_argument(
            "--split", default="test", help="train, dev or test (default)", choices=("train", "dev", "test")
        )
        parser.add_argument(
            "--data", type=Path, metavar="FOLDER", help="folder of the data files (default: recipe's)"
        )
        parser.add_argument("--file", type=Path, help="score this file instead of a split of the recipe")
    return parser


def _split(checkpoint: Checkpoint, options: argparse.Namespace) -> Split:
    if options.file:
        return read_split(options.file, options.file.stem)
    splits = load_splits(checkpoint.recipe, options.data)
    if options.split not in splits:
        raise DataError(f"split {options.split!r}: the recipe has {', '.join(splits)}")
    return splits[options.split]


def _error_list(verdicts: Sequence[Verdict]) -> bytes:
    """Distance, source, answer and closest target, tab-separated."""
    wrong = sorted(
        (verdict for verdict in verdicts if verdict.distance), key=lambda v: (-v.distance, v.source)
    )
    lines = [f"{v.distance}\t{v.source}\t{v.answer}\t{v.closest}\n" for v in wrong]
    return "".join(["distance\tsource\tanswer\tclosest target\n", *lines]).encode()
