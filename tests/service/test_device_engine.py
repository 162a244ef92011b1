"""The engine of a device gives the answers of the CPU's engine bit for bit, where the device is the CPU.

A captured graph is stood in for by a session that does what CUDA graphs do.
"""

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from bench.invariance import Company
from bundle.manifest import Tensor
from bundle.reader import Bundle, read_bundle
from service import golden, row_graphs
from service.decoder import DeviceLost
from service.device_engine import DeviceEngine
from service.device_state import DeviceState
from service.engine import Engine
from service.opening import open_beside
from service.options import Options
from service.scheduler import Scheduler
from service.sequence import Sequence
from service.waiting import Waiting
from tests.service.captures import Capturing, Fuse, put_on_fuse
from tests.service.lift import FAR
from tests.service.networks import exported
from tests.service.test_engine import STEPS, some_sources
from tests.service.test_engine import decode as decode_steps
from tests.service.test_invariance import decode, some_options

PROFILES = ["fp32", "int8", "fp16"]
ROWS = 24
LOOKS = ["general", "additive-fed", "every-step"]
TENSORS = [
    Tensor(name="h_0", dtype="uint8", shape=("B", 4)),
    Tensor(name="h_1", dtype="float16", shape=("B", 4)),
    Tensor(name="keys", dtype="float32", shape=("B", "S", 4)),
]


@pytest.fixture(scope="module")
def bundle(every_profile: Path) -> Bundle:
    """tiny/1 in every profile."""
    return read_bundle(every_profile / "tiny" / "1")


def looking(factory, look: str) -> Bundle:
    """A bundle whose decoder looks at the source in some way, of one layer in, two out."""
    return exported(factory.getbasetemp(), ("lstm", look, 2), profiles=",".join(PROFILES))[0]


def warm(bundle: Bundle, profile: str, rows: int = ROWS) -> DeviceEngine:
    engine = DeviceEngine(bundle, profile, rows, "cpu")
    engine.warm_up()
    return engine


@pytest.fixture(scope="module", params=PROFILES)
def engine(bundle: Bundle, request) -> DeviceEngine:
    return warm(bundle, request.param)


def rides(engine, bundle: Bundle, count: int = 500) -> tuple[Company, list]:
    """A company on an engine, and what each of its sources gets alone."""
    company = Company(engine, bundle, sources=30, seed=7)
    return company, [(ride.tokens, ride.scores) for ride in company._alone]


@pytest.mark.parametrize("look", ["none", *LOOKS])
@pytest.mark.parametrize("profile", PROFILES)
def test_company_changes_nothing_and_all_is_as_on_the_cpu(bundle: Bundle, profile, look, tmp_path_factory):
    if look != "none":
        bundle = looking(tmp_path_factory, look)
    company, alone = rides(warm(bundle, profile), bundle)
    assert alone == rides(Engine(bundle, profile, ROWS), bundle)[1]
    found = company.run(500)
    assert (found.other_scores, found.other_tokens) == (0, 0)
    assert found.hung_up > 50


def test_every_way_of_decoding_is_as_on_the_cpu(bundle: Bundle, engine: DeviceEngine):
    """Through the scheduler: greedy, beams, cascades, samples, constraints; joining and leaving."""
    chance = random.Random(5)
    longest = bundle.manifest.limits.max_target_length
    inputs = [(source, some_options(chance, engine.emitted, longest)) for source in some_sources(80, seed=9)]
    expected = decode(Engine(bundle, engine.profile.name, ROWS), inputs)
    assert decode(engine, inputs) == expected
    for seed in range(3):
        answers = decode(engine, inputs, random.Random(seed))
        assert len(answers) > 40
        assert answers == {index: expected[index] for index in answers}


def test_more_sources_than_one_encoder_run_takes_are_all_encoded(bundle: Bundle, engine, monkeypatch):
    monkeypatch.setattr("service.device_engine.ENCODER_BATCH", 2)
    sources, found = some_sources(5, seed=3), []
    for each in (engine, Engine(bundle, engine.profile.name, ROWS)):
        each.encode(sources, [3, 0, 4, 1, 2])
        found.append(each.step(5))
    assert found[0] == found[1]


def test_alignments_are_those_of_the_cpu(tmp_path_factory):
    bundle = looking(tmp_path_factory, "general")
    sources = some_sources(5, seed=3)
    found = []
    for engine in (warm(bundle, "fp32"), Engine(bundle, "fp32", ROWS)):
        engine.encode(sources, range(5))
        engine.step(5)
        engine.move([1, 0], [4, 3])
        engine.step(3)
        found.append(engine.alignments([2, 0, 1]))
    assert np.array_equal(*found)
    assert found[0].sum(1) == pytest.approx([1, 1, 1], abs=1e-5)


class LeavesMemoryBehind(DeviceState):
    """Broken on purpose."""

    def _copy_memory(self, rows, sources):
        pass


class LeavesStateBehind(DeviceState):
    """Broken on purpose."""

    def _bind_moving(self, binding):
        first, *others = self.states[self.current].items()
        for name, buffer in others:
            self._bind_in_place(binding, name, buffer)
        buffer = self.states[1 - self.current][first[0]]
        self._bind_in_place(binding, first[0], buffer)
        self._bind_telling(binding)


