"""The fp16 profile's arithmetic: products of float16, and what is made of them in float32. Meant for GPUs.

Weights and units are float16. A GPU adds up in float32 and rounds each sum to float16; gates, cell states and
log-probabilities are computed from these sums in float32. A sum is no larger than its column of weights, for
units lie in [-1, 1].

ONNX Runtime has no such products for the CPU. There it multiplies in float32, and leaves out the rounding
before and after, unless another operator stands between. One does: what export proves, and how far the golden
cases may lie from PyTorch, is with every rounding that a GPU makes.
"""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto
from torch import nn

from bundle.values import ProfileName
from export.arithmetic import Float32, weights


class Float16(Float32):
    """A graph whose products are those of float16, as its units are."""

    profile: ProfileName = "fp16"
    zero = np.float16(0)

    def product(
        self,
        parts: Sequence[str],
        weight: np.ndarray,
        bias: np.ndarray | None,
        output: str,
        plus: str = "",
    ) -> str:
        """Sums with their bias are rounded to float16; `plus` is added in float32."""
        x = self._rounded(self.joined(parts, output))
        inputs = [x, self.half(f"{output}.weight", weight)]
        if bias is not None:
            inputs.append(self.half(f"{output}.bias", bias))
        operator = "MatMul" if bias is None else "Gemm"
        sums = self._rounded(self.add(operator, inputs, f"{output}.half"))
        if not plus:
            return self._to_float(sums, output)
        return self.add("Add", [self._to_float(sums, f"{output}.product"), plus], output)

    def bounded_linear(self, x: str, bound: float, layer: nn.Linear, output: str) -> str:
        """In float32, and once a source: a cell state may be large."""
        return super().product([x], *weights(layer), output)

    def float_weight(self, name: str, values: np.ndarray) -> str:
        """Stored in half as many bytes."""
        return self.halved(name, values)

    def unit(self, operator: str, inputs: Sequence[str], output: str) -> tuple[str, str]:
        """The unit is rounded."""
        exact = self.add(operator, inputs, f"{output}.float")
        return exact, self.add("Cast", [exact], output, to=TensorProto.FLOAT16)

    def as_float(self, unit: str) -> str:
        """A unit in float32."""
        return self._to_float(unit, f"{unit}.float")

    def _to_float(self, x: str, output: str) -> str:
        return self.add("Cast", [x], output, to=TensorProto.FLOAT)

    def _rounded(self, x: str) -> str:
        """The same, behind operators that a GPU has nothing to do for: none on the CPU sees past them."""
        last = self.axis(-1)
        return self.add("Squeeze", [self.add("Unsqueeze", [x, last], f"{x}.beside"), last], f"{x}.rounded")
