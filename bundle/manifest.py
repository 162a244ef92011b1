"""What a bundle says about itself. Constraints live in the types.

Knows nothing about folders, graphs or tokenizers.

Letters of shapes: B batch, S source length, R rows, H hidden, D encoder output, V target tokens that can be
emitted.
"""

from typing import Annotated, Literal

import msgspec

from bundle import strict_json
from bundle.card import Calibration, Cascade, ModelCard
from bundle.errors import BundleError
from bundle.values import (
    END_ID,
    PAD_ID,
    UNKNOWN_ID,
    Attention,
    Cell,
    Context,
    Count,
    Dimension,
    Dtype,
    LayerCount,
    Length,
    Line,
    Name,
    ProfileName,
    Rows,
    Sha256,
    Size,
    TensorName,
    TokenId,
    Version,
)

FORMAT_VERSION = 3
MOST_CANDIDATES = 8
MOST_LEXICON_ENTRIES = 2**18
MANIFEST = "manifest.json"
LEXICON = "lexicon.tsv"
TEXT_FILES = ("source.json", "target.json", "golden.json")


class Architecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The network's kind and sizes."""

    cell: Cell
    encoder_layers: LayerCount
    decoder_layers: LayerCount
    embedding_size: Size
    hidden_size: Size  # H, of the decoder
    encoder_hidden_size: Size  # D, of an encoder output: both directions together
    bidirectional: bool  # the encoder reads both ways
    attention: Attention
    input_feeding: bool  # each step reads the attentional vector of the one before
    context: Context
    parameters: Count
    starts_from: Literal["bottom", "top"] = "bottom"  # which layers start a decoder that has fewer

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
            "source_pad_id": PAD_ID,
            "source_unknown_id": UNKNOWN_ID,
            "end_id": END_ID,
            "unknown_id": UNKNOWN_ID,
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
