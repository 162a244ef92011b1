"""Reads a bundle: every byte is checked before anything is built from it. Knows nothing about running graphs.

What cannot be known without running them, that a model gives its golden cases, is left to the service.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import BundleError
from bundle.folder import read_folder
from bundle.golden import Golden, decode_golden
from bundle.graphs import check_graph, decoder_graph, encoder_graph
from bundle.lexicon import Lexicon, read_lexicon
from bundle.manifest import LEXICON, MANIFEST, Graph, Manifest
from bundle.text import END, PAD, START, UNKNOWN, SourceText, TargetText


@dataclass(frozen=True)
class Bundle:
    """One model version in memory, checked. `graphs` are serialised ONNX models by their file's name."""

    manifest: Manifest
    digest: str  # SHA-256 of the manifest's bytes in lower-case hex; names the bundle exactly
    graphs: Mapping[str, bytes]
    source: SourceText
    target: TargetText
    golden: Golden
    lexicon: Lexicon | None


def read_bundle(folder: Path) -> Bundle:
    """Read the bundle in `folder`, named `<name>/<version>` after its manifest. Raises BundleError."""
    return assemble(*read_folder(folder))


def assemble(manifest: Manifest, manifest_bytes: bytes, files: Mapping[str, bytes]) -> Bundle:
    """Build a bundle from the bytes that its manifest lists. Raises BundleError where two parts disagree."""
    source, target = SourceText(files["source.json"]), TargetText(files["target.json"])
    bundle = Bundle(
        manifest=manifest,
        digest=hashlib.sha256(manifest_bytes).hexdigest(),
        graphs={name: files[name] for name in manifest.graph_files()},
        source=source,
        target=target,
        golden=decode_golden(files["golden.json"]),
        lexicon=(
            read_lexicon(files[LEXICON], source, target, manifest.limits)
            if manifest.lexicon_entries
            else None
        ),
    )
    _check_vocabulary(bundle)
    _check_graphs(bundle)
    _check_golden(bundle)
    _check_lexicon(bundle)
    return bundle


def _check_vocabulary(bundle: Bundle) -> None:
    vocabulary = bundle.manifest.vocabulary
    for text, size in ((bundle.source, vocabulary.source_size), (bundle.target, vocabulary.target_size)):
        if len(text.tokens) != size:
            raise BundleError(f"{text.file}: {len(text.tokens)} tokens; the manifest allows exactly {size}")
    for text, token_id, special in (
        (bundle.source, vocabulary.source_pad_id, PAD),
        (bundle.source, vocabulary.source_unknown_id, UNKNOWN),
        (bundle.target, vocabulary.end_id, END),
        (bundle.target, vocabulary.unknown_id, UNKNOWN),
        (bundle.target, vocabulary.start_id, START),
    ):
        if text.tokens[token_id] != special:
            raise BundleError(
                f"{text.file}: token {token_id} is {text.tokens[token_id][:64]!r}; {special!r} is allowed"
            )


def _check_graphs(bundle: Bundle) -> None:
    manifest, vocabulary = bundle.manifest, bundle.manifest.vocabulary
    for profile in manifest.profiles:
        encoder = encoder_graph(manifest.architecture, profile.name)
        decoder = decoder_graph(manifest.architecture, vocabulary, profile.name)
        _check_declared(f"{profile.name}.encoder", profile.encoder, encoder)
        _check_declared(f"{profile.name}.decoder", profile.decoder, decoder)
        check_graph(encoder, bundle.graphs[encoder.file], "source", vocabulary.source_size)
        check_graph(decoder, bundle.graphs[decoder.file], "token", vocabulary.target_size)


def _check_declared(field: str, declared: Graph, allowed: Graph) -> None:
    if declared != allowed:
        names = [tensor.name for tensor in allowed.inputs + allowed.outputs]
        raise BundleError(
            f"{MANIFEST}: {field} is not the graph that architecture and vocabulary call for; allowed is "
            f"{allowed.file} with {names}, dtypes and shapes as in bundle/graphs.py"
        )


def _check_golden(bundle: Bundle) -> None:
    limits, vocabulary = bundle.manifest.limits, bundle.manifest.vocabulary
    for number, case in enumerate(bundle.golden.cases):
        place = f"golden.json: case {number}"
        if list(case.source_ids) != bundle.source.encode(case.text):
            raise BundleError(
                f"{place}: source_ids are not what source.json makes of the text; only those are allowed"
            )
        if len(case.source_ids) > limits.max_source_length:
            raise BundleError(
                f"{place}: {len(case.source_ids)} source_ids; at most {limits.max_source_length} are allowed"
            )
        if max(case.target_ids) >= vocabulary.start_id:
            raise BundleError(
                f"{place}: target id {max(case.target_ids)}; 0..{vocabulary.start_id - 1} are allowed"
            )
        if vocabulary.end_id in case.target_ids[:-1]:
            raise BundleError(f"{place}: target_ids go on after {END}; it is allowed only at the end")
        emitted = len(case.target_ids) - (case.target_ids[-1] == vocabulary.end_id)
        if emitted > limits.max_target_length:
            raise BundleError(
                f"{place}: {emitted} target tokens; at most {limits.max_target_length} are allowed"
            )


def _check_lexicon(bundle: Bundle) -> None:
    entries = len(bundle.lexicon) if bundle.lexicon else 0
    if entries != bundle.manifest.lexicon_entries:
        raise BundleError(
            f"{LEXICON}: {entries} entries; the manifest allows exactly {bundle.manifest.lexicon_entries}"
        )
