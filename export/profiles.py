"""The numeric profiles of a bundle: which there are, how each is built, and the proof that each must pass."""

from collections.abc import Sequence
from dataclasses import dataclass

from bundle.graphs import decoder_graph, encoder_graph
from bundle.manifest import Architecture, Limits, Profile, ProfileName, Vocabulary, graph_file
from export.graphs import build_decoder, build_encoder
from export.int8 import build_int8_decoder, build_int8_encoder
from export.parity import Answer, Graphs, check_invariance, check_parity
from training.model import Seq2Seq
from training.recipe import Model

PROFILES: tuple[ProfileName, ...] = ("int8", "fp32")  # the first is what the service takes unless told
FP32_TOLERANCE = 1e-4  # natural-log units: another machine rounds otherwise than the one that exported


class UnsupportedError(Exception):
    """The network is of a kind that has no graphs yet: the caller's fault. The text names the key."""


def refuse_unsupported(sizes: Model) -> None:
    """Raises UnsupportedError for networks that can be trained and not be exported."""
    for key, found, allowed in (
        ("cell", sizes.cell, "lstm"),
        ("attention", sizes.attention, "none"),
        ("context", sizes.context, "first-step"),
        ("encoder_hidden_size", sizes.encoder_hidden_size or sizes.hidden_size, sizes.hidden_size),
    ):
        if found != allowed:
            raise UnsupportedError(f"model.{key} = {found!r}: cannot be exported yet; {allowed!r} is allowed")


@dataclass(frozen=True)
class Exported:
    """One profile: its graphs as bytes and as sessions, and its answers to the samples."""

    name: ProfileName
    encoder: bytes
    decoder: bytes
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
        )


def export_profile(
    name: ProfileName,
    model: Seq2Seq,
    architecture: Architecture,
    vocabulary: Vocabulary,
    limits: Limits,
    samples: Sequence[Sequence[int]],
) -> Exported:
    """Builds a profile and proves it: fp32 is PyTorch, int8 near it; in both, neighbours change no bit.

    Raises ParityError.
    """
    if name == "int8":
        encoder = build_int8_encoder(model, architecture, limits.max_source_length)
        decoder = build_int8_decoder(model, architecture, vocabulary)
    else:
        encoder = build_encoder(model, architecture)
        decoder = build_decoder(model, architecture, vocabulary)
    graphs = Graphs.load(encoder, decoder)
    difference = 0.0
    if name == "fp32":
        difference = check_parity(model, graphs, samples, limits.max_target_length)
    answers = check_invariance(graphs, samples, model.start_id, limits.max_target_length)
    return Exported(name, encoder, decoder, graphs, answers, difference)
