"""The compiled kernels: they compute what the graphs compute, in any company; ONNX Runtime stands in."""

import dataclasses
import itertools
import logging
import random
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from bench.invariance import Company
from bundle.reader import Bundle, read_bundle
from export.__main__ import main as export
from service import kernel_engine, kernels
from service.decoder import put_off_ends
from service.engine import Engine
from service.golden import verify
from service.kernel_engine import KernelEngine
from service.kernel_weights import Unsuited, by_units, check_suited, pack
from service.kernels import FOLDER, KINDS, LINE_BYTES, LSTM, Kernels, in_lines
from service.opening import open_engine
from tests.conftest import save_random_run
from training.recipe import Model

MODELS = Path(__file__).parents[2] / "models"
BUNDLES = ["g2p-en-tiny/4", "g2p-en/6", "names-ar-en/2"]
ROWS = 40


@pytest.fixture(scope="module", params=BUNDLES)
def served(request: pytest.FixtureRequest) -> Bundle:
    return read_bundle(MODELS / request.param)


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """The kernels of each kind that this processor runs and this compiler knew."""
    needed, file = KINDS[request.param], FOLDER / f"kernels-{request.param}.so"
    if not needed <= kernels._features():
        pytest.skip(f"this processor lacks {', '.join(sorted(needed - kernels._features()))}")
    if not file.is_file():
        pytest.skip(f"{file.name} was not compiled; `make native` does that")
    monkeypatch.setattr(kernels, "KINDS", {request.param: needed})
    found = kernels.load.__wrapped__()
    assert found is not None
    assert found.kind == request.param
    monkeypatch.setattr(kernels, "load", lambda: found)
    return found


@pytest.fixture
def best() -> None:
    if kernels.load() is None:
        pytest.skip("no kernels were compiled; `make native` does that")


def sources_of(bundle: Bundle, count: int, seed: int = 3) -> list[list[int]]:
    """Random sources of every length."""
    chance, sizes = random.Random(seed), bundle.manifest
    most = sizes.limits.max_source_length
    lengths = [1, most, *(1 + min(most - 1, int(chance.expovariate(0.12))) for _ in range(count - 2))]
    return [chance.choices(range(1, sizes.vocabulary.source_size), k=length) for length in lengths]


def decoded(engine: Engine, sources: list[list[int]], steps: int = 12):
    engine.encode(sources, range(len(sources)))
    return [engine.step(len(sources)) for _ in range(steps)]


def test_kernels_compute_what_the_graphs_compute(kind, served: Bundle):
    """Rounded otherwise only in the last bits of a float; now and then that turns a byte over."""
    ours, theirs = KernelEngine(served, "int8", ROWS), Engine(served, "int8", ROWS)
    sources = sources_of(served, ROWS)
    for (tokens, scores), (others, other_scores) in zip(
        decoded(ours, sources), decoded(theirs, sources), strict=True
    ):
        agree = np.equal(tokens, others)
        assert agree.mean() > 0.9
        differences = np.abs(np.subtract(scores, other_scores))[agree]
        assert np.median(differences) < 2e-6
    assert verify(served, ours) == pytest.approx(verify(served, theirs), abs=0.1)


@pytest.mark.parametrize("starts_from", ["top", "bottom"])
def test_the_decoder_starts_from_the_layers_that_the_graphs_start_it_from(kind, tmp_path, starts_from):
    sizes = {"hidden_size": 32, "encoder_layers": 3, "decoder_layers": 2, "bidirectional": True}
    save_random_run(tmp_path, Model(embedding_size=8, starts_from=starts_from, **sizes))
    named = ["--name", "deep", "--version", "1", "--profiles", "int8,fp32", "--to", str(tmp_path)]
    assert export([str(tmp_path), *named]) == 0
    bundle = read_bundle(tmp_path / "deep" / "1")
    assert bundle.manifest.architecture.starts_from == starts_from
    other = "bottom" if starts_from == "top" else "top"
    architecture = replace(bundle.manifest.architecture, starts_from=other)
    wrong = dataclasses.replace(bundle, manifest=replace(bundle.manifest, architecture=architecture))
    sources = sources_of(bundle, ROWS)
    graphs = decoded(Engine(bundle, "int8", ROWS), sources, steps=1)[0][1]
    right, negative_control = (
        decoded(KernelEngine(one, "int8", ROWS), sources, steps=1)[0][1] for one in (bundle, wrong)
    )
    assert right == pytest.approx(graphs, abs=0.01)
    assert negative_control != pytest.approx(graphs, abs=0.01)


