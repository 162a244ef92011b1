"""What one value of a manifest may be. Knows nothing of what a bundle says with it."""

import re
from typing import Annotated, Literal

import msgspec

MOST_BEAM = 32
PAD_ID, END_ID, UNKNOWN_ID = 0, 0, 1  # of padded sources; of `<E>`; of what either vocabulary lacks
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

Name = Annotated[str, msgspec.Meta(pattern=rf"^{NAME.pattern}\Z")]
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
Microseconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
TensorName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")]
Dtype = Literal["float32", "float16", "int64", "int32", "uint8"]
ProfileName = Literal["fp32", "int8", "fp16"]
Cell = Literal["rnn", "lstm", "lstm-peephole", "lstm-coupled", "lstm-peephole-coupled", "gru"]
Attention = Literal["none", "dot", "general", "additive"]
Context = Literal["first-step", "every-step"]  # which steps read the encoder's last state
Dimension = (
    Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | Annotated[str, msgspec.Meta(pattern=r"^[A-Z]\Z")]
)
