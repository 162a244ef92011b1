"""The int8 profile: whole numbers that every processor adds alike, scales that no neighbour changes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper

from bundle.manifest import Graph, Tensor
from export.int8 import LARGEST_PAIR, Int8, quantise
from export.parity import Graphs, ParityError, check_invariance
from export.saturation import hidden_states, largest
from tests.export.shapes import LOOKS, SHAPES, SIZES, graphs_of, network, some_sources
from training.cells import CELLS

WEIGHTS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 4)),
    elements=st.floats(-100, 100, width=32) | st.sampled_from([0.0, 1.0, -1.0]),
)


LSTMS = [name for name, cell in CELLS.items() if cell.states == 2]


def pairs(whole: np.ndarray) -> np.ndarray:
    """|w_k| + |w_k+1| of each column."""
    size = np.abs(whole.astype(int))
    return size[:-1] + size[1:]


SMALL = np.array([[1.285e-42], [1.285e-42]], np.float32)  # its scale would have a few bits only


@settings(max_examples=500, deadline=None)
@given(WEIGHTS)
@example(SMALL)
def test_no_two_neighbours_overflow_sixteen_bits(weight):
    whole, scale = quantise(weight)
    assert whole.dtype == np.int8 and scale.dtype == np.float32
    assert whole.shape == weight.shape and scale.shape == weight.shape[1:]
    assert whole.min() >= -127
    assert (pairs(whole) <= LARGEST_PAIR).all()
    assert 255 * LARGEST_PAIR < 2**15


@settings(max_examples=500, deadline=None)
@given(WEIGHTS)
@example(SMALL)
def test_each_weight_is_at_most_half_a_step_off(weight):
    whole, scale = quantise(weight)
    off = np.abs(whole * scale.astype(np.float64) - weight)
    assert (off <= scale * np.float64(0.5001)).all()
    assert (whole[weight == 0] == 0).all()


def test_the_scale_is_no_coarser_than_it_must_be():
    """A column whose neighbours are small uses all of a byte; two large neighbours share it."""
    whole, scale = quantise(np.array([[1.0, 1.0], [0.0, 1.0], [0.5, 0.0]], np.float32))
    assert whole.tolist() == [[127, 64], [0, 64], [64, 0]]
    assert scale == pytest.approx([1 / 127, 2 / 127])


def test_a_column_of_zeros_has_a_scale_that_is_a_number():
    whole, scale = quantise(np.zeros((4, 2), np.float32))
    assert not whole.any() and (scale == 1).all()


def test_the_usual_scale_would_overflow():
    """Negative control: the largest weight as 127."""
    weight = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    usual = np.rint(weight / (np.abs(weight).max(0) / 127)).astype(np.int8)
    assert (pairs(usual) > LARGEST_PAIR).any()
    assert (pairs(quantise(weight)[0]) <= LARGEST_PAIR).all()


def weights(data: bytes) -> dict[str, np.ndarray]:
    """The constants of a graph by name."""
    return {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer}


def test_every_whole_weight_of_the_graphs_keeps_to_the_rule():
    model, architecture = network((3, 2, True), (6, 18))
    found = 0
    for data in graphs_of("int8", model, architecture):
        for name, array in weights(data).items():
            if array.dtype == np.int8 and not name.endswith("_zero"):
                rows = array if array.ndim == 3 else array[None]  # [directions, in, out]
                assert all((pairs(way) <= LARGEST_PAIR).all() for way in rows), name
                found += 1
    assert found == 6 + 4 + 1 + 2  # W and R of 3 layers; the bridge's h and c; logits; 2 cells


NETWORKS = [(shape, sizes, "lstm", "first-step") for shape in SHAPES for sizes in SIZES]
NETWORKS += [((1, 2, True), (6, 18), cell, look) for cell in CELLS for look in LOOKS]


@pytest.mark.parametrize(("shape", "sizes", "cell", "look"), NETWORKS)
def test_it_is_near_fp32(shape, sizes, cell, look):
    """First states, and what the first step makes of them.

    The largest means measured: 0.006 for units, 0.03 for c, 0.01 for log-probabilities.
    """
    model, architecture = network(shape, sizes, cell=cell, **LOOKS[look])
    fp32, whole = (Graphs.load(*graphs_of(profile, model, architecture)) for profile in ("fp32", "int8"))
    sources = some_sources()
    true, found = fp32.encode(sources), whole.encode(sources)
    for name, state in true.items():
        read = found[name]
        if read.dtype == np.uint8:
            assert name.startswith(("h_", "fed", "summary")) and 1 <= read.min() <= read.max() <= 255
            read = (read.astype(np.float32) - 128) / 127
        assert np.abs(read - state).mean() < (0.06 if name.startswith("c_") else 0.02), name
    token = np.full(len(sources), model.start_id)
    scores = [
        graphs.step(["log_probs"], token, state)[0][0] for graphs, state in ((fp32, true), (whole, found))
    ]
    assert np.abs(scores[0] - scores[1]).mean() < 0.02


def changed_by_neighbours(encoder: bytes, decoder: bytes) -> int:
    """How many first states differ, in any bit, between a source alone and the same among others."""
    graphs = Graphs.load(encoder, decoder)
    sources = some_sources()
    together = graphs.encode(sources)
    changed = 0
    for row, source in enumerate(sources):
        alone = graphs.encode([source])
        changed += any((alone[name][0] != state[row]).any() for name, state in together.items())
    return changed


def without_state_sentinels(data: bytes) -> bytes:
    """Hidden units that would stay at +1 and -1 start at 0, and stay there."""
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("layer_") and tensor.name.endswith((".h", ".c")):
            array = np.zeros_like(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model.SerializeToString()


def without_bounds(data: bytes) -> bytes:
    """The two constant features beside the embedding are 0."""
    model = onnx.load_from_string(data)
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == "embedding"]
    array = numpy_helper.to_array(tensor).copy()
    array[:, -2:] = 0
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model.SerializeToString()


@pytest.mark.parametrize("cell", LSTMS)
def test_the_sentinels_pin_the_scale(cell):
    """Each of the two kinds is needed: without it, neighbours change states (negative controls)."""
    model, architecture = network((2, 1, True), (6, 18), cell=cell)
    encoder, decoder = graphs_of("int8", model, architecture)
    assert changed_by_neighbours(encoder, decoder) == 0
    for broken in (without_state_sentinels(encoder), without_bounds(encoder)):
        assert changed_by_neighbours(broken, decoder) > 10


def test_export_sees_an_encoder_without_sentinels():
    """Negative control: what proves a profile finds it in the answers, too."""
    model, architecture = network((2, 1, True), (6, 18))
    encoder, decoder = graphs_of("int8", model, architecture)
    graphs = Graphs.load(without_bounds(without_state_sentinels(encoder)), decoder)
    with pytest.raises(ParityError, match="neighbours change its answer"):
        check_invariance(graphs, some_sources(), model.start_id, 12)


@pytest.mark.parametrize("cell", LSTMS)
@pytest.mark.parametrize("length", [1, 2, 500])
def test_sentinels_stay_where_they_are(length, cell):
    """At the largest hidden state that there is, however often the cell is run."""
    model, architecture = network((1, 1, True), (6, 18), cell=cell)
    data = onnx.load_from_string(graphs_of("int8", model, architecture)[0])
    data.graph.output.append(onnx.ValueInfoProto(name="layer_0.Y_h"))
    encoder = ort.InferenceSession(data.SerializeToString(), providers=["CPUExecutionProvider"])
    source, lengths = np.full((1, length), 3, np.int64), np.array([length], np.int32)
    (state,) = encoder.run(["layer_0.Y_h"], {"source": source, "lengths": lengths})
    assert state.shape == (2, 1, 9 + 2)  # half of the decoder's 18 a way, and the sentinels
    *_, most = largest()
    assert (state[..., -2:] == [np.float32(most), -np.float32(most)]).all()


def test_no_hidden_state_is_larger_than_the_sentinels():
    """Gates and cell states at random, and all those near the largest."""
    gate, cell, most = largest()
    chance = np.random.default_rng(0)
    gates = np.concatenate((chance.uniform(-30, 30, 200_000), np.linspace(17, 18, 200_000)))
    cells = np.concatenate((chance.uniform(-30, 30, 200_000), np.linspace(8, 9, 200_000)))
    chance.shuffle(gates[200_000:])
    found = hidden_states(gates, cells)
    assert np.abs(found).max() <= most
    assert hidden_states(np.array([gate]), np.array([cell])) == np.float32(most)
    assert most >= 1 and (np.abs(found) >= 1).any(), "nothing came near: the test proved nothing"


@pytest.mark.parametrize("bound", [1, 15, 300])
def test_a_cell_state_is_read_in_two_bytes(bound):
    """A bridge of weight 1 gives every state in the bounds back, no further off than half a fine step."""
    bridge = torch.nn.Linear(1, 1)
    bridge.load_state_dict({"weight": torch.ones(1, 1), "bias": torch.zeros(1)})
    graph = Int8()
    graph.bounded_linear("x", bound, bridge, "y")
    tensors = [Tensor(name=name, dtype="float32", shape=("B", 1)) for name in "xy"]
    data = graph.finish(Graph(file="read.onnx", inputs=(tensors[0],), outputs=(tensors[1],)))
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    states = np.linspace(-bound, bound, 10_001, dtype=np.float32)[:, None]
    (read,) = session.run(None, {"x": states})
    assert np.abs(read - states).max() <= bound / 127 / 254 / 2 + 1e-6 * bound