def test_distributions_and_alignments_are_those_of_the_graphs(kind, served: Bundle):
    """Of nearly all rows: in one or two a byte may have turned over, which shows a little."""
    ours, theirs = KernelEngine(served, "int8", ROWS), Engine(served, "int8", ROWS)
    sources = sources_of(served, ROWS)
    asked = [7, 0, 39, 7, *range(10, 30)]
    for engine in (ours, theirs):
        engine.encode(sources, range(ROWS))
    for name, states in ours._states[ours._current].items():
        states[:] = theirs._states[theirs._current][name]  # the encoder has a test of its own
    for name, memory in ours._memory.inputs.items():
        memory[:] = theirs._memory.inputs[name]
    for _ in range(3):
        ours.step(ROWS), theirs.step(ROWS)
        found, expected = (engine.distributions(asked) for engine in (ours, theirs))
        differences = np.abs(found.log_probs - expected.log_probs).max(axis=1)
        same = differences < 2e-5
        assert same.mean() > 0.75
        assert differences.max() < 0.02
        tokens, others = (np.array(one.top_tokens)[same] for one in (found, expected))
        assert tokens.tolist() == others.tolist()
        picked = np.take_along_axis(found.log_probs, np.array(found.top_tokens), 1)
        assert picked.tolist() == found.top_scores  # the same numbers, in order
        if served.manifest.architecture.attention != "none":
            weights, others = (engine.alignments(asked)[same] for engine in (ours, theirs))
            np.testing.assert_allclose(weights, others, atol=1e-5)


def test_steps_in_one_go_are_those_one_by_one(kind, served: Bundle):
    engine = KernelEngine(served, "int8", ROWS)
    expected = decoded(engine, sources := sources_of(served, 3), 30)
    engine.encode(sources, range(3))
    found: list[tuple[list[int], list[float]]] = []
    sizes = []
    while len(found) < 20:
        said = engine.steps(3, 5)
        sizes.append(len(said))
        found += said
        assert all(engine.end_id not in tokens for tokens, _ in said[:-1])
        assert len(said) == 5 or engine.end_id in said[-1][0]
    assert found == expected[: len(found)]
    assert len(set(sizes)) > 1


def test_ends_are_put_off_to_the_bit_as_by_a_second_look(kind, served: Bundle):
    ours, theirs = (KernelEngine(served, "int8", ROWS) for _ in range(2))
    sources, short = sources_of(served, 6), [4, 1, 2]
    for engine in (ours, theirs):
        engine.encode(sources, range(6))
    put_off = 0
    for most in (1, 5) * 12:
        for found in ours.steps(6, most, short):
            tokens, scores = theirs.step(6)
            put_off += sum(tokens[row] == ours.end_id for row in short)
            put_off_ends(theirs, short, tokens, scores)
            assert found == (tokens, scores)
    assert put_off > 10
    assert ours.step(6) == theirs.step(6)  # nobody is short any more


def test_company_changes_nothing(kind, served: Bundle):
    found = Company(KernelEngine(served, "int8", ROWS), served, sources=40, seed=7).run(600)
    assert (found.other_scores, found.other_tokens) == (0, 0)
    assert found.trials >= 600


def test_a_scale_taken_from_the_batch_is_seen(best, monkeypatch):
    """Negative control: as soon as one number depends on the others inside, the trials find it."""
    bundle = read_bundle(MODELS / "g2p-en-tiny/4")

    class Dynamic(KernelEngine):
        def _run(self, first: int, count: int) -> None:
            super()._run(first, count)
            cells = self._states[1 - self._current]["c_1"][first : first + count]
            scale = np.abs(cells).max() / 127
            cells[:] = np.rint(cells / scale) * scale

    found = Company(Dynamic(bundle, "int8", ROWS), bundle, sources=40, seed=7).run(200)
    assert found.other_scores > 100


