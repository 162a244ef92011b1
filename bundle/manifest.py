"""What a bundle says about itself. Constraints live in the types.

Knows nothing about folders, graphs or tokenizers.

Letters of shapes: B batch, S source length, R rows, H hidden, D encoder output, V target tokens that can be
emitted.
"""

from typing import Annotated, Any, Literal

import msgspec

from bundle import strict_json
from bundle.errors import BundleError

__all__ = [
    "FORMAT_VERSION",
    "LEXICON",
    "MANIFEST",
    "MOST_BEAM",
    "MOST_LEXICON_ENTRIES",
    "TEXT_FILES",
    "Architecture",
    "Calibration",
    "Cascade",
    "DataSource",
    "FileEntry",
    "Graph",
    "Limits",
    "Manifest",
    "ModelCard",
    "Precision",
    "Profile",
    "ProfileName",
    "Score",
    "Tensor",
    "Vocabulary",
    "candidates",
    "decode_manifest",
    "encode_manifest",
    "graph_file",
]

FORMAT_VERSION = 3
MOST_CANDIDATES = 8
MOST_BEAM = 32
MOST_LEXICON_ENTRIES = 2**18
MANIFEST = "manifest.json"
LEXICON = "lexicon.tsv"
TEXT_FILES = ("source.json", "target.json", "golden.json")

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Prose = Annotated[str, msgspec.Meta(max_length=16_384)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Version = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Size = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
LayerCount = Annotated[int, msgspec.Meta(ge=1, le=64)]
Rows = Annotated[int, msgspec.Meta(ge=3, le=2**24)]  # of an embedding
TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**24)]
Length = Annotated[int, msgspec.Meta(ge=1, le=65_536)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
TensorName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")]
Dtype = Literal["float32", "int64", "int32", "uint8"]
ProfileName = Literal["fp32", "int8", "fp16"]
Cell = Literal["rnn", "lstm", "lstm-peephole", "lstm-coupled", "lstm-peephole-coupled", "gru"]
Dimension = (
    Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | Annotated[str, msgspec.Meta(pattern=r"^[A-Z]\Z")]
)


class DataSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Data that the model learnt from."""

    name: Line
    licence: Line
    split: Line
    examples: Count
    sha256: Sha256


class Score(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured result."""

    dataset: Line
    metric: Line
    value: float
    sources: Count  # distinct inputs that were scored
    decoding: Line


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the model comes from and how good it is."""

    title: Line
    description: Prose
    licence: Line
    data: tuple[DataSource, ...]
    scores: tuple[Score, ...]
    training_commit: Line
    recipe: dict[str, Any]  # the recipe that trained the model, as it was read


class Architecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The network's kind and sizes."""

    cell: Cell
    encoder_layers: LayerCount
    decoder_layers: LayerCount
    embedding_size: Size
    hidden_size: Size  # H, of the decoder
    encoder_hidden_size: Size  # D, of an encoder output: both directions together
    bidirectional: bool  # the encoder reads both ways
    attention: Literal["none", "dot", "general", "additive"]
    input_feeding: bool  # each step reads the attentional vector of the one before
    context: Literal["first-step", "every-step"]  # whether each step reads the encoder's last state too
    parameters: Count

    def __post_init__(self) -> None:
        if self.attention == "none" and self.input_feeding:
            raise ValueError("input_feeding is true without attention; false is allowed")
        if self.attention != "none" and self.context == "every-step":
            raise ValueError("context is every-step with attention; first-step is allowed")


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes and special ids.

    Target ids 0..target_size-2 can be emitted and have an output column (V = target_size - 1); the last id,
    `<S>`, can be read and never emitted.
    """

    source_size: Rows
    target_size: Rows  # rows of the decoder's embedding
    source_pad_id: TokenId
    source_unknown_id: TokenId
    start_id: TokenId
    end_id: TokenId
    unknown_id: TokenId  # of the target

    def __post_init__(self) -> None:
        allowed = {
            "source_pad_id": 0,
            "source_unknown_id": 1,
            "end_id": 0,
            "unknown_id": 1,
            "start_id": self.target_size - 1,
        }
        for field, token_id in allowed.items():
            if getattr(self, field) != token_id:
                raise ValueError(f"{field} is {getattr(self, field)}; {token_id} is allowed")


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Longest sequences, in tokens."""

    max_source_length: Length
    max_target_length: Length  # `<E>` not counted


class Tensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input or output of a graph; a letter in the shape is a dimension known only when the graph runs."""

    name: TensorName
    dtype: Dtype
    shape: Annotated[tuple[Dimension, ...], msgspec.Meta(max_length=8)]


class Graph(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ONNX file and its tensors, in the order of the file."""

    file: Line
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How numbers are computed: by which graphs, and how far a token's score may lie from PyTorch's."""

    name: ProfileName
    score_tolerance: Annotated[float, msgspec.Meta(ge=0, le=10)]  # natural-log units
    encoder: Graph
    decoder: Graph
    notes: tuple[Line, ...] = ()  # what this profile computes otherwise than its name says, and why


class Cascade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Greedy decoding, and a beam for those answers alone in which two tokens came closer than a margin.

    What it was fitted on says what it gives: there, `beam_share` of the sources went to the beam.
    """

    beam_size: Annotated[int, msgspec.Meta(ge=2, le=MOST_BEAM)]
    margin: Annotated[float, msgspec.Meta(gt=0, le=100)]  # of the two best log-probabilities of a step
    profile: ProfileName  # whose graphs decoded
    dataset: Line
    sources: Count  # distinct inputs
    beam_share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    greedy_wer: Percent
    cascade_wer: Percent
    beam_wer: Percent


class Precision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept, and how much of it is right, over one confidence."""

    confidence: Share
    coverage: Annotated[float, msgspec.Meta(gt=0, le=1)]  # of all answers
    precision: Share  # of those kept


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an answer's scores become the probability that it is right: bundle/confidence.py says how."""

    temperature: Annotated[float, msgspec.Meta(ge=0.01, le=100)]
    bias: Annotated[float, msgspec.Meta(ge=-100, le=100)]  # in natural-log odds
    smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)]  # of the labels that the model learnt from
    ceiling: Annotated[float, msgspec.Meta(gt=0, le=1)]  # the highest confidence
    profile: ProfileName  # whose graphs decoded
    dataset: Line  # it was fitted on
    sources: Annotated[int, msgspec.Meta(ge=1, le=2**53)]  # of it, with whole answers
    measured_on: Line  # what follows was
    measured_sources: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    expected_error: Share  # mean distance of confidence from accuracy, in ten groups of equal size
    precisions: Annotated[tuple[Precision, ...], msgspec.Meta(max_length=16)]  # ascending

    def __post_init__(self) -> None:
        levels = [promise.confidence for promise in self.precisions]
        if sorted(set(levels)) != levels:
            raise ValueError(f"precisions are for confidences {levels}; ascending ones are allowed")


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size in bytes and SHA-256 in lower-case hex of one file."""

    size: Annotated[int, msgspec.Meta(ge=1, le=2**40)]
    sha256: Sha256


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything needed to read a bundle. `files` lists the other files; the writer fills it."""

    format_version: int = FORMAT_VERSION
    name: Name
    version: Version
    card: ModelCard
    architecture: Architecture
    vocabulary: Vocabulary
    limits: Limits
    profiles: Annotated[
        tuple[Profile, ...], msgspec.Meta(min_length=1, max_length=3)
    ]  # the first: the default
    cascade: Cascade | None = None
    calibration: Calibration | None = None
    lexicon_entries: Annotated[int, msgspec.Meta(ge=0, le=MOST_LEXICON_ENTRIES)] = 0  # 0: there is none
    files: dict[str, FileEntry]

    def __post_init__(self) -> None:
        names = [profile.name for profile in self.profiles]
        if len(set(names)) != len(names):
            raise ValueError(f"profiles {names} repeat a name; each is allowed once")
        for field, fitted in (("cascade", self.cascade), ("calibration", self.calibration)):
            if fitted and fitted.profile not in names:
                raise ValueError(f"{field}.profile is {fitted.profile}; {', '.join(names)} are allowed")

    def graph_files(self) -> tuple[str, ...]:
        """Names of the ONNX files: two a profile."""
        return tuple(graph_file(part, p.name) for p in self.profiles for part in ("encoder", "decoder"))

    def file_names(self) -> tuple[str, ...]:
        """Every file of the bundle but the manifest itself; there may be no other."""
        lexicon = (LEXICON,) if self.lexicon_entries else ()
        return (*self.graph_files(), *TEXT_FILES, *lexicon)

    def profile(self, name: str) -> Profile:
        """The profile of a name; empty: the default. Raises BundleError where there is none."""
        for profile in self.profiles:
            if name in ("", profile.name):
                return profile
        raise BundleError(f"profile {name!r}; {', '.join(p.name for p in self.profiles)} are allowed")


def graph_file(part: str, profile: ProfileName) -> str:
    """Name of the file of a profile's encoder or decoder."""
    return f"{part}.{profile}.onnx"


def candidates(vocabulary: Vocabulary) -> int:
    """K: how many of the best tokens a decoder's step names."""
    return min(MOST_CANDIDATES, vocabulary.target_size - 1)


class _Format(msgspec.Struct, frozen=True):
    format_version: int


def decode_manifest(data: bytes) -> Manifest:
    """Read manifest.json, its format version first: another one has other fields. Raises BundleError."""
    found = strict_json.decode(MANIFEST, data, _Format).format_version
    if found != FORMAT_VERSION:
        raise BundleError(f"{MANIFEST}: format_version is {found}; {FORMAT_VERSION} is allowed")
    return strict_json.decode(MANIFEST, data, Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """Write manifest.json, and read it back: nothing is written that a reader refuses. Raises BundleError."""
    data = strict_json.encode(manifest)
    if decode_manifest(data) != manifest:
        raise BundleError(
            f"{MANIFEST}: does not survive JSON; strings, finite numbers, lists and tables are allowed"
        )
    return data
