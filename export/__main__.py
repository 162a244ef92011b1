"""Command line of export: `python -m export RUN --name NAME --version N`: a trained run becomes a bundle."""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from bundle.errors import BundleError
from bundle.golden import Golden, GoldenCase, encode_golden
from bundle.graphs import decoder_graph, encoder_graph
from bundle.manifest import MANIFEST, Architecture, Limits, Manifest, Profile, Vocabulary
from bundle.text import SourceText, TargetText
from bundle.writer import publish
from export.card import make_card
from export.graphs import build_decoder, build_encoder
from export.parity import Graphs, ParityError, check_parity
from export.samples import sample_texts
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from training.evaluate import answer
from training.model import Seq2Seq

GOLDEN_CASES = 32
SCORE_TOLERANCE = 1e-4  # another machine rounds otherwise than the one that exported


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status: 0, or 2 when nothing was published."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)  # most batches here are too small to share
    try:
        given = options.samples.read_text(encoding="utf-8").splitlines() if options.samples else []
        checkpoint = load_checkpoint(options.run / "best.safetensors")
        folder, worst = export(checkpoint, options, given)
    except (BundleError, CheckpointError, OSError, ParityError, UnicodeDecodeError) as error:
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
    parser.add_argument("--name", required=True, help="name of the model")
    parser.add_argument("--version", type=int, required=True, help="version of the model, from 1")
    parser.add_argument("--to", type=Path, default=Path("models"), help="model repository (default: models)")
    parser.add_argument("--samples", type=Path, help="texts, one a line, to prove parity on too")
    return parser


def export(checkpoint: Checkpoint, options: argparse.Namespace, given: Sequence[str]) -> tuple[Path, float]:
    """Builds, proves and publishes. Returns the bundle's folder and the largest score difference."""
    model, (source, target) = checkpoint.model(), checkpoint.texts()
    limits = checkpoint.recipe.limits
    architecture, vocabulary = _describe(checkpoint, model, source, target)
    encoder = build_encoder(model, architecture)
    decoder = build_decoder(model, architecture, vocabulary)
    texts = sample_texts(source, limits.max_source_length, given)
    ids = [source.encode(text) for text in texts]
    worst = check_parity(model, Graphs.load(encoder, decoder), ids, limits.max_target_length)
    manifest = Manifest(
        name=options.name,
        version=options.version,
        card=make_card(checkpoint, options.run),
        architecture=architecture,
        vocabulary=vocabulary,
        limits=Limits(max_source_length=limits.max_source_length, max_target_length=limits.max_target_length),
        encoder=encoder_graph(architecture),
        decoder=decoder_graph(architecture, vocabulary),
        profiles=(Profile(name="fp32", score_tolerance=SCORE_TOLERANCE),),
        files={},
    )
    files = {
        "encoder.onnx": encoder,
        "decoder.onnx": decoder,
        "source.json": checkpoint.source_text,
        "target.json": checkpoint.target_text,
        "golden.json": encode_golden(_golden(model, texts, ids, limits.max_target_length)),
    }
    return publish(options.to, manifest, files), worst


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
        bidirectional=sizes.bidirectional,
        attention="none",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    vocabulary = Vocabulary(
        source_size=len(source.tokens),
        target_size=len(target.tokens),
        source_pad_id=0,
        source_unknown_id=1,
        start_id=model.start_id,
        end_id=0,
        unknown_id=1,
    )
    return architecture, vocabulary


def _golden(model: Seq2Seq, texts: Sequence[str], ids: Sequence[list[int]], max_length: int) -> Golden:
    """PyTorch's own answers for a spread of the texts, each decoded alone."""
    chosen = range(0, len(texts), max(1, len(texts) // GOLDEN_CASES))
    cases = []
    for index in list(chosen)[:GOLDEN_CASES]:
        ((tokens, scores),) = answer(model, [ids[index]], max_length)
        cases.append(
            GoldenCase(
                text=texts[index],
                source_ids=tuple(ids[index]),
                target_ids=tuple(tokens),
                token_scores=tuple(scores),
                score=sum(scores),
            )
        )
    return Golden(cases=tuple(cases))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