def test_every_kind_of_processor_gives_the_same_tokens(monkeypatch):
    bundle = read_bundle(MODELS / "g2p-en/6")
    sources = sources_of(bundle, ROWS)
    found = {}
    for name, needed in KINDS.items():
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "KINDS", {name: needed})
            library = kernels.load.__wrapped__()
            patch.setattr(kernels, "load", lambda library=library: library)
            if library is not None:
                engine = KernelEngine(bundle, "int8", ROWS)
                found[name] = np.array([tokens for tokens, _ in decoded(engine, sources)])
    if len(found) < 2:
        pytest.skip("one kind of kernels at the most runs here")
    for one, other in itertools.pairwise(found.values()):
        assert np.equal(one, other).mean() > 0.98


def test_a_product_of_any_shape(kind):
    """Whole numbers, so exactly; K and N on both sides of every edge of blocks, vectors and tiles."""
    chance = np.random.default_rng(1)
    shapes = itertools.product((1, 2, 5, 7, 16, 17, 33), (4, 60, 64, 224), (1, 16, 41, 130))
    for rows, inputs, outputs in shapes:
        units = chance.integers(0, 256, (rows, inputs), dtype=np.uint8)
        weight = chance.integers(-64, 65, (inputs, outputs), dtype=np.int8)
        packed = pack(weight, np.ones(outputs, np.float32), None)
        out = np.full((rows, packed.weights.columns), np.nan, np.float32)
        linear = kernel_engine._operation(kernels.LINEAR, [units], packed)
        linear.out, linear.stride = out.ctypes.data, out.shape[1]
        kind.library.chairlift_step((kernels.Operation * 1)(linear), 1, 0, rows)
        expected = (units.astype(np.int32) - 128) @ weight.astype(np.int32)
        assert np.array_equal(out[:, :outputs], expected)


