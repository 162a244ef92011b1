"""Command line of export: `python -m export RUN --name NAME --version N`: a trained run becomes a bundle."""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from bundle.card import Calibration, Cascade, Score
from bundle.errors import BundleError
from bundle.golden import encode_golden
from bundle.lexicon import read_lexicon
from bundle.manifest import LEXICON, MANIFEST, Architecture, Limits, Manifest, Vocabulary
from bundle.text import SourceText, TargetText
from bundle.values import END_ID, MOST_BEAM, PAD_ID, UNKNOWN_ID, Name
from bundle.writer import publish, refuse_existing
from export.calibration import fit_calibration
from export.card import make_card, with_calibration
from export.cascade import fit_cascade, score_cascade
from export.golden import choose_golden, tolerance_of
from export.onnx_graph import RangeError
from export.parity import ParityError
from export.profiles import ARITHMETIC, PROFILES, Exported, export_profile
from export.samples import sample_texts
from export.scores import score_profile
from export.speed import measure_speed
from training.arguments import whole_number
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from training.data import DataError
from training.model import Seq2Seq
from training.vocabulary import rebuild_texts

CASCADE_BEAM = 5


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status: 0, or 2 when nothing was published."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.train and not (options.dev and options.score):
        parser.error("--train: says what confidence is fitted for, which needs --dev and --score")
    if options.cascade_beam and not options.dev:
        parser.error("--cascade-beam: says how wide the cascade's beam is, which is fitted with --dev")
    torch.set_num_threads(1)  # most batches here are too small to share
    try:
        refuse_existing(options.to / options.name / str(options.version))  # before the proof, which is long
        for file in filter(None, (options.train, options.lexicon)):
            file.open("rb").close()
        measured, fitted = (file.read_bytes() if file else None for file in (options.score, options.dev))
        if measured is not None and measured == fitted:
            raise DataError(f"{options.score}: the pairs of --dev; what is fitted is measured on others")
        given = options.samples.read_text(encoding="utf-8").splitlines() if options.samples else []
        checkpoint = load_checkpoint(options.run / "best.safetensors")
        if checkpoint.recipe.model.backwards:
            raise CheckpointError(
                f"{options.run}: spells backwards; a model that spells forwards can be served"
            )
        folder, worst = export(checkpoint, options, given)
    except (
        BundleError,
        CheckpointError,
        DataError,
        OSError,
        ParityError,
        RangeError,
        UnicodeDecodeError,
    ) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in folder.iterdir())
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    print(
        f"{folder}\t{size / 1e6:.2f} MB\tlargest score difference from PyTorch {worst:.1e}\tdigest {digest}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Exports the best model of a run as a bundle, once parity is proved.",
    )
    parser.add_argument("run", type=Path, help="a run folder of python -m training")
    parser.add_argument("--name", type=_name, required=True, help="name of the model")
    parser.add_argument(
        "--version", type=whole_number(1, 2**31 - 1), required=True, help="version of the model, from 1"
    )
    parser.add_argument("--to", type=Path, default=Path("models"), help="model repository (default: models)")
    parser.add_argument(
        "--profiles",
        type=_profiles,
        default=PROFILES,
        metavar="NAMES",
        help=f"of {', '.join(ARITHMETIC)}: the numeric profiles, the default one first "
        f"(default: {','.join(PROFILES)})",
    )
    parser.add_argument(
        "--score", type=Path, help="pairs to score the other profiles than fp32 on, for the model card"
    )
    parser.add_argument(
        "--dev",
        type=Path,
        help="pairs to fit a cascade on, a margin below which a beam decodes anew; with --score, to fit the "
        "answers' confidence on too, which --score then measures",
    )
    parser.add_argument(
        "--train",
        type=Path,
        help="pairs that those of --dev stand for: sources with several targets count in the fit as if there "
        "were as many of them as here",
    )
    parser.add_argument(
        "--cascade-beam",
        type=int,
        choices=range(2, MOST_BEAM + 1),
        metavar="N",
        help=f"width of the cascade's beam (default: {CASCADE_BEAM})",
    )
    parser.add_argument(
        "--lexicon",
        type=Path,
        help="exceptions that the bundle carries: lines of a source and its targets, tabs between",
    )
    parser.add_argument("--samples", type=Path, help="texts, one a line, to prove parity on too")
    return parser


def _name(text: str) -> str:
    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: a to z, 0 to 9, '.', '_' and '-' are allowed, 64 at most, a letter or a digit first"
        ) from None


def _profiles(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in ARITHMETIC]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: {', '.join(ARITHMETIC)} are allowed")
    return names


