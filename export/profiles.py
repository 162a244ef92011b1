"""The numeric profiles of a bundle: which there are, how each is built, and the proof that each must pass."""

from collections.abc import Sequence
from dataclasses import dataclass

from bundle.graphs import decoder_graph, encoder_graph
from bundle.manifest import Architecture, Limits, Profile, Vocabulary, graph_file
from bundle.values import ProfileName
from export.arithmetic import Float32
from export.decoder import build_decoder
from export.encoder import build_encoder, has_quantised_layers
from export.fp16 import Float16
from export.int8 import Int8
from export.parity import Answer, Graphs, check_invariance, check_parity
from training.model import Seq2Seq

ARITHMETIC: dict[ProfileName, type[Float32]] = {"int8": Int8, "fp32": Float32, "fp16": Float16}
PROFILES: tuple[ProfileName, ...] = ("int8", "fp32")  # unless told; the first is what the service takes then
FP32_TOLERANCE = 1e-4  # natural-log units: another machine rounds otherwise than the one that exported


@dataclass(frozen=True)
class Exported:
    """One profile: its graphs as bytes and as sessions, and its answers to the samples."""

    name: ProfileName
    encoder: bytes
    decoder: bytes
    notes: tuple[str, ...]  # what is computed otherwise than the name says
    graphs: Graphs
    answers: list[Answer]
    difference: float  # largest of a sequence's score from PyTorch's, relative above 1; where tokens agree

    def files(self) -> dict[str, bytes]:
        """The bundle's files of this profile."""
        return {
            graph_file("encoder", self.name): self.encoder,
            graph_file("decoder", self.name): self.decoder,
        }

    def profile(self, architecture: Architecture, vocabulary: Vocabulary, tolerance: float) -> Profile:
        """The manifest's words for it."""
        return Profile(
            name=self.name,
            score_tolerance=tolerance,
            encoder=encoder_graph(architecture, self.name),
            decoder=decoder_graph(architecture, vocabulary, self.name),
            notes=self.notes,
        )


def build_graphs(
    name: ProfileName,
    model: Seq2Seq,
    architecture: Architecture,
    vocabulary: Vocabulary,
    max_source_length: int,
) -> tuple[bytes, bytes]:
    """The encoder and the decoder of a profile, unproved."""
    arithmetic = ARITHMETIC[name]
    return (
        build_encoder(arithmetic(), model, architecture, max_source_length),
        build_decoder(arithmetic(), model, architecture, vocabulary),
    )


def export_profile(
    name: ProfileName,
    model: Seq2Seq,
    architecture: Architecture,
    vocabulary: Vocabulary,
    limits: Limits,
    samples: Sequence[Sequence[int]],
) -> Exported:
    """Builds a profile and proves it: fp32 is PyTorch, the others near it; in all, neighbours change no bit.

    Raises ParityError.
    """
    encoder, decoder = build_graphs(name, model, architecture, vocabulary, limits.max_source_length)
    graphs = Graphs.load(encoder, decoder)
    difference = 0.0
    if name == "fp32":
        difference = check_parity(model, graphs, samples, limits.max_target_length)
    answers = check_invariance(graphs, samples, model.start_id, limits.max_target_length)
    return Exported(name, encoder, decoder, _notes(name, model), graphs, answers, difference)


def _notes(name: ProfileName, model: Seq2Seq) -> tuple[str, ...]:
    notes = []
    if name == "int8" and not has_quantised_layers(model.encoder):
        kind = model.encoder.recurrent.kind
        notes.append(f"encoder in float32: ONNX Runtime has no {kind} operator in whole numbers")
    if name == "fp16":
        notes.append(
            "encoder's layers in float32, their weights stored in float16: "
            "ONNX Runtime's recurrent operators for the CPU have no float16"
        )
    if name != "fp32" and model.decoder.attention is not None:
        notes.append("attention in float32: its scores and sums have no bounds that hold for every source")
    return tuple(notes)
