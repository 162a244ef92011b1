"""The fp16 profile: products of float16, rounded on the CPU as on a GPU, near fp32 in half of its bytes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from bundle.manifest import Graph, Tensor
from bundle.reader import read_bundle
from export.cascade import decode
from export.fp16 import Float16
from export.golden import LEAST_MARGIN
from export.onnx_graph import RangeError
from export.parity import Graphs
from tests.export.shapes import LOOKS, SHAPES, SIZES, graphs_of, network, some_sources
from training.beam import BeamOptions
from training.cells import CELLS

NETWORKS = [(shape, sizes, "lstm", "first-step") for shape in SHAPES for sizes in SIZES]
NETWORKS += [((1, 2, True), (6, 18), cell, look) for cell in CELLS for look in LOOKS]
CHANCE = np.random.default_rng(0)
WEIGHT, BIAS = CHANCE.normal(size=(64, 24)), CHANCE.normal(size=24)
READ = CHANCE.uniform(-1, 1, (5, 64)).astype(np.float32)


@pytest.mark.parametrize(("shape", "sizes", "cell", "look"), NETWORKS)
def test_it_is_near_fp32(shape, sizes, cell, look):
    """First states and memory, and what the first step makes of them; units are rounded."""
    model, architecture = network(shape, sizes, cell=cell, **LOOKS[look])
    fp32, half = (Graphs.load(*graphs_of(profile, model, architecture)) for profile in ("fp32", "fp16"))
    sources = some_sources()
    true, found = fp32.encode(sources), half.encode(sources)
    for name, state in true.items():
        is_unit = name.startswith(("h_", "fed", "summary"))
        assert found[name].dtype == (np.float16 if is_unit else np.float32), name
        assert np.abs(found[name].astype(np.float32) - state).mean() < 0.002, name
    token = np.full(len(sources), model.start_id)
    scores = [
        graphs.step(["log_probs"], token, state)[0][0] for graphs, state in ((fp32, true), (half, found))
    ]
    assert scores[1].dtype == np.float32
    assert 0 < np.abs(scores[0] - scores[1]).mean() < 0.002


def weights(data: bytes) -> dict[str, np.ndarray]:
    """The constants of a graph by name."""
    return {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer}


@pytest.mark.parametrize("look", ["first-step", "general-fed"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_matrix_is_stored_in_half_the_bytes(cell, look):
    model, architecture = network((2, 2, True), (48, 96), cell=cell, **LOOKS[look])
    sizes = {}
    for profile in ("fp32", "fp16"):
        graphs = graphs_of(profile, model, architecture)
        sizes[profile] = sum(map(len, graphs))
        if profile == "fp16":
            matrices = [
                array
                for graph in graphs
                for name, array in weights(graph).items()
                if array.ndim > 1 and min(array.shape) > 1 and not name.endswith(".P")  # peepholes
            ]
            assert len(matrices) > 8 and {array.dtype for array in matrices} == {np.dtype(np.float16)}
    assert sizes["fp16"] < 0.55 * sizes["fp32"]


def test_a_weight_that_float16_has_no_number_for_is_named():
    model, architecture = network((1, 1, False), (6, 6))
    with torch.no_grad():
        model.decoder.recurrent.weight_hh_l0[3, 2] = -65_520.0
    graphs_of("fp32", model, architecture)
    with pytest.raises(RangeError, match=r"has 65520; .* has up to 65504"):
        graphs_of("fp16", model, architecture)


def product(bias: np.ndarray | None) -> np.ndarray:
    """A product of units and of a weight in float16, as ONNX Runtime computes it here."""
    graph = Float16()
    unit = graph.unit("Identity", ["x"], "unit")[1]
    graph.product([unit], WEIGHT, bias, "y")
    tensors = [Tensor(name=n, dtype="float32", shape=("R", size)) for n, size in (("x", 64), ("y", 24))]
    data = graph.finish(Graph(file="product.onnx", inputs=(tensors[0],), outputs=(tensors[1],)))
    return ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": READ})[0]


def exactly(bias: np.ndarray | None) -> np.ndarray:
    """The same from float16 numbers without any rounding after that."""
    x, weight, added = (a.astype(np.float16).astype(float) for a in (READ, WEIGHT, BIAS))
    return x @ weight + (0 if bias is None else added)


@pytest.mark.parametrize("bias", [None, BIAS], ids=["plain", "biased"])
def test_the_cpu_rounds_as_a_gpu_does(bias):
    """Units before a product, and sums after it, once."""
    found = product(bias)
    assert (found == found.astype(np.float16)).all()
    step = np.spacing(np.abs(found).astype(np.float16)).astype(float)
    assert (np.abs(found - exactly(bias)) <= 0.501 * step).all()


def test_without_operators_between_the_cpu_does_not_round(monkeypatch):
    """Negative control."""
    monkeypatch.setattr(Float16, "_rounded", lambda graph, name: name)
    found = product(None)
    assert (found != found.astype(np.float16)).mean() > 0.9
    assert np.abs(found - exactly(None)).max() > 1e-5  # units are not rounded either


def smallest_margins(folder: Path, profile: str) -> list[float]:
    """How close the two best tokens of each golden case come."""
    bundle = read_bundle(folder / "tiny" / "1")
    found = bundle.manifest.profile(profile)
    graphs = Graphs.load(*(bundle.graphs[graph.file] for graph in (found.encoder, found.decoder)))
    sources = [case.source_ids for case in bundle.golden.cases]
    return decode(graphs, sources, bundle.manifest.vocabulary.start_id, BeamOptions(max_length=12))[1]


def test_near_ties_are_no_golden_cases(every_profile: Path, tiny_models: Path):
    """Another GPU may choose the other token. Negative control: a bundle without fp16 has some."""
    assert min(smallest_margins(every_profile, "fp16")) >= LEAST_MARGIN
    assert min(smallest_margins(tiny_models, "fp32")) < LEAST_MARGIN


def test_its_tolerance_is_between_those_of_fp32_and_int8(every_profile: Path):
    manifest = read_bundle(every_profile / "tiny" / "1").manifest
    fp32, fp16, int8 = (manifest.profile(name).score_tolerance for name in ("fp32", "fp16", "int8"))
    assert fp32 < fp16 < int8


@pytest.mark.parametrize("look", ["first-step", "general-fed"])
def test_nearly_all_answers_are_those_of_fp32(look):
    model, architecture = network((2, 2, True), (6, 18), **LOOKS[look])
    sources = some_sources(200)
    answers = [
        Graphs.load(*graphs_of(profile, model, architecture)).greedy(sources, model.start_id, 12)
        for profile in ("fp32", "fp16")
    ]
    same = sum(one[0] == other[0] for one, other in zip(*answers, strict=True))
    assert same >= 190
