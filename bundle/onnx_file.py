"""What an ONNX file says about itself, read straight from its protobuf wire format (onnx.proto).

Knows nothing about bundles' rules. Needs no onnx package: the service has none. Reading is strict where
parsers differ: a field that is unknown, of another wire type, or given twice where once is meant, makes the
file malformed, so that no parser sees a tensor or a graph that this one has missed.
"""

from dataclasses import dataclass, field

from bundle.errors import BundleError
from bundle.wire import Kind, MalformedError, Message, Schema, read_message

__all__ = ["OnnxFile", "OnnxNode", "OnnxTensor", "StoredTensor", "read_onnx", "stored_tensors"]

_ONE, _MANY, _NUMBER, _NUMBERS, _SKIP = Kind.PART, Kind.PARTS, Kind.NUMBER, Kind.NUMBERS, Kind.SKIPPED

_MODEL = Schema(
    "model",
    {
        1: _SKIP,
        2: _SKIP,
        3: _SKIP,
        4: _SKIP,
        5: _SKIP,
        6: _SKIP,
        7: _ONE,
        8: _MANY,
        14: _SKIP,
        20: _MANY,
        25: _MANY,
        26: _SKIP,
    },
)
_OPSET = Schema("opset_import", {1: _ONE, 2: _NUMBER})
_GRAPH = Schema(
    "graph",
    {
        1: _MANY,
        2: _SKIP,
        5: _MANY,
        10: _SKIP,
        11: _MANY,
        12: _MANY,
        13: _SKIP,
        14: _SKIP,
        15: _MANY,
        16: _SKIP,
    },
)
_NODE = Schema(
    "node",
    {1: _MANY, 2: _MANY, 3: _SKIP, 4: _ONE, 5: _MANY, 6: _SKIP, 7: _ONE, 8: _SKIP, 9: _SKIP, 10: _SKIP},
)
_ATTRIBUTE = Schema(
    "attribute",
    dict.fromkeys((1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21), _SKIP)
    | {5: _ONE, 6: _ONE, 10: _MANY, 11: _MANY, 22: _ONE, 23: _MANY},
)
_TENSOR = Schema(
    "tensor",
    dict.fromkeys((3, 4, 5, 6, 7, 10, 11, 12, 16), _SKIP)
    | {1: _NUMBERS, 2: _NUMBER, 8: _ONE, 9: _ONE, 13: _MANY, 14: _NUMBER},
)
_SPARSE = Schema("sparse tensor", {1: _ONE, 2: _ONE, 3: _SKIP})
_VALUE = Schema("value_info", {1: _ONE, 2: _ONE, 3: _SKIP, 4: _SKIP})
_TYPE = Schema("type", {1: _ONE, 6: _SKIP})  # tensors only: no sequence, map, optional or sparse value
_TENSOR_TYPE = Schema("tensor type", {1: _NUMBER, 2: _ONE})
_SHAPE = Schema("shape", {1: _MANY})
_FUNCTION = Schema(
    "function", dict.fromkeys((1, 4, 5, 6, 8, 9, 10, 12, 13, 14), _SKIP) | {7: _MANY, 11: _MANY}
)
_TRAINING = Schema("training_info", {1: _ONE, 2: _ONE, 3: _SKIP, 4: _SKIP})
_DIMENSION = Schema("dimension", {1: _NUMBER, 2: _ONE, 3: _SKIP})

_DTYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 10: "float16"}
_STORED_DTYPES = _DTYPES | {3: "int8"}
_DEEPEST_GRAPH = 8


@dataclass(frozen=True)
class OnnxTensor:
    """An input or output of the graph; an unnamed dimension is "?", a missing shape is None."""

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True)
class OnnxNode:
    """One operator call; operators outside the default domain carry it: "com.microsoft.FusedGemm"."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class OnnxFile:
    """Everything that the rules ask about. Nodes and tensors include those of sub-graphs."""

    inputs: tuple[OnnxTensor, ...] = ()
    outputs: tuple[OnnxTensor, ...] = ()
    opsets: dict[str, int] = field(default_factory=dict)  # by domain; the default one is ""
    nodes: list[OnnxNode] = field(default_factory=list)  # in the order of the file
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)  # shapes of stored tensors by name
    external: list[str] = field(default_factory=list)  # names of tensors whose data lies outside the file
    sub_graphs: list[str] = field(default_factory=list)  # whose each is: "Scan", and "Scan/If" inside of that
    functions: int = 0
    training_graphs: int = 0

    @property
    def operators(self) -> set[str]:
        return {node.operator for node in self.nodes}


def read_onnx(file: str, data: bytes) -> OnnxFile:
    """Read one serialised ModelProto. Raises BundleError, which names `file`, where it is malformed."""
    found = OnnxFile()
    try:
        _read_model(data, found)
    except (MalformedError, UnicodeDecodeError) as error:
        raise BundleError(f"{file}: not an ONNX model: {error}") from error
    return found


@dataclass(frozen=True)
class StoredTensor:
    """A weight of the graph: row by row, little-endian."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def stored_tensors(file: str, data: bytes) -> dict[str, StoredTensor]:
    """The weights of a graph by name, uncopied; those that are not stored as raw bytes are left out.

    Raises BundleError, which names `file`, where it is malformed.
    """
    found = {}
    try:
        model = read_message(_MODEL, memoryview(data))
        for graph in model.parts(7):
            for part in read_message(_GRAPH, graph).parts(5):
                tensor = read_message(_TENSOR, part)
                if tensor.parts(9) and tensor.number(2) in _STORED_DTYPES:
                    found[tensor.text(8)] = StoredTensor(
                        _STORED_DTYPES[tensor.number(2)], tensor.numbers(1), tensor.parts(9)[0]
                    )
    except (MalformedError, UnicodeDecodeError) as error:
        raise BundleError(f"{file}: not an ONNX model: {error}") from error
    return found


