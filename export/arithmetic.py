"""How a profile multiplies: one description of the network serves them all. Here: float32.

A unit is a tensor that lies in [-1, 1], as the profile keeps it: float32 here, bytes in export/int8.py,
float16 in export/fp16.py.
Hidden states are units, and so is what is added up of them with weights that sum to 1.
"""

from collections.abc import Sequence

import numpy as np
from torch import nn

from bundle.values import ProfileName
from export.onnx_graph import GraphBuilder


class Float32(GraphBuilder):
    """A graph whose products are those of float32."""

    profile: ProfileName = "fp32"
    zero: np.generic = np.float32(0)  # the unit that means 0

    def product(
        self,
        parts: Sequence[str],
        weight: np.ndarray,
        bias: np.ndarray | None,
        output: str,
        plus: str = "",
    ) -> str:
        """Units, side by side [R, in], times weight [in, out], and a bias [out] or `plus` [R, out]: float32.

        With neither, the units may have more axes than two.
        """
        x, factor = self.joined(parts, output), self.float_weight(f"{output}.weight", weight)
        if bias is not None:
            plus = self.weight(f"{output}.bias", bias)
        return self.add("Gemm" if plus else "MatMul", [x, factor, *([plus] if plus else [])], output)

    def linear(self, parts: Sequence[str], layer: nn.Linear, output: str) -> str:
        """Units, side by side [R, in], through a layer of PyTorch's: float32 [R, out]."""
        return self.product(parts, *weights(layer), output)

    def table(self, name: str, rows: np.ndarray) -> str:
        """Rows to be looked up, in float32."""
        return self.float_weight(name, rows)

    def float_weight(self, name: str, values: np.ndarray) -> str:
        """A weight that is float32 in the graph, as the profile stores it."""
        return self.weight(name, values)

    def bounded_linear(self, x: str, bound: float, layer: nn.Linear, output: str) -> str:
        """The same for float32 [R, in] in [-bound, bound]."""
        return self.linear([x], layer, output)

    def unit(self, operator: str, inputs: Sequence[str], output: str) -> tuple[str, str]:
        """A node whose result lies in [-1, 1]: the name of that in float32, and of the unit, `output`."""
        self.add(operator, inputs, output)
        return output, output

    def as_float(self, unit: str) -> str:
        """A unit in float32."""
        return unit

    def joined(self, parts: Sequence[str], name: str) -> str:
        """Tensors of one type side by side in their last axis."""
        return parts[0] if len(parts) == 1 else self.add("Concat", parts, f"{name}.input", axis=-1)


def weights(layer: nn.Linear) -> tuple[np.ndarray, np.ndarray | None]:
    """Weight [in, out] and bias [out], if there is one."""
    bias = None if layer.bias is None else layer.bias.detach().cpu().numpy()
    return layer.weight.detach().cpu().numpy().T, bias
