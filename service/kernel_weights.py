"""The weights of an int8 bundle as the kernels want them: read from its graphs by the names export gave them.

Knows nothing of rows or requests. A graph whose weights are not all there, or not of these shapes, is not one
for the kernels: Unsuited says what is missing, and ONNX Runtime runs it.
Letters: K inputs, N outputs, U units, H hidden of the decoder, D of the encoder, both directions, V tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bundle.manifest import Architecture
from bundle.onnx_file import stored_tensors
from bundle.reader import Bundle
from service.kernels import Array, Direction, Encoder, Grid, Weights, in_lines

BLOCK, LANES = 64, 16
UNIT = np.float32(1 / 127)
SENTINELS = 2  # hidden units and features that pin the scale of ONNX Runtime's encoder
OPERATOR_ORDER = (0, 2, 3, 1)  # of its gates i, o, f, c: where i, f, g, o are


class Unsuited(Exception):
    """The kernels cannot run this bundle; the text says why."""


class Packed(NamedTuple):
    """Weights for ctypes, and the arrays that they point into."""

    weights: Weights
    arrays: tuple[Array, ...]


class EncoderWeights(NamedTuple):
    """All that an encoder run needs, and the arrays that it points into."""

    encoder: Encoder
    arrays: tuple[Any, ...]


class DecoderWeights(NamedTuple):
    """All that a decoder step needs."""

    token_table: Array  # [V + 1, 4H]
    cells: tuple[Packed, ...]
    attentional: Packed | None
    logits: Packed


def check_suited(architecture: Architecture, profile: str) -> None:
    """Raises Unsuited for a kind of network that the kernels do not have."""
    reasons = {
        f"profile {profile}": profile != "int8",
        f"cell {architecture.cell}": architecture.cell != "lstm",
        f"attention {architecture.attention}": architecture.attention == "additive",
        "input feeding": architecture.input_feeding,
        f"context {architecture.context}": architecture.context == "every-step",
        "an encoder without a bridge": not architecture.bidirectional
        and architecture.encoder_hidden_size == architecture.hidden_size,
        "sizes that are no multiples of 16": architecture.hidden_size % LANES
        or architecture.encoder_hidden_size % (LANES * (1 + architecture.bidirectional)),
    }
    for reason, holds in reasons.items():
        if holds:
            raise Unsuited(reason)


class Tensors:
    """The weights of one graph by name."""

    def __init__(self, bundle: Bundle, file: str) -> None:
        self._stored = stored_tensors(file, bundle.graphs[file])
        self._file = file

    def __call__(self, name: str, *shape: int) -> Array:
        """A tensor of this shape. Raises Unsuited where it is not there."""
        found = self._stored.get(name)
        if found is None or found.shape != shape:
            raise Unsuited(f"{self._file} has no {name} of shape {list(shape)}")
        return np.frombuffer(found.data, found.dtype).reshape(shape)


def pack(weight: Array, scale: Array, bias: Array | None, zero: int = 128) -> Packed:
    """int8 [K, N], scale and bias [N]: in blocks of 64 columns, four weights of each side by side.

    `zero` is the byte that means 0 in what is multiplied.
    """
    inputs, outputs = weight.shape
    columns = -(-outputs // LANES) * LANES
    full = -(-outputs // BLOCK) * BLOCK
    padded = np.zeros((inputs, full), np.int8)
    padded[:, :outputs] = weight
    laid = padded.reshape(inputs // 4, 4, full // BLOCK, BLOCK).transpose(2, 0, 3, 1)
    blocks = in_lines(laid)  # [N / 64, K / 4, 64, 4]
    start = in_lines(-zero * padded.astype(np.int32).sum(0, dtype=np.int32))
    scales = _padded(scale, full)
    biases = None if bias is None else _padded(bias, full)
    arrays = tuple(array for array in (blocks, start, scales, biases) if array is not None)
    weights = Weights(
        blocks.ctypes.data,
        start.ctypes.data,
        scales.ctypes.data,
        None if biases is None else biases.ctypes.data,
        columns,
    )
    return Packed(weights, arrays)


def by_units(columns: Array, order: tuple[int, ...] = (0, 1, 2, 3)) -> Array:
    """[..., 4U] gate after gate -> 16 units after 16 units, with their gates i, f, g, o."""
    gates = columns.reshape(*columns.shape[:-1], 4, -1, LANES)[..., list(order), :, :]
    return in_lines(np.swapaxes(gates, -3, -2)).reshape(columns.shape)


def decoder_weights(bundle: Bundle, file: str) -> DecoderWeights:
    """Reads a decoder's graph. Raises Unsuited."""
    tensor, sizes = Tensors(bundle, file), bundle.manifest.architecture
    hidden, tokens = sizes.hidden_size, bundle.manifest.vocabulary.target_size
    attends = sizes.attention != "none"
    context = sizes.encoder_hidden_size if attends else 0
    table = by_units(tensor("token_gates.half", tokens, 4 * hidden).astype(np.float32))
    cells = []
    for layer in range(sizes.decoder_layers):
        name = f"cell_{layer}.gates"
        read = 0 if layer == 0 else hidden + (context if layer == 1 else 0)
        bias = None if layer == 0 else by_units(tensor(f"{name}.bias", 4 * hidden))
        weight = by_units(tensor(f"{name}.weight", read + hidden, 4 * hidden))
        cells.append(pack(weight, UNIT * by_units(tensor(f"{name}.scale", 4 * hidden)), bias))
    attentional = _linear(tensor, "attentional", hidden + context, hidden) if attends else None
    return DecoderWeights(table, tuple(cells), attentional, _linear(tensor, "logits", hidden, tokens - 1))


