"""Commands on trained runs: `python -m training evaluate | compare | label`.

Knows nothing of how answers are found.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bundle.text import TargetText
from bundle.values import MOST_BEAM
from training.atomic import write_atomically
from training.beam import Hypothesis
from training.checkpoint import Checkpoint
from training.data import DataError, Split, find_kin, load_splits, normalisers, read_split
from training.ensemble import load_ensemble
from training.evaluate import Verdict, score
from training.examples import UNKNOWN_ID
from training.report import RunFolder
from training.significance import compare, intervals
from training.start import best_digest

MOST_LENGTH_PENALTY = 5.0


def run_evaluate(arguments: Sequence[str]) -> int:
    """Scores runs on a split; a single run's scores are kept in its folder."""
    options = _evaluate_options(arguments)
    model_sha256 = best_digest(options.runs[0])  # first: what replaces that model later has another
    ensemble = load_ensemble(options.runs, options)
    split = split_of(ensemble.checkpoint, options)
    answers = ensemble.answers_to(split)
    verdicts = ensemble.judge(split, answers)
    scores, (wer, per) = score(verdicts), intervals(verdicts)
    if len(options.runs) == 1 and not _are_the_runs_own(split, ensemble.checkpoint):
        print(f"{split.name}\tnot kept for the model card: these are not the run's own pairs of that name")
    elif len(options.runs) == 1:
        RunFolder(options.runs[0]).write_scores(
            f"{split.name}{ensemble.suffix}",
            {
                "model_sha256": model_sha256,
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
    if options.answers:
        write_atomically(options.answers, _answer_list(split, answers, ensemble.texts[1]))
    _tell(split.name, verdicts, ensemble.decoding)
    normalise, longest = ensemble.texts[0].normalise, ensemble.checkpoint.recipe.limits.max_source_length
    lengths = map(len, ensemble.texts[0].encode_many([verdict.source for verdict in verdicts]))
    if long := sum(length > longest for length in lengths):
        print(f"{split.name}\t{long} sources over {longest} tokens count, which the service refuses")
    if nothing := sum(not normalise(verdict.source) for verdict in verdicts):
        print(f"{split.name}\t{nothing} sources normalise to nothing, which counts as a wrong answer")
    if options.endings:
        train = load_splits(ensemble.checkpoint.recipe, options.data)["train"]
        kin = find_kin([normalise(verdict.source) for verdict in verdicts], train.sources(), options.endings)
        others = [verdict for verdict in verdicts if normalise(verdict.source) not in kin]
        if others:
            _tell(f"{split.name}, no kin in train", others, ensemble.decoding)
        print(f"{split.name}\t{len(kin)} sources are a training one but for an ending")
    return 0


def _are_the_runs_own(split: Split, checkpoint: Checkpoint) -> bool:
    """Whether the pairs are those that the run knows by that name, if it knows any."""
    known: dict[str, str] = checkpoint.state.get("data", {})
    return known.get(split.name, split.sha256) == split.sha256


def _tell(name: str, verdicts: Sequence[Verdict], decoding: str) -> None:
    scores, (wer, per) = score(verdicts), intervals(verdicts)
    print(
        f"{name}\tWER {scores.wer:.2f} % ({wer[0]:.2f} to {wer[1]:.2f})\t"
        f"PER {scores.per:.2f} % ({per[0]:.2f} to {per[1]:.2f})\t"
        f"{scores.sources} sources\t{decoding}"
    )


def _evaluate_options(arguments: Sequence[str]) -> argparse.Namespace:
    says = "Scores the best model of a run, or of several together: WER and PER."
    parser = command_parser("evaluate", says)
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    add("--errors", type=output, metavar="FILE", help="list the wrong answers, worst first")
    add("--answers", type=output, metavar="FILE", help="list all answers: source, rank, score, answer")
    add(
        "--endings",
        type=_endings,
        default=(),
        metavar="E,..",
        help="score apart the sources that no training source turns into by adding or dropping one of these",
    )
    add("--n-best", type=int, default=1, metavar="N", help="list the N best of each source (default 1)")
    options = parse(parser, arguments)
    if options.errors and options.errors == options.answers:
        parser.error("--errors, --answers: the same file; two are needed")
    for name in ("errors", "answers"):
        refuse_to_overwrite(
            parser, f"--{name}", getattr(options, name), [options.file, *_best_models(options)]
        )
    if not 1 <= options.n_best <= max(1, options.beam):
        parser.error(f"--n-best: 1 to the beam's width, {max(1, options.beam)}, are allowed")
    if options.n_best > 1 and not options.answers:
        parser.error("--n-best: needs --answers FILE to list them in")
    return options


def run_compare(arguments: Sequence[str]) -> int:
    """Compares two runs on the same sources."""
    parser = command_parser("compare", "Compares the best models of two runs on the same sources.")
    parser.add_argument("first", type=Path, metavar="RUN")
    parser.add_argument("second", type=Path, metavar="RUN")
    options = parse(parser, arguments)
    first, second = (load_ensemble([run], options) for run in (options.first, options.second))
    split = split_of(first.checkpoint, options)
    found = compare(
        first.judge(split, first.answers_to(split)), second.judge(split, second.answers_to(split))
    )
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
    parser = command_parser(
        "label", "Writes what runs answer as a training file, to teach another model.", split=False
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("--words", type=Path, required=True, metavar="FILE", help="sources: the first column")
    parser.add_argument("--to", type=output, required=True, metavar="FILE", help="the file to write")
    options = parse(parser, arguments)
    refuse_to_overwrite(parser, "--to", options.to, [options.words, *_best_models(options)])
    ensemble = load_ensemble(options.runs, options)
    source, target = ensemble.texts
    words = read_words(options.words)
    longest = ensemble.checkpoint.recipe.limits.max_source_length
    usable = {word: ids for word in words if word and 0 < len(ids := source.encode(word)) <= longest}
    readable = {word: ids for word, ids in usable.items() if UNKNOWN_ID not in ids}
    written = []
    for word, (best, *_) in zip(readable, ensemble.answers(list(readable.values())), strict=True):
        text = _text(best, target)
        if text and best.ids[-1] == 0 and UNKNOWN_ID not in best.ids:  # cut off, it would teach to ramble
            written.append(f"{word}\t{text}\n")
    write_atomically(options.to, "".join(written).encode())
    print(
        f"{options.to}\t{len(written)} of {len(words)} labelled, "
        f"{len(usable) - len(readable)} have unknown tokens\t{ensemble.decoding}"
    )
    return 0


def read_words(path: Path) -> list[str]:
    """The first column of each line, once. Raises DataError."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8, from byte {error.start} on") from error
    return list(filter(None, dict.fromkeys(line.split("\t")[0].strip() for line in lines)))


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


def output(text: str) -> Path:
    """A file that can be written, for all that its folder says."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        wrong = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise argparse.ArgumentTypeError(f"{text}: {wrong}; a file in a folder that exists is wanted")
    return path


def _best_models(options: argparse.Namespace) -> list[Path]:
    return [run / "best.safetensors" for run in options.runs]


def refuse_to_overwrite(
    parser: argparse.ArgumentParser, name: str, written: Path | None, read: Sequence[Path | None]
) -> None:
    """Ends the program where the file of an option is one that is read."""
    for path in read:
        if path and written and path.exists() and written.exists() and written.samefile(path):
            parser.error(f"{name}: {written} is read; another file is needed")


def _endings(text: str) -> tuple[str, ...]:
    return tuple(ending for ending in text.split(",") if ending)


def _length_penalty(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MOST_LENGTH_PENALTY:  # nor is what is not a number
        raise argparse.ArgumentTypeError(f"{text}; 0 to {MOST_LENGTH_PENALTY:g} are allowed")
    return value


def split_of(checkpoint: Checkpoint, options: argparse.Namespace) -> Split:
    """The pairs that the options name. A file goes by its whole name: test.tsv is not the split test."""
    if options.file:
        return read_split(options.file, options.file.name, normalisers(checkpoint.recipe))
    splits = load_splits(checkpoint.recipe, options.data)
    if options.split not in splits:
        raise DataError(f"split {options.split!r}: the recipe has {', '.join(splits)}")
    return splits[options.split]


def _text(hypothesis: Hypothesis, target: TargetText) -> str:
    return target.decode([token for token in hypothesis.ids if token != 0])


def _answer_list(split: Split, answers: Sequence[Sequence[Hypothesis]], target: TargetText) -> bytes:
    """Source, rank from 1, sum of natural-log probabilities and answer, tab-separated."""
    lines = [
        f"{source}\t{rank}\t{hypothesis.score:.4f}\t{_text(hypothesis, target)}\n"
        for source, found in zip(split.by_source(), answers, strict=True)
        for rank, hypothesis in enumerate(found, start=1)
    ]
    return "".join(["source\trank\tscore\tanswer\n", *lines]).encode()


def _error_list(verdicts: Sequence[Verdict]) -> bytes:
    """Distance, source, answer and closest target, tab-separated."""
    wrong = sorted(
        (verdict for verdict in verdicts if verdict.distance), key=lambda v: (-v.distance, v.source)
    )
    lines = [f"{v.distance}\t{v.source}\t{v.answer}\t{v.closest}\n" for v in wrong]
    return "".join(["distance\tsource\tanswer\tclosest target\n", *lines]).encode()
