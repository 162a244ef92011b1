"""How far gradients reach back in time, cell by cell: `python -m training gradients RECIPE`.

Knows nothing of data: inputs are random numbers. Letters: B sequences, T steps, H hidden size.

`from_h`   sqrt(mean |v' dh_t/dh_1|^2) over random unit vectors v, which is |dh_t/dh_1|_F / sqrt(H): how much
           of a direction comes back over t - 1 steps, c_1 held.
`from_c`   the same of dh_t/dc_1, for the cells that have a c.
`loss`     |dL/dh_t| / |dL/dh_T|, L the cross-entropy of a linear read-out of h_T, T - t steps back.

Bengio, Simard and Frasconi (1994); Pascanu, Mikolov and Bengio (2013). docs/gradients.md explains.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.arguments import whole_number
from training.atomic import write_atomically
from training.cells import CELLS
from training.checkpoint import load_checkpoint
from training.plots import draw_gradients
from training.recipe import find_recipe, load_recipe
from training.recurrent import Recurrent
from training.report import csv_bytes

CLASSES = 40
MOST = 10_000
Row = dict[str, Any]


def run_gradients(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status. Writes gradients.csv and gradients.png."""
    options = _parser().parse_args(arguments)
    recipe = load_recipe(find_recipe(options.recipe), options.set)
    sizes, seed = recipe.model, recipe.training.seed
    rows: list[Row] = []
    for name in CELLS:
        for scale in options.scales:
            torch.manual_seed(seed)
            layer = Recurrent(name, sizes.embedding_size, sizes.hidden_size, 1, nn.Dropout(0.0))
            layer.get_parameter("weight_hh_l0").data.mul_(scale)
            inputs = torch.randn(options.sequences, options.steps, sizes.embedding_size)
            rows += _labelled(measure(layer, inputs), name, f"{scale:g}")
    if options.run:
        layer, inputs = _trained(options.run, options.sequences, options.steps, seed)
        rows += _labelled(measure(layer, inputs), layer.kind, "trained")
    options.to.mkdir(parents=True, exist_ok=True)
    write_atomically(options.to / "gradients.csv", csv_bytes(rows))
    write_atomically(options.to / "gradients.png", draw_gradients(rows))
    print(f"{options.to}/gradients.csv, {options.to}/gradients.png")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training gradients",
        description="Measures how far back each kind of cell carries a gradient, with a recipe's sizes.",
    )
    parser.add_argument("recipe", help="a TOML file, or the name of one in training/recipes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override a setting"
    )
    add = parser.add_argument
    add("--steps", type=whole_number(2, MOST), default=50, help="length of the sequences (default 50)")
    add("--sequences", type=whole_number(1, MOST), default=32, help="how many to average over (default 32)")
    parser.add_argument(
        "--scales",
        type=_scale,
        nargs="+",
        default=[0.5, 1.0, 2.0],
        help="factors on the first recurrent weights",
    )
    parser.add_argument(
        "--run", type=Path, help="measure the encoder's first layer of this run's best model too"
    )
    parser.add_argument("--to", type=Path, default=Path("runs/gradients"), metavar="FOLDER")
    return parser


def _scale(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST:
        raise argparse.ArgumentTypeError(f"{text}: a number over 0, up to {MOST}, is wanted")
    return value


def measure(layer: Recurrent, inputs: Tensor) -> list[dict[str, float]]:
    """One layer, inputs [B, T, E] -> the three norms above for each lag, 0 to T - 1; nan without a c."""
    loss = loss_gains(layer, inputs)
    return [
        {"lag": lag, "from_h": from_h, "from_c": from_c[0] if from_c else float("nan"), "loss": loss[lag]}
        for lag, (from_h, *from_c) in enumerate(state_gains(layer, inputs))
    ]


def state_gains(layer: Recurrent, inputs: Tensor) -> list[tuple[float, ...]]:
    """The gains from the first step's h, and c where there is one, to h of each later step, by lag."""
    with torch.no_grad():
        _, first = layer(inputs[:, :1])
    first = tuple(part.requires_grad_() for part in first)
    outputs, _ = layer(inputs[:, 1:], first)  # [B, T - 1, H]
    gains: list[tuple[float, ...]] = [(1.0, float("nan"))[: len(first)]]
    for step in range(outputs.shape[1]):
        unit = nn.functional.normalize(torch.randn_like(outputs[:, step]), dim=1)  # [B, H]
        found = torch.autograd.grad((outputs[:, step] * unit).sum(), first, retain_graph=True)
        gains.append(tuple(part.square().sum(2).mean().sqrt().item() for part in found))
    return gains


def loss_gains(layer: Recurrent, inputs: Tensor) -> list[float]:
    """|dL/dh_t| / |dL/dh_T| by lag T - t, the mean over sequences of the squares, then its root."""
    state = None
    hidden = []
    for x in inputs.split(1, dim=1):
        _, state = layer(x, state)
        state[0].requires_grad_().retain_grad()
        hidden.append(state[0])
    read_out = torch.randn(CLASSES, layer.hidden_size) / layer.hidden_size**0.5
    labels = torch.randint(CLASSES, (len(inputs),))
    nn.functional.cross_entropy(hidden[-1][0] @ read_out.t(), labels).backward()
    norms = [h.grad.square().sum(2).mean().sqrt().item() for h in reversed(hidden) if h.grad is not None]
    return [norm / norms[0] for norm in norms]


def _trained(run: Path, sequences: int, steps: int, seed: int) -> tuple[Recurrent, Tensor]:
    """The first layer of a trained encoder, forwards, and random letters as it sees them."""
    model = load_checkpoint(run / "best.safetensors").model()
    found, letters = model.encoder.recurrent, model.encoder.embedding.weight.detach()
    layer = Recurrent(found.kind, letters.shape[1], found.hidden_size, 1, nn.Dropout(0.0))
    for name, weight in found.weights(0, "").items():
        layer.get_parameter(f"{name}_l0").data.copy_(weight)
    torch.manual_seed(seed)
    return layer, letters[torch.randint(2, len(letters), (sequences, steps))]


def _labelled(rows: Sequence[dict[str, float]], cell: str, scale: str) -> list[Row]:
    return [{"cell": cell, "recurrent_scale": scale, **row} for row in rows]