@pytest.mark.parametrize("kind", [LeavesMemoryBehind, LeavesStateBehind])
def test_an_engine_that_leaves_something_behind_is_seen(kind, tmp_path_factory, monkeypatch):
    """Negative controls."""
    bundle = looking(tmp_path_factory, "general")
    monkeypatch.setattr("service.device_engine.DeviceState", kind)
    assert rides(warm(bundle, "fp32"), bundle)[0].run(300).other_scores > 0


def test_golden_cases_pass(bundle: Bundle, engine: DeviceEngine):
    assert golden.verify(bundle, engine) <= engine.profile.score_tolerance


def test_an_empty_batch_never_reaches_onnx_runtime(engine: DeviceEngine):
    with pytest.raises(AssertionError, match="empty batch"):
        engine.encode([], [])
    with pytest.raises(AssertionError, match="0 rows"):
        engine.step(0)


# Captured graphs


def capturing(bundle: Bundle, kind=DeviceEngine, is_warm: bool = True) -> tuple[DeviceEngine, Capturing]:
    """An engine whose decoder captures."""
    engine = kind(bundle, "fp32", ROWS, "cpu")
    decoder = engine._sessions.decoder = Capturing(engine._sessions.decoder)
    if is_warm:
        engine.warm_up()
    return engine, decoder


@pytest.mark.parametrize("look", ["none", "general"])
def test_steps_are_captured_once_and_replayed_where_they_were(bundle: Bundle, look, tmp_path_factory):
    if look != "none":
        bundle = looking(tmp_path_factory, look)
    engine, decoder = capturing(bundle)
    captured, bound = dict(decoder.where), decoder.bound
    assert len(captured) == len(engine._steps) == 2 * 6 * len({width for _, _, width in engine._steps})
    assert len({tuple(where.items()) for where in captured.values()}) == len(captured)
    company, alone = rides(engine, bundle)
    assert alone == rides(Engine(bundle, "fp32", ROWS), bundle)[1]
    found = company.run(500)
    assert (found.other_scores, found.other_tokens) == (0, 0)
    assert (decoder.where, decoder.bound, decoder.strayed) == (captured, bound, 0)
    assert "-1" not in decoder.runs


def test_engines_beside_each_other_share_no_graph(bundle: Bundle):
    engine, decoder = capturing(bundle)
    beside = open_beside(engine, bundle, 4)
    beside.warm_up()
    assert len(decoder.where) == len(engine._steps) + len(beside._steps)
    sources = some_sources(4, seed=1)
    expected = decode_steps(Engine(bundle, "fp32", 4), sources)
    engine.encode(some_sources(ROWS, seed=2), range(ROWS))
    beside.encode(sources, range(4))
    steps = [(beside.step(4), engine.step(ROWS))[0] for _ in range(STEPS)]
    assert [([s[0][row] for s in steps], [s[1][row] for s in steps]) for row in range(4)] == expected


def test_a_step_that_throws_is_taken_once_more_without_its_graph(bundle: Bundle):
    engine, decoder = capturing(bundle)
    sources = some_sources(5, seed=8)
    expected = decode_steps(engine, sources)
    engine.encode(sources, range(5))
    steps = []
    for _ in range(STEPS):
        engine.replayed, engine.run_seconds = True, 0.0  # of a step before
        tokens, scores, broken = engine.step_singly(5)
        assert broken == [] and not engine.replayed and engine.run_seconds > 0
        steps.append((tokens, scores))
    assert [([s[0][row] for s in steps], [s[1][row] for s in steps]) for row in range(5)] == expected
    assert decoder.runs["-1"] == STEPS


class OneGraphForBothSets(DeviceEngine):
    """Broken on purpose: what is captured for one set of state is replayed for the other."""

    def _bind_step(self, count, reads, width):
        bound = super()._bind_step(count, reads, width)
        other = self._steps.get((count, 1 - reads, width))
        bound.options = other.options if other else bound.options
        return bound


class MovesItsArrays(DeviceEngine):
    """Broken on purpose: after the warm-up, state lies elsewhere, and graphs keep their ids."""

    def warm_up(self):
        super().warm_up()
        steps, self._steps = self._steps, {}
        self._state._bindings.clear()
        self.kept_alive = self._state.states  # the graphs go on writing there
        self._state.states = [self._state.buffers(self._sessions.states) for _ in range(2)]
        for key, bound in steps.items():
            self._bind_step(*key).options = bound.options


class WritesWhereItReads(DeviceEngine):
    """Broken on purpose: three runs at capture are three steps."""

    def _bind_step(self, count, reads, width):
        self._state.states[1 - reads] = self._state.states[reads]
        return super()._bind_step(count, reads, width)


@pytest.mark.parametrize(
    ("kind", "is_warm"), [(OneGraphForBothSets, True), (MovesItsArrays, True), (WritesWhereItReads, False)]
)
def test_what_captured_graphs_do_not_bear_is_seen(bundle: Bundle, kind, is_warm):
    """Negative controls."""
    engine, _ = capturing(bundle, kind, is_warm)
    assert rides(engine, bundle)[1] != rides(Engine(bundle, "fp32", ROWS), bundle)[1]


