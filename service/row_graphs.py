"""Small ONNX graphs that move rows of tensors where these lie: no state travels over the host.

Knows nothing of engines or of ONNX Runtime: what comes out are the bytes of an ONNX file, which ONNX's own
writer would be a heavy guest in a server for. Tensors are changed in place: ScatterND writes its updates
alone where its output is bound to the memory of its input. Letters: N rows of a tensor, M rows moved.
"""

from collections.abc import Sequence

from bundle.manifest import Tensor

OPSET, IR_VERSION = 18, 8
ROWS, SOURCES, TOKENS = range(3)  # of the plan [3, M]: the rows written, those read, and what is to be read
_TYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "float16": 10}
_INT = 2  # type of an attribute


def place_graph(tensors: Sequence[Tensor]) -> bytes:
    """X [N, ..] -> X_out, whose row plan[0] is X's plan[1]; token_out, whose row plan[0] is plan[2].

    All rows are read before the first is written.
    """
    graph = _Graph()
    rows, sources = graph.plan(ROWS, column=True), graph.plan(SOURCES)
    for tensor in tensors:
        graph.write(tensor, rows, graph.add("Gather", [tensor.name, sources], f"{tensor.name}_moved", axis=0))
    graph.write(Tensor(name="token", dtype="int64", shape=("N",)), rows, graph.plan(TOKENS))
    return graph.finish("place")


def enter_graph(tensors: Sequence[Tensor]) -> bytes:
    """X [N, ..], new_X [M, ..] -> X_out, whose row plan[0] is new_X; token_out as in `place_graph`.

    Where X has a source axis, new_X may have a shorter one: what lies beyond it is zeros. `pads` holds how
    much longer X is, as ONNX's Pad wants it.
    """
    graph = _Graph()
    rows = graph.plan(ROWS, column=True)
    for tensor in tensors:
        found = graph.read(tensor, f"new_{tensor.name}", "M")
        if "S" in tensor.shape:
            found = graph.add("Pad", [found, graph.pads(len(tensor.shape))], f"{found}_padded")
        graph.write(tensor, rows, found)
    graph.write(Tensor(name="token", dtype="int64", shape=("N",)), rows, graph.plan(TOKENS))
    return graph.finish("enter")


def copy_graph(tensors: Sequence[Tensor]) -> bytes:
    """X [N, ..] -> X_out, whose row plan[0] is X's plan[1]."""
    graph = _Graph()
    rows, sources = graph.plan(ROWS, column=True), graph.plan(SOURCES)
    for tensor in tensors:
        graph.write(tensor, rows, graph.add("Gather", [tensor.name, sources], f"{tensor.name}_moved", axis=0))
    return graph.finish("copy")


def pick_graph(tensors: Sequence[Tensor]) -> bytes:
    """X [N, ..] -> X_out [M, ..], the rows `rows` of X."""
    graph = _Graph()
    graph.input("rows", "int64", ("M",))
    for tensor in tensors:
        graph.add("Gather", [graph.read(tensor), "rows"], f"{tensor.name}_out", axis=0)
        graph.output(f"{tensor.name}_out", tensor.dtype, ("M", *tensor.shape[1:]))
    return graph.finish("pick")


def resize_graph(tensors: Sequence[Tensor]) -> bytes:
    """X [M, S, ..] -> X_out, cut to `kept` of the source axis [1], and padded with zeros by `pads`."""
    graph = _Graph()
    graph.input("kept", "int64", (1,))
    start, axis = graph.constant("start", [0]), graph.constant("axis", [1])
    for tensor in tensors:
        found = graph.read(tensor, rows="M")
        cut = graph.add("Slice", [found, start, "kept", axis], f"{tensor.name}_cut")
        graph.add("Pad", [cut, graph.pads(len(tensor.shape))], f"{tensor.name}_out")
        graph.output(f"{tensor.name}_out", tensor.dtype, ("M", "W", *tensor.shape[2:]))
    return graph.finish("resize")


class _Graph:
    """Collects an ONNX graph, field by field of onnx.proto3."""

    def __init__(self) -> None:
        self._nodes: dict[str, bytes] = {}  # by their one output
        self._inputs: dict[str, bytes] = {}
        self._outputs: list[bytes] = []
        self._constants: dict[str, bytes] = {}

    def plan(self, line: int, column: bool = False) -> str:
        """A line of the plan: [M], or [M, 1] as ScatterND wants it."""
        self.input("plan", "int64", (3, "M"))
        found = self.add("Gather", ["plan", self.constant(f"line_{line}", line)], f"plan_{line}", axis=0)
        if not column:
            return found
        return self.add("Unsqueeze", [found, self.constant("last", [-1])], f"{found}_column")

    def pads(self, axes: int) -> str:
        """The input `pads`, of tensors with so many axes."""
        self.input(name := f"pads_{axes}", "int64", (2 * axes,))
        return name

    def read(self, tensor: Tensor, name: str = "", rows: str = "N") -> str:
        """A tensor as an input, under its own name or another."""
        self.input(name or tensor.name, tensor.dtype, (rows, *tensor.shape[1:]))
        return name or tensor.name

    def write(self, tensor: Tensor, rows: str, updates: str) -> None:
        """A tensor as input and output, with other values in some rows."""
        self.read(tensor)
        self.add("ScatterND", [tensor.name, rows, updates], f"{tensor.name}_out")
        self.output(f"{tensor.name}_out", tensor.dtype, ("N", *tensor.shape[1:]))

    def add(self, operator: str, inputs: Sequence[str], output: str, **integers: int) -> str:
        """A node with one output, once."""
        node = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(3, output)
        for name, value in integers.items():
            node_attribute = _text(1, name) + _number(3, value) + _number(20, _INT)
            node += _field(5, node_attribute)
        self._nodes[output] = node + _text(4, operator)
        return output

    def constant(self, name: str, values: int | Sequence[int]) -> str:
        """An int64 constant: a number, or a list of them."""
        numbers = [values] if isinstance(values, int) else list(values)
        raw = b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)
        dims = b"" if isinstance(values, int) else _number(1, len(numbers))
        self._constants[name] = dims + _number(2, _TYPES["int64"]) + _text(8, name) + _field(9, raw)
        return name

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        self._inputs[name] = _value(name, dtype, shape)

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        self._outputs.append(_value(name, dtype, shape))

    def finish(self, name: str) -> bytes:
        """The ONNX file."""
        graph = b"".join(_field(1, node) for node in self._nodes.values()) + _text(2, name)
        graph += b"".join(_field(5, constant) for constant in self._constants.values())
        graph += b"".join(_field(11, value) for value in self._inputs.values())
        graph += b"".join(_field(12, value) for value in self._outputs)
        return _number(1, IR_VERSION) + _field(7, graph) + _field(8, _text(1, "") + _number(2, OPSET))


def _value(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto."""
    dims = b"".join(
        _field(1, _number(1, size) if isinstance(size, int) else _text(2, size)) for size in shape
    )
    tensor = _number(1, _TYPES[dtype]) + _field(2, dims)
    return _text(1, name) + _field(2, _field(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, text: str) -> bytes:
    return _field(field, text.encode())


def _field(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
