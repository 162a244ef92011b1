"""Nobody changes your answer: tokens and scores are bit-identical whoever shares the step."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from bundle.errors import BundleError
from bundle.reader import Bundle
from service import golden
from service.engine import Engine
from service.errors import StartError
from service.opening import open_engine
from tests.service.networks import exported

ROWS = 32
STEPS = 8
DECODER = "decoder.fp32.onnx"


KINDS = [("first-step", "fp32"), ("first-step", "int8"), ("every-step", "int8"), ("general-fed", "int8")]


@pytest.fixture(scope="module")
def attentive(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported(tmp_path_factory.getbasetemp(), ("lstm", "general-fed", 2))[0]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def served(bundle: Bundle, attentive: Bundle, tmp_path_factory, request) -> tuple[Bundle, str]:
    """A bundle that looks at the source in some way, and a profile of it."""
    look, profile = request.param
    if look == "every-step":
        return exported(tmp_path_factory.getbasetemp(), ("gru", look, 0))[0], profile
    return bundle if look == "first-step" else attentive, profile


@pytest.fixture(scope="module")
def engine(served: tuple[Bundle, str]) -> Engine:
    return Engine(*served, ROWS)


def some_sources(count: int, seed: int) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randrange(2, 29) for _ in range(chance.randint(1, 24))] for _ in range(count)]


def decode(engine: Engine, sources: list[list[int]]) -> list[tuple[list[int], list[float]]]:
    """Tokens and scores of STEPS steps for each source, all decoded together."""
    engine.encode(sources, range(len(sources)))
    steps = [engine.step(len(sources)) for _ in range(STEPS)]
    return [([s[0][row] for s in steps], [s[1][row] for s in steps]) for row in range(len(sources))]


def changed_by_neighbours(engine: Engine) -> int:
    """How many of ROWS answers differ between the row counts 1 to ROWS, with random neighbours and places."""
    sources = some_sources(ROWS, seed=1)
    alone = [decode(engine, [source])[0] for source in sources]
    changed = set()
    for trial in range(20):
        chosen = random.Random(trial).sample(range(ROWS), k=2 + trial * (ROWS - 2) // 19)
        for index, answer in zip(chosen, decode(engine, [sources[i] for i in chosen]), strict=True):
            if answer != alone[index]:
                changed.add(index)
    return len(changed)


def test_neighbours_change_nothing(engine):
    assert changed_by_neighbours(engine) == 0


def with_decoder(bundle: Bundle, decoder: bytes) -> Bundle:
    return dataclasses.replace(bundle, graphs={**bundle.graphs, DECODER: decoder})


def test_the_detector_sees_dynamic_quantisation(bundle: Bundle, tmp_path: Path):
    """Negative control: one activation scale over the whole batch makes answers depend on neighbours."""
    onnx.save(onnx.load_from_string(bundle.graphs[DECODER]), tmp_path / "decoder.onnx")
    quantize_dynamic(tmp_path / "decoder.onnx", tmp_path / "dynamic.onnx", weight_type=QuantType.QInt8)
    quantised = with_decoder(bundle, (tmp_path / "dynamic.onnx").read_bytes())
    assert changed_by_neighbours(Engine(quantised, "fp32", ROWS)) > 0


def test_a_moved_row_goes_on_where_it_was(engine):
    sources = some_sources(5, seed=2)
    expected = decode(engine, sources)
    engine.encode(sources, range(5))
    steps = [engine.step(5) for _ in range(3)]
    engine.move([1, 0], [4, 3])
    steps += [engine.step(3) for _ in range(STEPS - 3)]
    for row, moved in ((4, 1), (3, 0), (2, 2)):
        tokens = [s[0][row] for s in steps[:3]] + [s[0][moved] for s in steps[3:]]
        assert tokens == expected[row][0]


def test_rows_change_places_all_at_once(engine):
    """Each row goes on from the other's state, reading what it is told to."""
    sources = some_sources(2, seed=6)
    engine.encode(sources, [0, 1])
    engine.step(2)
    engine.place([0, 1], [0, 1], [3, 4])
    expected = engine.step(2)
    engine.encode(sources, [0, 1])
    engine.step(2)
    engine.place([0, 1], [1, 0], [4, 3])
    tokens, scores = engine.step(2)
    assert (tokens[::-1], scores[::-1]) == expected


def test_distributions_are_those_of_the_step(engine):
    engine.encode(some_sources(6, seed=7), range(6))
    tokens, scores = engine.step(6)
    found = engine.distributions([4, 1])
    assert found.log_probs.shape == (2, engine.emitted)
    assert [top[0] for top in found.top_tokens] == [tokens[4], tokens[1]]
    assert [top[0] for top in found.top_scores] == [scores[4], scores[1]]
    assert np.exp(found.log_probs.astype(float)).sum(1) == pytest.approx([1, 1], abs=1e-5)
    for row in range(2):
        order = np.lexsort((np.arange(engine.emitted), -found.log_probs[row]))[:8]
        assert found.top_tokens[row] == order.tolist()
        assert found.top_scores[row] == found.log_probs[row][order].tolist()


def test_newcomers_leave_those_inside_alone(engine):
    first, second = some_sources(3, seed=3), some_sources(4, seed=4)
    expected = decode(engine, first)
    engine.encode(first, range(3))
    tokens = [engine.step(3)[0]]
    engine.encode(second, [6, 3, 5, 4])
    tokens += [engine.step(7)[0][:3] for _ in range(STEPS - 1)]
    assert [list(row) for row in zip(*tokens, strict=True)] == [answer[0] for answer in expected]