# A device that is lost


@pytest.mark.parametrize("runs", range(8))
def test_a_lost_device_is_told_from_a_failed_run(bundle: Bundle, runs):
    """Whatever it is asked next."""
    engine = warm(bundle, "fp32")
    put_on_fuse(engine, Fuse(runs))
    with pytest.raises(DeviceLost) as lost:
        for _ in range(4):
            engine.encode(some_sources(3, seed=1), range(3))
            engine.step(3)
            engine.distributions([0, 1])
            engine.place([0, 1], [1, 1], [2, 3])
            engine.move([0], [2])
    assert "secret" not in str(lost.value)
    assert isinstance(lost.value.__cause__, Fail)


@pytest.mark.parametrize("session", ["encoder", "enter", "decoder"])
def test_a_run_that_fails_on_a_sound_device_is_no_loss(bundle: Bundle, session):
    """Negative control."""
    engine = warm(bundle, "fp32")
    put_on_fuse(engine, Fuse(0), session)
    with pytest.raises(Fail):
        engine.encode([[3, 4]], [0])
        engine.step(1)


@pytest.mark.parametrize("session", ["place", "tell", "tops", "every", "copy", "resize", "align"])
def test_what_fails_between_two_steps_is_a_loss(session: str, tmp_path_factory):
    """Rows may be half changed then: to go on would be to go on wrongly, on however sound a device."""
    bundle = looking(tmp_path_factory, "general")
    engine = warm(bundle, "fp32")
    engine.encode([[3, 4], [5], [6]], range(3))
    engine.step(3)
    put_on_fuse(engine, Fuse(0), session)
    with pytest.raises(DeviceLost) as lost:
        engine.distributions([0, 1])
        engine.alignments([0, 1])
        engine.place([0, 1], [0, 1], [2, 3])
        engine.place([0, 1], [1, 2], [2, 3])
        engine.encode([[3] * 24], [3])
    assert isinstance(lost.value.__cause__, Fail) and "secret" not in str(lost.value)


@pytest.mark.parametrize("session", ["tops", "every", "tell"])
def test_a_look_that_fails_after_a_step_does_not_take_the_step_again(bundle: Bundle, session: str):
    """A row said <E> and may not: what it may say instead is looked up once the step is over."""
    engine = warm(bundle, "fp32")
    engine.encode([[3, 4]], [0])
    engine.end_id = engine.step(1)[0][0]  # as if that were <E>
    put_on_fuse(engine, Fuse(0), session)
    scheduler = Scheduler(engine, Waiting(), 1024)
    scheduler.submit([Sequence(0, [3, 4], Options(12, min_length=12), FAR, 0.0)])
    with pytest.raises(DeviceLost):
        while scheduler.busy:
            scheduler.tick()


def test_nothing_keeps_what_the_encoder_wrote(bundle: Bundle):
    """Each run writes where the one before it did, since that memory is free again."""
    engine = warm(bundle, "fp32")
    addresses: set[int] = set()
    enter = engine._state.enter

    def entering(found, *more):
        addresses.add(found["h_0"].data_ptr())
        enter(found, *more)

    engine._state.enter = entering
    for _ in range(6):
        engine.encode(some_sources(4, seed=1), range(4))
        engine.step(4)
    assert len(addresses) == 1


def test_a_step_that_fails_twice_is_the_devices_end(bundle: Bundle):
    engine = warm(bundle, "fp32")
    engine.encode([[3, 4]], [0])
    put_on_fuse(engine, Fuse(0), "decoder")
    with pytest.raises(Fail):
        engine.step(1)
    with pytest.raises(DeviceLost):
        engine.step_singly(1)


# The graphs that move rows


@pytest.mark.parametrize(
    "build", [row_graphs.place_graph, row_graphs.enter_graph, row_graphs.copy_graph, row_graphs.pick_graph]
)
def test_row_graphs_are_sound(build):
    onnx.checker.check_model(onnx.load_from_string(build(TENSORS)), full_check=True)


def test_a_resize_graph_is_sound():
    onnx.checker.check_model(onnx.load_from_string(row_graphs.resize_graph(TENSORS[2:])), full_check=True)


def test_row_graphs_hold_nothing_that_cuda_lacks():
    """Operators that have CUDA kernels, and none that reads shapes on the CPU."""
    graphs = [build(TENSORS) for build in (row_graphs.place_graph, row_graphs.enter_graph)]
    graphs += [row_graphs.pick_graph(TENSORS), row_graphs.resize_graph(TENSORS[2:])]
    operators = {node.op_type for graph in graphs for node in onnx.load_from_string(graph).graph.node}
    assert operators == {"Gather", "Pad", "ScatterND", "Slice", "Unsqueeze"}


def test_an_engine_says_what_it_holds(bundle: Bundle, engine: DeviceEngine):
    small = DeviceEngine(bundle, engine.profile.name, 4, "cpu")
    assert 0 < small.held_bytes < engine.held_bytes