def encoder_weights(bundle: Bundle, file: str) -> EncoderWeights:
    """Reads an encoder's graph. Raises Unsuited."""
    tensor, sizes = Tensors(bundle, file), bundle.manifest.architecture
    ways, size, hidden = 1 + sizes.bidirectional, sizes.encoder_hidden_size, sizes.hidden_size
    directions: list[Direction] = []
    arrays: list[Any] = []
    for layer in range(sizes.encoder_layers):
        for direction, used in _encoder_layer(bundle, tensor, layer, ways, size // ways):
            directions.append(direction)
            arrays += used
    coarse = np.float32(bundle.manifest.limits.max_source_length / 127)
    fine = np.float32(coarse / 254)
    first_hidden, first_cell = [], []
    for layer in range(sizes.decoder_layers):
        first_hidden.append(_linear(tensor, f"bridge_h_{layer}", size, hidden))
        weight, scale = tensor(f"c_{layer}.weight", size, hidden), tensor(f"c_{layer}.scale", hidden)
        first_cell.append(pack(weight, coarse * scale, tensor(f"c_{layer}.bias", hidden)))
        first_cell.append(pack(weight, fine * scale, None))
    keys = []
    if sizes.attention == "general":
        keys.append(pack(tensor("keys.weight", size, hidden), UNIT * tensor("keys.scale", hidden), None))
    encoder = Encoder(
        layers=sizes.encoder_layers,
        ways=ways,
        units=size // ways,
        directions=(Direction * len(directions))(*directions),
        bridges=sizes.decoder_layers,
        hidden=hidden,
        lowest=max(0, sizes.encoder_layers - sizes.decoder_layers) if sizes.starts_from == "top" else 0,
        first_hidden=_together(first_hidden),
        first_cell=_together(first_cell),
        coarse=Grid(1 / coarse, 128),
        fine=Grid(1 / fine, 128),
        attends=sizes.attention != "none",
        keys=_together(keys) if keys else None,
    )
    return EncoderWeights(encoder, (*arrays, *first_hidden, *first_cell, *keys))


def _encoder_layer(
    bundle: Bundle, tensor: Tensors, layer: int, ways: int, units: int
) -> Iterator[tuple[Direction, list[Any]]]:
    """A layer's directions without the sentinels; the first one's product with the embedding is a table."""
    name, wide = f"layer_{layer}", units + SENTINELS
    sizes = bundle.manifest.architecture
    tokens = bundle.manifest.vocabulary.source_size
    states, state_zero = _grid(tensor(f"{name}.h", ways, 1, wide)[0, 0, -SENTINELS])
    inputs = sizes.embedding_size + SENTINELS if layer == 0 else ways * wide
    read = _real(tensor(f"{name}.W", ways, inputs, 4 * wide), units)
    back = _real(tensor(f"{name}.R", ways, wide, 4 * wide), units)[:, :units]
    read_scale, back_scale = (_real(tensor(f"{name}.{side}_scale", ways, 4 * wide), units) for side in "WR")
    biases = tensor(f"{name}.B", ways, 8 * wide).reshape(ways, 2, 4 * wide).sum(1, dtype=np.float32)
    bias = _real(biases, units)
    for way in range(ways):
        recurrent = pack(back[way], states * back_scale[way], None, state_zero)
        direction = Direction(back=recurrent.weights, units=units, backwards=way)
        direction.grid = Grid(1 / states, state_zero)
        if layer == 0:
            embedding = tensor("embedding", tokens, inputs)
            scale, zero = _grid(embedding[0, -SENTINELS])
            whole = np.clip(np.rint(embedding / scale), -zero, 255 - zero).astype(np.int32)
            sums = whole[:, :-SENTINELS] @ read[way][:-SENTINELS].astype(np.int32)
            table = in_lines(sums.astype(np.float32) * (scale * read_scale[way]) + bias[way])  # [tokens, 4U]
            direction.table = table.ctypes.data
            yield direction, [recurrent, table]
        else:
            own = read[way].reshape(ways, wide, -1)[:, :units].reshape(ways * units, -1)
            driven = pack(own, states * read_scale[way], bias[way], state_zero)
            direction.read = driven.weights
            yield direction, [recurrent, driven]


def _together(packed: Sequence[Packed]) -> Any:
    return (Weights * len(packed))(*(one.weights for one in packed))


def _grid(largest: np.float32) -> tuple[np.float32, int]:
    """Scale and zero of ONNX Runtime's dynamic quantisation of a batch from -largest to largest."""
    scale = np.float32((largest + largest) / np.float32(255))
    return scale, int(np.rint(largest / scale))


def _real(columns: Array, units: int) -> Array:
    """[..., 4 (U + 2)] in the operator's order -> [..., 4U] by units, without the sentinels."""
    gates = columns.reshape(*columns.shape[:-1], 4, units + SENTINELS)[..., :units]
    return by_units(np.ascontiguousarray(gates).reshape(*columns.shape[:-1], 4 * units), OPERATOR_ORDER)


def _linear(tensor: Tensors, name: str, inputs: int, outputs: int) -> Packed:
    return pack(
        tensor(f"{name}.weight", inputs, outputs),
        UNIT * tensor(f"{name}.scale", outputs),
        tensor(f"{name}.bias", outputs),
    )


def _padded(values: Array, size: int) -> Array:
    padded = np.zeros(size, np.float32)
    padded[: len(values)] = values
    return in_lines(padded)
