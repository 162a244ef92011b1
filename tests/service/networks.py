"""Bundles of every kind of network, with random weights, and the networks that they were exported from."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

from bundle.reader import Bundle, read_bundle
from export import __main__ as export
from tests.conftest import save_random_run
from tests.export.shapes import LOOKS
from training.cells import CELLS
from training.checkpoint import load_checkpoint
from training.model import Seq2Seq
from training.recipe import Model

SAMPLES = 24  # that export proves parity with: here the service is on trial
SHAPES: list[dict[str, Any]] = [  # of encoder and decoder
    {"encoder_layers": 1, "decoder_layers": 1},
    {"encoder_layers": 2, "decoder_layers": 1, "bidirectional": True},
    {"encoder_layers": 1, "decoder_layers": 2, "bidirectional": True},
]
Kind = tuple[str, str, int]  # cell, what it looks at, number of the shape
EVERY: list[Kind] = [(cell, look, shape) for cell in CELLS for look in LOOKS for shape in range(len(SHAPES))]
FEW = EVERY[::13]  # every cell, look and shape is among them


@cache
def exported(
    folder: Path, kind: Kind, spread: float | None = None, profiles: str = "int8,fp32"
) -> tuple[Bundle, Seq2Seq]:
    """A bundle of some profiles, made in a new folder inside `folder`, and its network."""
    cell, look, shape = kind
    if spread is None:  # a second layer with coupled gates says little of what it read
        spread = 2.5 if shape == 1 and "coupled" in cell else 2
    place, texts = Path(mkdtemp(dir=folder)), export.sample_texts
    sizes = Model(cell=cell, embedding_size=6, hidden_size=10, **SHAPES[shape], **LOOKS[look])
    save_random_run(place, sizes, spread)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "sample_texts", lambda *given: texts(*given)[-SAMPLES:])
        patch.setattr("export.golden.LEAST_MARGIN", 0.0)  # weights are random: ties are near everywhere
        chosen = ["--name", "tiny", "--version", "1", "--profiles", profiles]
        assert export.main([str(place), *chosen, "--to", str(place / "models")]) == 0
    return read_bundle(place / "models" / "tiny" / "1"), load_checkpoint(
        place / "best.safetensors"
    ).model().eval()


def aligned(network: Seq2Seq, source: list[int], tokens: list[int]) -> list[list[float]]:
    """PyTorch's alignments of an answer, one for each token and one for what follows them."""
    read = torch.tensor([[network.start_id, *tokens]])
    with torch.inference_mode():
        return network.align(torch.tensor([source]), torch.tensor([len(source)]), read)[0].tolist()
