"""The int8 profile's arithmetic: integer products with scales that no neighbour can change.

Weights are whole numbers, one scale a column; activations are bytes, one scale for ever. Every sum of
products is exact in 32 bits, so neither the order of adding nor the rows that share a run change an answer.

The scales are bounds, so nothing is calibrated. A hidden state lies in [-1, 1] by construction: o * tanh(c)
in an LSTM, tanh in an rnn, in a GRU a mean of a tanh and the last state. So does an attentional vector, which
is a tanh, and so does a context: a mean of hidden states, whose weights add up to 1. A cell state is bounded
by the source's length alone, or by 1 with coupled gates. The bridge reads it in two bytes. What attention
itself computes stays in float32 (export/attention.py).

Letters: R rows, H hidden.
"""

from collections.abc import Sequence

import numpy as np
from torch import nn

from bundle.values import ProfileName
from export.arithmetic import Float32, weights

UNIT = np.float32(1 / 127)  # scale of what lies in [-1, 1]
ZERO = np.uint8(128)  # the byte that means 0
LARGEST_PAIR = 128  # two neighbouring weights' sizes: AVX2's byte product adds pairs in 16 bits


def quantise(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[in, out] -> int8 [in, out] and one float32 scale a column [out], with zero at zero.

    No two neighbours in a column are together larger than 128: 255 * 128 < 2**15, so that processors which
    add pairs of products in 16 bits (vpmaddubsw) stay exact too. A column so small that its scale would be no
    normal float is zero.
    """
    size = np.abs(weight)
    pairs = size[:-1] + size[1:] if len(weight) > 1 else size
    scale = np.maximum(size.max(0) / 127, pairs.max(0) / (LARGEST_PAIR - 1))  # rounding may add one
    scale = np.where(scale >= np.finfo(np.float32).tiny, scale, 1.0).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


class Int8(Float32):
    """A graph whose products are those of whole numbers. Units are bytes: 128 means 0, the scale is UNIT."""

    profile: ProfileName = "int8"
    zero = ZERO

    def product(
        self,
        parts: Sequence[str],
        weight: np.ndarray,
        bias: np.ndarray | None,
        output: str,
        plus: str = "",
    ) -> str:
        """Exact sums, then one multiplication."""
        x = self.joined(parts, output)
        if not plus:
            return self._product(x, weight, bias, output, UNIT, output)
        return self.add(
            "Add", [self._product(x, weight, None, f"{output}.product", UNIT, output), plus], output
        )

    def table(self, name: str, rows: np.ndarray) -> str:
        """Stored in half as many bytes."""
        return self.halved(name, rows)

    def bounded_linear(self, x: str, bound: float, layer: nn.Linear, output: str) -> str:
        """A coarse byte, and a fine one of what it left."""
        coarse = np.float32(bound / 127)
        fine = np.float32(coarse / 254)  # a rounding error is at most half a coarse step
        weight, bias = weights(layer)
        high = self._to_bytes(x, coarse, f"{output}.high")
        left = self.add("Sub", [x, self._to_float(high, coarse, f"{output}.told")], f"{output}.left")
        low = self._to_bytes(left, fine, f"{output}.low")
        sums = [
            self._product(high, weight, bias, f"{output}.coarse", coarse, output),
            self._product(low, weight, None, f"{output}.fine", fine, output),
        ]
        return self.add("Add", sums, output)

    def unit(self, operator: str, inputs: Sequence[str], output: str) -> tuple[str, str]:
        """What rounding puts outside [-1, 1] is clipped."""
        exact = self.add(operator, inputs, f"{output}.float")
        return exact, self._to_bytes(exact, UNIT, output)

    def as_float(self, unit: str) -> str:
        """A unit in float32."""
        return self._to_float(unit, UNIT, f"{unit}.float")

    def _product(
        self, x: str, weight: np.ndarray, bias: np.ndarray | None, output: str, scale: np.float32, name: str
    ) -> str:
        """Bytes [R, in] of a scale times weight [in, out], which is kept under a name: float32 [R, out]."""
        whole, column_scale = quantise(weight)
        inputs = [
            x,
            self.weight(f"{name}.weight", whole),
            self._scale(scale),
            self.weight(f"{name}.scale", column_scale),
            self.weight("zero", ZERO),
            "",
        ]
        if bias is not None:
            inputs.append(self.weight(f"{name}.bias", bias))
        return self.add("MatMulIntegerToFloat", inputs, output)

    def _to_bytes(self, x: str, scale: np.float32, output: str) -> str:
        return self.add("QuantizeLinear", [x, self._scale(scale), self.weight("zero", ZERO)], output)

    def _to_float(self, x: str, scale: np.float32, output: str) -> str:
        return self.add("DequantizeLinear", [x, self._scale(scale), self.weight("zero", ZERO)], output)

    def _scale(self, scale: np.float32) -> str:
        return self.weight(f"scale_{float(scale):.9g}", scale)