def export(checkpoint: Checkpoint, options: argparse.Namespace, given: Sequence[str]) -> tuple[Path, float]:
    """Builds, proves and publishes. Returns the bundle's folder and the largest score difference in fp32."""
    card = make_card(checkpoint, options.run)
    source_text, target_text = rebuild_texts(
        checkpoint.recipe, checkpoint.source_text, checkpoint.target_text
    )
    checkpoint = replace(checkpoint, source_text=source_text, target_text=target_text)
    model, (source, target) = checkpoint.model(), checkpoint.texts()
    architecture, vocabulary = _describe(checkpoint, model, source, target)
    limits = Limits(
        max_source_length=checkpoint.recipe.limits.max_source_length,
        max_target_length=checkpoint.recipe.limits.max_target_length,
    )
    lexicon, entries = b"", 0
    if options.lexicon:
        lexicon = options.lexicon.read_bytes()
        entries = len(read_lexicon(lexicon, source, target, limits, options.lexicon.name))
    texts = sample_texts(source, limits.max_source_length, given)
    ids = [source.encode(text) for text in texts]
    exported = [
        export_profile(name, model, architecture, vocabulary, limits, ids) for name in options.profiles
    ]
    golden = choose_golden(model, texts, ids, exported, limits.max_target_length)
    cascade = _fit_cascade(exported[0], checkpoint, options)
    calibration = _fit_calibration(exported[0], checkpoint, options)
    card = msgspec.structs.replace(
        card,
        scores=(*card.scores, *_scores(exported, checkpoint, options, cascade)),
        speed=measure_speed(exported, limits.max_source_length),
    )
    if calibration:
        card = with_calibration(card, calibration)
    manifest = Manifest(
        name=options.name,
        version=options.version,
        card=card,
        architecture=architecture,
        vocabulary=vocabulary,
        limits=limits,
        profiles=tuple(
            one.profile(architecture, vocabulary, tolerance_of(one, golden, model.start_id))
            for one in exported
        ),
        cascade=cascade,
        calibration=calibration,
        lexicon_entries=entries,
        files={},
    )
    files = {
        "source.json": source_text,
        "target.json": target_text,
        "golden.json": encode_golden(golden),
    }
    if options.lexicon:
        files[LEXICON] = lexicon
    for one in exported:
        files |= one.files()
    return publish(options.to, manifest, files), max(one.difference for one in exported)


def _scores(
    exported: Sequence[Exported], checkpoint: Checkpoint, options: argparse.Namespace, cascade: Cascade | None
) -> list[Score]:
    """Of each profile but fp32, whose answers are PyTorch's and were scored there, and of the cascade."""
    if not options.score:
        return []
    others = [one for one in exported if one.name != "fp32"]
    scores = [score for one in others for score in score_profile(one, checkpoint, options.score)]
    if cascade:
        scores += score_cascade(exported[0], checkpoint, options.score, cascade)
    return scores


def _fit_cascade(exported: Exported, checkpoint: Checkpoint, options: argparse.Namespace) -> Cascade | None:
    """The cascade of the default profile, where there are pairs to fit it on; says what came of it."""
    if not options.dev:
        return None
    beam = options.cascade_beam or CASCADE_BEAM
    found = fit_cascade(exported, checkpoint, options.dev, beam)
    if found:
        print(
            f"cascade\tbeam {found.beam_size} below a margin of {found.margin:g}, "
            f"{found.beam_share:.1%} of {found.sources} sources of {found.dataset}\t"
            f"WER greedy {found.greedy_wer:.2f} %, cascade {found.cascade_wer:.2f} %, "
            f"beam {found.beam_wer:.2f} %"
        )
    else:
        print(f"cascade\tnone: on {options.dev}, a beam of {beam} is no better than greedy")
    return found


def _fit_calibration(
    exported: Exported, checkpoint: Checkpoint, options: argparse.Namespace
) -> Calibration | None:
    """The default profile's, where there are pairs to fit it and others to measure it on; says what it is."""
    if not options.dev or not options.score:
        return None
    found = fit_calibration(exported, checkpoint, options.dev, options.score, options.train)
    if not found:
        print("calibration\tnone: no answer is whole")
        return None
    print(
        f"calibration\ttemperature {found.temperature:g}, bias {found.bias:g}, ceiling {found.ceiling:g}, "
        f"smoothing {found.smoothing:g}, fitted on {found.sources} answers to {found.dataset}\t"
        f"expected error {found.expected_error:.4f} on {found.measured_sources} to {found.measured_on}"
    )
    for one in found.precisions:
        print(f"calibration\tover {one.confidence:g}\t{one.coverage:.2%} kept, {one.precision:.2%} right")
    return found


def _describe(
    checkpoint: Checkpoint, model: Seq2Seq, source: SourceText, target: TargetText
) -> tuple[Architecture, Vocabulary]:
    sizes = checkpoint.recipe.model
    architecture = Architecture(
        cell=sizes.cell,
        encoder_layers=sizes.encoder_layers,
        decoder_layers=sizes.decoder_layers,
        embedding_size=sizes.embedding_size,
        hidden_size=sizes.hidden_size,
        encoder_hidden_size=sizes.memory_size,
        bidirectional=sizes.bidirectional,
        attention=sizes.attention,
        input_feeding=sizes.input_feeding,
        context=sizes.context,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        starts_from=sizes.starts_from,
    )
    vocabulary = Vocabulary(
        source_size=len(source.tokens),
        target_size=len(target.tokens),
        source_pad_id=PAD_ID,
        source_unknown_id=UNKNOWN_ID,
        start_id=model.start_id,
        end_id=END_ID,
        unknown_id=UNKNOWN_ID,
    )
    return architecture, vocabulary


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