def test_a_step_row_by_row_says_the_same(engine, monkeypatch):
    """And names the rows that throw, whose neighbours go on unharmed."""
    sources = some_sources(4, seed=8)
    expected = decode(engine, sources)
    engine.encode(sources, range(4))
    run, steps = Engine._run, []

    def throws_at_two(self, first, count):
        if first == 2:
            raise RuntimeError("a secret of ONNX Runtime")
        run(self, first, count)

    monkeypatch.setattr(Engine, "_run", throws_at_two)
    for _ in range(STEPS):
        tokens, scores, broken = engine.step_singly(4)
        assert broken == [2]
        steps.append((tokens, scores))
    for row in (0, 1, 3):
        assert ([s[0][row] for s in steps], [s[1][row] for s in steps]) == expected[row]


def test_an_empty_batch_never_reaches_onnx_runtime(engine):
    with pytest.raises(AssertionError, match="empty batch"):
        engine.encode([], [])
    with pytest.raises(AssertionError, match="0 rows"):
        engine.step(0)


def test_golden_cases_pass_on_this_machine(served, engine):
    assert golden.verify(served[0], engine) <= engine.profile.score_tolerance


def test_golden_cases_see_a_changed_weight(bundle: Bundle):
    """Negative control: one bias of the output a little higher."""
    model = onnx.load_from_string(bundle.graphs[DECODER])
    bias = next(weight for weight in model.graph.initializer if weight.name == "logits.bias")
    values = onnx.numpy_helper.to_array(bias).copy()
    values[5] += np.float32(0.01)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    altered = with_decoder(bundle, model.SerializeToString())
    with pytest.raises(StartError, match="golden case"):
        golden.verify(altered, Engine(altered, "fp32", ROWS))


def test_golden_cases_see_a_score_that_is_not_a_number(served, engine, monkeypatch):
    lost = float("nan")
    monkeypatch.setattr(
        golden,
        "_decode",
        lambda _, cases: [(list(case.target_ids), [lost] * len(case.target_ids)) for case in cases],
    )
    with pytest.raises(StartError, match="golden case 0: a score differs by nan"):
        golden.verify(served[0], engine)


def test_golden_cases_see_answers_that_depend_on_neighbours(served, engine, monkeypatch):
    """Negative control: an engine whose scores grow with the number of rows."""
    step = Engine.step
    monkeypatch.setattr(
        Engine, "step", lambda self, n: (lambda t, s: (t, [x + n * 1e-7 for x in s]))(*step(self, n))
    )
    with pytest.raises(StartError, match="changes with its neighbours"):
        golden.verify(served[0], engine)


def test_a_profile_is_chosen_by_name(bundle):
    assert Engine(bundle, rows=1).profile == bundle.manifest.profiles[0]
    with pytest.raises(BundleError, match="'fp16'; int8, fp32 are allowed"):
        Engine(bundle, "fp16", rows=1)


def test_cuda_that_is_not_there_is_refused(bundle):
    with pytest.raises(StartError, match="cuda"):
        open_engine(bundle, "fp32", 4, "cuda", 1)


def test_auto_falls_back_to_the_cpu_and_says_why(bundle):
    engine, why = open_engine(bundle, "fp32", 4, "auto", 1)
    assert engine.device == "cpu" and "cuda" in why
    assert open_engine(bundle, "fp32", 4, "cpu", 1)[1] == ""


def test_two_onnxruntimes_in_one_folder_are_refused(bundle, tmp_path, monkeypatch):
    """In two, one hides the other: that is how one is tried beside an environment that has the other."""

    def install(name: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {name}\n")

    monkeypatch.syspath_prepend(tmp_path)
    install("onnxruntime-gpu")
    open_engine(bundle, "fp32", 4, "cpu", 1)
    install("onnxruntime")
    with pytest.raises(StartError, match="keep one"):
        open_engine(bundle, "fp32", 4, "cpu", 1)


def test_a_graph_that_cannot_run_is_named(bundle):
    with pytest.raises(StartError, match=r"^decoder\.fp32\.onnx: ONNX Runtime cannot run it on cpu"):
        Engine(with_decoder(bundle, b"not a graph"), "fp32", 1)


def test_bindings_are_made_once_for_a_row_count(engine):
    engine.encode(some_sources(ROWS, seed=5), range(ROWS))
    for count in range(1, ROWS + 1):
        engine.step(count)
        engine.step(count)
    made = len(engine._bindings)
    for _ in range(2000):
        engine.step(ROWS)
    assert len(engine._bindings) == made


def test_a_warm_engine_has_all_its_bindings(bundle):
    engine = Engine(bundle, "fp32", 6)
    engine.warm_up()
    made = len(engine._bindings)
    engine.encode(some_sources(6, seed=5), range(6))
    for count in range(6, 0, -1):
        engine.step(count)
    assert made == len(engine._bindings) == 12


def test_a_warm_engine_knows_every_width_of_the_memory(attentive):
    """With some numbers of rows; and it starts with the narrowest."""
    engine = Engine(attentive, "fp32", 6)
    engine.warm_up()
    assert {count for _, count, _, width in engine._bindings if width == 32} == {1, 2, 4, 6}
    assert {count for _, count, _, width in engine._bindings if width == 16} == {1, 2, 3, 4, 5, 6}
    assert {width for *_, width in engine._bindings} == {16, 32}
    assert engine._memory.width == 16


def test_golden_cases_are_replayed_in_memory_of_every_width_they_need(attentive, monkeypatch):
    """Alone in the narrowest that holds them, and together in the longest's."""
    widths, run = [], Engine._run

    def watched(self, first, count):
        widths.append((self._memory.width, count))
        run(self, first, count)

    monkeypatch.setattr(Engine, "_run", watched)
    golden.verify(attentive, Engine(attentive, "fp32", ROWS))
    assert {width for width, count in widths if count == 1} == {16, 32}
    assert {width for width, count in widths if count > 1} == {32}
