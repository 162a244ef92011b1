"""Nobody changes your answer: tokens and scores are bit-identical whoever shares the step."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from bundle.reader import Bundle
from service import golden
from service.engine import Engine, open_engine
from service.errors import StartError

ROWS = 32
STEPS = 8


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return Engine(bundle, ROWS)


def some_sources(count: int, seed: int) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randrange(2, 29) for _ in range(chance.randint(1, 24))] for _ in range(count)]


def decode(engine: Engine, sources: list[list[int]]) -> list[tuple[list[int], list[float]]]:
    """Tokens and scores of STEPS steps for each source, all decoded together."""
    engine.encode(sources, 0)
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


def test_the_detector_sees_dynamic_quantisation(bundle: Bundle, tmp_path: Path):
    """Negative control: one activation scale over the whole batch makes answers depend on neighbours."""
    onnx.save(onnx.load_from_string(bundle.decoder), tmp_path / "decoder.onnx")
    quantize_dynamic(tmp_path / "decoder.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QInt8)
    quantised = dataclasses.replace(bundle, decoder=(tmp_path / "int8.onnx").read_bytes())
    assert changed_by_neighbours(Engine(quantised, ROWS)) > 0


def test_a_moved_row_goes_on_where_it_was(engine):
    sources = some_sources(5, seed=2)
    expected = decode(engine, sources)
    engine.encode(sources, 0)
    steps = [engine.step(5) for _ in range(3)]
    engine.move(4, 1)
    tokens = [s[0][4] for s in steps] + [engine.step(4)[0][1] for _ in range(STEPS - 3)]
    assert tokens == expected[4][0]


def test_newcomers_leave_those_inside_alone(engine):
    first, second = some_sources(3, seed=3), some_sources(4, seed=4)
    expected = decode(engine, first)
    engine.encode(first, 0)
    tokens = [engine.step(3)[0]]
    engine.encode(second, 3)
    tokens += [engine.step(7)[0][:3] for _ in range(STEPS - 1)]
    assert [list(row) for row in zip(*tokens, strict=True)] == [answer[0] for answer in expected]


def test_an_empty_batch_never_reaches_onnx_runtime(engine):
    with pytest.raises(AssertionError, match="empty batch"):
        engine.encode([], 0)
    with pytest.raises(AssertionError, match="0 rows"):
        engine.step(0)


def test_golden_cases_pass_on_this_machine(bundle, engine):
    assert golden.verify(bundle, engine) <= bundle.manifest.profiles[0].score_tolerance


def test_golden_cases_see_a_changed_weight(bundle: Bundle):
    """Negative control: one bias of the output a little higher."""
    model = onnx.load_from_string(bundle.decoder)
    bias = next(weight for weight in model.graph.initializer if weight.name == "logits.bias")
    values = onnx.numpy_helper.to_array(bias).copy()
    values[5] += np.float32(0.01)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    altered = dataclasses.replace(bundle, decoder=model.SerializeToString())
    with pytest.raises(StartError, match="golden case"):
        golden.verify(altered, Engine(altered, ROWS))


def test_golden_cases_see_answers_that_depend_on_neighbours(bundle, engine, monkeypatch):
    """Negative control: an engine whose scores grow with the number of rows."""
    step = Engine.step
    monkeypatch.setattr(
        Engine, "step", lambda self, n: (lambda t, s: (t, [x + n * 1e-7 for x in s]))(*step(self, n))
    )
    with pytest.raises(StartError, match="changes with its neighbours"):
        golden.verify(bundle, engine)


def test_cuda_that_is_not_there_is_refused(bundle):
    with pytest.raises(StartError, match="cuda"):
        open_engine(bundle, 4, "cuda", 1)


def test_auto_falls_back_to_the_cpu_and_says_so(bundle, caplog):
    assert open_engine(bundle, 4, "auto", 1).device == "cpu"
    assert "falling back to the CPU" in caplog.text


def test_bindings_are_made_once_for_a_row_count(engine):
    engine.encode(some_sources(ROWS, seed=5), 0)
    for count in range(1, ROWS + 1):
        engine.step(count)
        engine.step(count)
    made = len(engine._bindings)
    for _ in range(2000):
        engine.step(ROWS)
    assert len(engine._bindings) == made