def _read_model(data: bytes, found: OnnxFile) -> None:
    model = read_message(_MODEL, memoryview(data))
    for part in model.parts(8):
        opset = read_message(_OPSET, part)
        domain = _domain(opset.text(1))
        if domain in found.opsets:
            raise MalformedError(f"opset_import names the domain {domain!r} twice")
        found.opsets[domain] = opset.number(2)
    found.training_graphs = len(model.parts(20))
    found.functions = len(model.parts(25))
    if not model.parts(7):
        raise MalformedError("the model has no graph")
    graph = _read_graph(model.parts(7)[0], found)
    found.inputs = tuple(_read_value(part) for part in graph.parts(11))
    found.outputs = tuple(_read_value(part) for part in graph.parts(12))
    for part in model.parts(25):
        function = read_message(_FUNCTION, part)
        _read_nodes(function.parts(7), found)
        _read_attributes(function.parts(11), found, ("a function",))
    for part in model.parts(20):
        training = read_message(_TRAINING, part)
        for graph_part in training.parts(1) + training.parts(2):
            _read_graph(graph_part, found)


def _read_graph(data: memoryview, found: OnnxFile, inside: tuple[str, ...] = ()) -> Message:
    """`inside`: the operators that have this graph, the outermost first."""
    if len(inside) > _DEEPEST_GRAPH:
        raise MalformedError(f"graphs nest more than {_DEEPEST_GRAPH} deep")
    graph = read_message(_GRAPH, data)
    for part in graph.parts(5):
        _read_tensor(part, found)
    for part in graph.parts(15):
        _read_sparse_tensor(part, found)
    _read_nodes(graph.parts(1), found, inside)
    return graph


def _read_nodes(parts: list[memoryview], found: OnnxFile, inside: tuple[str, ...] = ()) -> None:
    for part in parts:
        node = read_message(_NODE, part)
        operator = ".".join(filter(None, (_domain(node.text(7)), node.text(4))))
        found.nodes.append(OnnxNode(operator, node.texts(1), node.texts(2)))
        _read_attributes(node.parts(5), found, (*inside, operator))


def _read_attributes(parts: list[memoryview], found: OnnxFile, inside: tuple[str, ...]) -> None:
    for part in parts:
        attribute = read_message(_ATTRIBUTE, part)
        for tensor in attribute.parts(5) + attribute.parts(10):
            _read_tensor(tensor, found)
        for tensor in attribute.parts(22) + attribute.parts(23):
            _read_sparse_tensor(tensor, found)
        for graph in attribute.parts(6) + attribute.parts(11):
            found.sub_graphs.append("/".join(inside))
            _read_graph(graph, found, inside)


def _read_tensor(data: memoryview, found: OnnxFile) -> None:
    tensor = read_message(_TENSOR, data)
    name = tensor.text(8)
    found.tensors[name] = tensor.numbers(1)
    # Any location but 0: a parser cuts the number to 32 bits, so that 2**32 + 1 is EXTERNAL to it as well.
    if tensor.number(14) != 0 or tensor.parts(13):
        found.external.append(name)


def _read_sparse_tensor(data: memoryview, found: OnnxFile) -> None:
    sparse = read_message(_SPARSE, data)
    for part in sparse.parts(1) + sparse.parts(2):
        _read_tensor(part, found)


def _read_value(data: memoryview) -> OnnxTensor:
    value = read_message(_VALUE, data)
    if not value.parts(2):
        return OnnxTensor(value.text(1), "no type", None)
    tensor = read_message(_TYPE, value.parts(2)[0])
    if not tensor.parts(1):
        return OnnxTensor(value.text(1), "no tensor", None)
    tensor_type = read_message(_TENSOR_TYPE, tensor.parts(1)[0])
    number = tensor_type.number(1)
    dtype = _DTYPES.get(number, f"element type {number}")
    if not tensor_type.parts(2):
        return OnnxTensor(value.text(1), dtype, None)
    dimensions = read_message(_SHAPE, tensor_type.parts(2)[0]).parts(1)
    return OnnxTensor(value.text(1), dtype, tuple(_read_dimension(part) for part in dimensions))


def _read_dimension(data: memoryview) -> int | str:
    dimension = read_message(_DIMENSION, data)
    if 1 in dimension and 2 in dimension:
        raise MalformedError("a dimension has both a value and a name")
    return dimension.number(1) if 1 in dimension else dimension.text(2) or "?"


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
