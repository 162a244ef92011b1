"""What an ONNX file says about itself, read straight from its protobuf wire format (onnx.proto).

Knows nothing about bundles' rules. Needs no onnx package: the service has none. Reading is strict where
parsers differ: a field that is unknown, of another wire type, or given twice where once is meant, makes the
file malformed, so that no parser sees a tensor or a graph that this one has missed.
"""

from dataclasses import dataclass, field

from bundle.errors import BundleError
from bundle.wire import Kind, MalformedError, Message, Schema, read_message

_ONE, _MANY, _NUMBER, _NUMBERS = Kind.PART, Kind.PARTS, Kind.NUMBER, Kind.NUMBERS

_MODEL = Schema(
    "model",
    {
        7: ("graph", _ONE),
        8: ("opset_import", _MANY),
        20: ("training_info", _MANY),
        25: ("functions", _MANY),
    },
    skipped=(1, 2, 3, 4, 5, 6, 14, 26),
)
_OPSET = Schema("opset_import", {1: ("domain", _ONE), 2: ("version", _NUMBER)})
_GRAPH = Schema(
    "graph",
    {
        1: ("node", _MANY),
        5: ("initializer", _MANY),
        11: ("input", _MANY),
        12: ("output", _MANY),
        15: ("sparse_initializer", _MANY),
    },
    skipped=(2, 10, 13, 14, 16),
)
_NODE = Schema(
    "node",
    {
        1: ("input", _MANY),
        2: ("output", _MANY),
        4: ("op_type", _ONE),
        5: ("attribute", _MANY),
        7: ("domain", _ONE),
    },
    skipped=(3, 6, 8, 9, 10),
)
_ATTRIBUTE = Schema(
    "attribute",
    {
        5: ("t", _ONE),
        6: ("g", _ONE),
        10: ("tensors", _MANY),
        11: ("graphs", _MANY),
        22: ("sparse_tensor", _ONE),
        23: ("sparse_tensors", _MANY),
    },
    skipped=(1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21),
)
_TENSOR = Schema(
    "tensor",
    {
        1: ("dims", _NUMBERS),
        2: ("data_type", _NUMBER),
        8: ("name", _ONE),
        9: ("raw_data", _ONE),
        13: ("external_data", _MANY),
        14: ("data_location", _NUMBER),
    },
    skipped=(3, 4, 5, 6, 7, 10, 11, 12, 16),
)
_SPARSE = Schema("sparse tensor", {1: ("values", _ONE), 2: ("indices", _ONE)}, skipped=(3,))
_VALUE = Schema("value_info", {1: ("name", _ONE), 2: ("type", _ONE)}, skipped=(3, 4))
_TYPE = Schema("type", {1: ("tensor_type", _ONE)}, skipped=(6,))  # no sequence, map, optional or sparse value
_TENSOR_TYPE = Schema("tensor type", {1: ("elem_type", _NUMBER), 2: ("shape", _ONE)})
_SHAPE = Schema("shape", {1: ("dim", _MANY)})
_DIMENSION = Schema("dimension", {1: ("dim_value", _NUMBER), 2: ("dim_param", _ONE)}, skipped=(3,))
_FUNCTION = Schema(
    "function",
    {7: ("node", _MANY), 11: ("attribute_proto", _MANY)},
    skipped=(1, 4, 5, 6, 8, 9, 10, 12, 13, 14),
)
_TRAINING = Schema("training_info", {1: ("initialization", _ONE), 2: ("algorithm", _ONE)}, skipped=(3, 4))

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
        for graph in model.parts("graph"):
            for part in read_message(_GRAPH, graph).parts("initializer"):
                tensor = read_message(_TENSOR, part)
                if tensor.parts("raw_data") and tensor.number("data_type") in _STORED_DTYPES:
                    found[tensor.text("name")] = StoredTensor(
                        _STORED_DTYPES[tensor.number("data_type")],
                        tensor.numbers("dims"),
                        tensor.parts("raw_data")[0],
                    )
    except (MalformedError, UnicodeDecodeError) as error:
        raise BundleError(f"{file}: not an ONNX model: {error}") from error
    return found