def attend(kind: Kernels, query, keys, values, lengths) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel makes of query [R, U], keys [R, S, U], values [R, S, D + 1]: alignments and context."""
    rows, width, units = keys.shape
    alignments = np.full((rows, width), np.nan, np.float32)
    context = np.zeros((rows, values.shape[2] - 1), np.uint8)
    arrays = {"query": query, "keys": keys, "values": values, "lengths": lengths, "alignments": alignments}
    places = {name: array.ctypes.data for name, array in arrays.items()} | {"hidden": context.ctypes.data}
    operation = kernels.Operation(
        kind=kernels.ATTEND, units=units, width=width, size=context.shape[1], **places
    )
    kind.library.chairlift_step((kernels.Operation * 1)(operation), 1, 0, rows)
    return alignments, context


@pytest.mark.parametrize(("units", "size"), [(16, 16), (32, 80), (384, 448)])
def test_attention_is_a_softmax_over_the_sources_own_tokens(kind, units, size):
    chance = np.random.default_rng(3)
    lengths = np.array([1, 2, 5, 15, 16, 16], np.int64)
    query = chance.normal(size=(6, units)).astype(np.float32)
    keys = chance.normal(size=(6, 16, units)).astype(np.float32) / 4
    values = chance.uniform(-1, 1, (6, 16, size + 1)).astype(np.float32)
    for row, length in enumerate(lengths):
        keys[row, length:] = np.nan  # nobody may look at what lies there
    alignments, context = attend(kind, query, keys, values, lengths)
    scores = np.einsum("ru,rsu->rs", query, keys)
    weights = np.exp(scores - np.nanmax(scores, 1, keepdims=True))
    weights = np.nan_to_num(weights / np.nansum(weights, 1, keepdims=True))
    np.testing.assert_allclose(alignments, weights, atol=1e-6)
    expected = np.einsum("rs,rsd->rd", weights, values[..., :-1])
    assert np.abs((context.astype(int) - 128) - 127 * expected).max() < 0.51


def test_denormal_weights_are_zeros_and_only_there(kind):
    query, keys, values = (np.ones(shape, np.float32) for shape in ((1, 16), (1, 16, 16), (1, 16, 17)))
    keys[0, 1] = 1 - 95 / 16  # e^-95 is 5.5e-42
    tiny, one = np.full(1, 1e-40, np.float32), np.ones(1, np.float32)
    before = (tiny * one).tolist()  # 0 where a session of ONNX Runtime was made in this thread
    alignments, _ = attend(kind, query, keys, values, np.array([2], np.int64))
    assert alignments[0, :2].tolist() == [1, 0]
    assert (tiny * one).tolist() == before


def test_units_and_gates_are_laid_side_by_side():
    gates = np.array([[f"{gate}{unit}" for gate in "ifgo" for unit in range(32)]])
    laid = by_units(gates)[0].tolist()
    assert laid[:17] == [*(f"i{unit}" for unit in range(16)), "f0"]
    assert laid[64:66] == ["i16", "i17"]
    assert laid[-1] == "o31"


@pytest.mark.parametrize("kind_of_network", ["gru", "lstm-peephole", "additive"])
def test_what_they_do_not_have_they_refuse(served: Bundle, kind_of_network):
    changes = {"attention": "additive"} if kind_of_network == "additive" else {"cell": kind_of_network}
    with pytest.raises(Unsuited, match=kind_of_network):
        check_suited(replace(served.manifest.architecture, **changes), "int8")
    with pytest.raises(Unsuited, match="profile fp32"):
        check_suited(served.manifest.architecture, "fp32")


def test_onnxruntime_decodes_where_they_cannot(served: Bundle, bundle: Bundle, best, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    engine, _ = open_engine(served, "int8", 4, "cpu", 1)
    assert engine.runtime.startswith("kernels for ")
    for options in ({"threads": 2}, {"kernels": False}):
        other, _ = open_engine(served, "int8", 4, "cpu", **{"threads": 1, **options})
        assert type(other) is Engine
    assert type(open_engine(bundle, "int8", 4, "cpu", 1)[0]) is Engine
    assert "sizes that are no multiples of 16" in caplog.records[-1].reason
    monkeypatch.setattr(kernels, "load", lambda: None)
    assert type(open_engine(served, "int8", 4, "cpu", 1)[0]) is Engine
    assert "no kernels were compiled" in caplog.records[-1].reason


def test_kernels_that_compute_something_else_are_not_used(best, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    bundle = read_bundle(MODELS / "g2p-en-tiny/4")
    load = kernel_engine.decoder_weights

    def spoiled(*arguments):
        weights = load(*arguments)
        weights.token_table[:] = np.roll(weights.token_table, 16, axis=1)
        return weights

    monkeypatch.setattr(kernel_engine, "decoder_weights", spoiled)
    assert type(open_engine(bundle, "int8", 8, "cpu", 1)[0]) is Engine
    assert "the kernels do not agree" in caplog.text


def test_without_a_file_there_are_none(tmp_path: Path):
    assert kernels.load.__wrapped__(tmp_path) is None


def test_a_row_that_nobody_has_is_stepped_without_harm(best, served: Bundle):
    """As a server does at its start: golden cases of every length, then every number of rows, none filled."""
    engine, _ = open_engine(served, "int8", 128, "cpu", 1)
    engine.warm_up()
    longest = [[1] * served.manifest.limits.max_source_length] * 128
    engine.encode(longest, range(128))
    engine.step(128)
    engine._memory.lengths[:] = 10**6  # far outside of what is there
    engine.step(128)
    engine.clear()
    assert verify(served, engine) >= 0


def test_a_copy_begins_with_a_line_of_the_cache_and_is_the_same():
    for size in range(1, 200):
        array = np.arange(size, dtype=np.int32)
        copy = in_lines(array)
        assert copy.ctypes.data % LINE_BYTES == 0 and copy.dtype == array.dtype and (copy == array).all()


def test_what_a_step_reads_and_writes_begins_with_lines(best, served: Bundle):
    engine = KernelEngine(served, "int8", ROWS)
    decoded(engine, sources_of(served, ROWS), 1)
    operations = [op for step in engine._steps.values() for op in step.operations if op.kind == LSTM]
    fields = [
        address
        for op in operations
        for address in (
            op.cell,
            op.next_cell,
            op.hidden,
            op.weights.weight,
            op.weights.start,
            op.weights.scale,
        )
    ]
    assert fields and not any(address % LINE_BYTES for address in fields)
