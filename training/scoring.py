"""Commands on trained runs: `python -m training evaluate | compare | label`.

Knows nothing of how answers are found.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bundle.text import TargetText
from bundle.values import END_ID, UNKNOWN_ID
from training.arguments import (
    best_models,
    command_parser,
    output,
    parse,
    refuse_to_overwrite,
    refuse_unread_data,
    split_of,
)
from training.atomic import write_atomically
from training.beam import Hypothesis
from training.checkpoint import Checkpoint
from training.data import Split, find_kin, load_splits, read_words
from training.ensemble import load_ensemble
from training.evaluate import Verdict, score
from training.report import RunFolder
from training.significance import compare, intervals
from training.start import best_digest


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
    refuse_unread_data(parser, options, read=bool(options.endings))
    if options.errors and options.errors == options.answers:
        parser.error("--errors, --answers: the same file; two are needed")
    for name in ("errors", "answers"):
        refuse_to_overwrite(
            parser, f"--{name}", getattr(options, name), [options.file, *best_models(options)]
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
    refuse_unread_data(parser, options, read=False)
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
    refuse_to_overwrite(parser, "--to", options.to, [options.words, *best_models(options)])
    ensemble = load_ensemble(options.runs, options)
    source, target = ensemble.texts
    words = read_words(options.words)
    longest = ensemble.checkpoint.recipe.limits.max_source_length
    usable = {word: ids for word in words if word and 0 < len(ids := source.encode(word)) <= longest}
    readable = {word: ids for word, ids in usable.items() if UNKNOWN_ID not in ids}
    written = []
    for word, (best, *_) in zip(readable, ensemble.answers(list(readable.values())), strict=True):
        text = _text(best, target)
        if (
            text and best.ids[-1] == END_ID and UNKNOWN_ID not in best.ids
        ):  # cut off, it would teach to ramble
            written.append(f"{word}\t{text}\n")
    write_atomically(options.to, "".join(written).encode())
    print(
        f"{options.to}\t{len(written)} of {len(words)} labelled, "
        f"{len(usable) - len(readable)} have unknown tokens\t{ensemble.decoding}"
    )
    return 0


def _endings(text: str) -> tuple[str, ...]:
    return tuple(ending for ending in text.split(",") if ending)


def _text(hypothesis: Hypothesis, target: TargetText) -> str:
    return target.decode([token for token in hypothesis.ids if token != END_ID])


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