def _read_model(data: bytes, found: OnnxFile) -> None:
    model = read_message(_MODEL, memoryview(data))
    for part in model.parts("opset_import"):
        opset = read_message(_OPSET, part)
        domain = _domain(opset.text("domain"))
        if domain in found.opsets:
            raise MalformedError(f"opset_import names the domain {domain!r} twice")
        found.opsets[domain] = opset.number("version")
    found.training_graphs = len(model.parts("training_info"))
    found.functions = len(model.parts("functions"))
    if not model.parts("graph"):
        raise MalformedError("the model has no graph")
    graph = _read_graph(model.parts("graph")[0], found)
    found.inputs = tuple(_read_value(part) for part in graph.parts("input"))
    found.outputs = tuple(_read_value(part) for part in graph.parts("output"))
    for part in model.parts("functions"):
        function = read_message(_FUNCTION, part)
        _read_nodes(function.parts("node"), found)
        _read_attributes(function.parts("attribute_proto"), found, ("a function",))
    for part in model.parts("training_info"):
        training = read_message(_TRAINING, part)
        for graph_part in training.parts("initialization") + training.parts("algorithm"):
            _read_graph(graph_part, found)


def _read_graph(data: memoryview, found: OnnxFile, inside: tuple[str, ...] = ()) -> Message:
    """`inside`: the operators that have this graph, the outermost first."""
    if len(inside) > _DEEPEST_GRAPH:
        raise MalformedError(f"graphs nest more than {_DEEPEST_GRAPH} deep")
    graph = read_message(_GRAPH, data)
    for part in graph.parts("initializer"):
        _read_tensor(part, found)
    for part in graph.parts("sparse_initializer"):
        _read_sparse_tensor(part, found)
    _read_nodes(graph.parts("node"), found, inside)
    return graph


def _read_nodes(parts: list[memoryview], found: OnnxFile, inside: tuple[str, ...] = ()) -> None:
    for part in parts:
        node = read_message(_NODE, part)
        operator = ".".join(filter(None, (_domain(node.text("domain")), node.text("op_type"))))
        found.nodes.append(OnnxNode(operator, node.texts("input"), node.texts("output")))
        _read_attributes(node.parts("attribute"), found, (*inside, operator))


def _read_attributes(parts: list[memoryview], found: OnnxFile, inside: tuple[str, ...]) -> None:
    for part in parts:
        attribute = read_message(_ATTRIBUTE, part)
        for tensor in attribute.parts("t") + attribute.parts("tensors"):
            _read_tensor(tensor, found)
        for tensor in attribute.parts("sparse_tensor") + attribute.parts("sparse_tensors"):
            _read_sparse_tensor(tensor, found)
        for graph in attribute.parts("g") + attribute.parts("graphs"):
            found.sub_graphs.append("/".join(inside))
            _read_graph(graph, found, inside)


def _read_tensor(data: memoryview, found: OnnxFile) -> None:
    tensor = read_message(_TENSOR, data)
    name = tensor.text("name")
    found.tensors[name] = tensor.numbers("dims")
    # Any location but 0: a parser cuts the number to 32 bits, so that 2**32 + 1 is EXTERNAL to it as well.
    if tensor.number("data_location") != 0 or tensor.parts("external_data"):
        found.external.append(name)


def _read_sparse_tensor(data: memoryview, found: OnnxFile) -> None:
    sparse = read_message(_SPARSE, data)
    for part in sparse.parts("values") + sparse.parts("indices"):
        _read_tensor(part, found)


def _read_value(data: memoryview) -> OnnxTensor:
    value = read_message(_VALUE, data)
    if not value.parts("type"):
        return OnnxTensor(value.text("name"), "no type", None)
    tensor = read_message(_TYPE, value.parts("type")[0])
    if not tensor.parts("tensor_type"):
        return OnnxTensor(value.text("name"), "no tensor", None)
    tensor_type = read_message(_TENSOR_TYPE, tensor.parts("tensor_type")[0])
    number = tensor_type.number("elem_type")
    dtype = _DTYPES.get(number, f"element type {number}")
    if not tensor_type.parts("shape"):
        return OnnxTensor(value.text("name"), dtype, None)
    dimensions = read_message(_SHAPE, tensor_type.parts("shape")[0]).parts("dim")
    return OnnxTensor(value.text("name"), dtype, tuple(_read_dimension(part) for part in dimensions))


def _read_dimension(data: memoryview) -> int | str:
    dimension = read_message(_DIMENSION, data)
    if "dim_value" in dimension and "dim_param" in dimension:
        raise MalformedError("a dimension has both a value and a name")
    return dimension.number("dim_value") if "dim_value" in dimension else dimension.text("dim_param") or "?"


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
