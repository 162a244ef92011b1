"""Nobody changes your answer: bit for bit, in any profile, by any way of decoding, in any company."""

import dataclasses
import math
import random
from pathlib import Path

import onnx
import pytest
from msgspec.structs import replace
from onnxruntime.quantization import QuantType, quantize_dynamic

from bench import invariance
from bench.invariance import Company
from bundle.reader import Bundle, read_bundle
from service.decoding.search import search_for
from service.engine import Engine
from service.hypothesis import Hypothesis, Outcome
from service.memory import Memory
from service.messages import News
from service.options import Options, Sampling, pack
from service.scheduler import Scheduler
from service.sequence import Sequence
from service.waiting import Waiting
from tests.service.networks import Kind, exported

PROFILES = ["fp32", "int8", "fp16"]
ROWS = 24
KINDS: list[Kind] = [("lstm", "general", 2), ("gru", "additive-fed", 0)]


@pytest.fixture(scope="module")
def bundle(every_profile: Path) -> Bundle:
    """tiny/1 in every profile."""
    return read_bundle(every_profile / "tiny" / "1")


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind[1])
def attentive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with attention. Its sources need memory of two widths."""
    return exported(tmp_path_factory.getbasetemp(), request.param, profiles=",".join(PROFILES))[0]


def trials(engine: Engine, bundle: Bundle, count: int = 1500):
    return Company(engine, bundle, sources=40, seed=7).run(count)


@pytest.mark.parametrize("profile", PROFILES)
def test_company_changes_nothing(bundle: Bundle, profile):
    found = trials(Engine(bundle, profile, ROWS), bundle)
    assert (found.other_scores, found.other_tokens) == (0, 0)
    assert found.trials >= 1500
    assert found.hung_up > 50


@pytest.mark.parametrize("profile", PROFILES)
def test_company_changes_nothing_with_attention(attentive: Bundle, profile):
    """Nor does the width of the memory, which is the longest source's."""
    found = trials(Engine(attentive, profile, ROWS), attentive)
    assert (found.other_scores, found.other_tokens) == (0, 0)
    assert found.trials >= 1500


def with_a_mean_over_the_width(bundle: Bundle) -> Bundle:
    """Alignments divided by their mean, which is another in every width."""
    model = onnx.load_from_string(bundle.graphs["decoder.fp32.onnx"])
    for node in model.graph.node:
        node.output[:] = ["raw" if name == "alignments" else name for name in node.output]
    model.graph.initializer.append(onnx.helper.make_tensor("over", onnx.TensorProto.INT64, [1], [1]))
    model.graph.node.append(onnx.helper.make_node("ReduceMean", ["raw", "over"], ["mean"], keepdims=1))
    model.graph.node.append(onnx.helper.make_node("Div", ["raw", "mean"], ["alignments"]))
    return dataclasses.replace(
        bundle, graphs={**bundle.graphs, "decoder.fp32.onnx": model.SerializeToString()}
    )


def test_a_mean_over_the_width_is_seen(attentive: Bundle):
    """Negative control."""
    found = trials(Engine(with_a_mean_over_the_width(attentive), "fp32", ROWS), attentive)
    assert found.other_scores > 0


class LeavesRest(Memory):
    """Broken on purpose: behind a newcomer's source there is still somebody else's."""

    def write(self, found, lengths, rows):
        before = {name: array[rows] for name, array in self._wide.items()}
        super().write(found, lengths, rows)
        for name, array in self._wide.items():
            array[rows, max(lengths) :] = before[name][:, max(lengths) :]


class StaysPut(Memory):
    """Broken on purpose: whoever moves leaves his source behind."""

    def copy(self, rows, sources):
        pass


@pytest.mark.parametrize("kind", [LeavesRest, StaysPut])
def test_a_broken_memory_is_seen(attentive: Bundle, kind, monkeypatch):
    """Negative controls."""
    monkeypatch.setattr("service.engine.Memory", kind)
    assert trials(Engine(attentive, "fp32", ROWS), attentive, count=300).other_tokens > 0


def with_dynamic_int8(bundle: Bundle, graph: str, folder: Path) -> Bundle:
    """One graph's products in int8, with a scale that is taken from the whole batch each time."""
    onnx.save(onnx.load_from_string(bundle.graphs[graph]), folder / "fp32.onnx")
    quantize_dynamic(folder / "fp32.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8)
    return dataclasses.replace(bundle, graphs={**bundle.graphs, graph: (folder / "int8.onnx").read_bytes()})


@pytest.mark.parametrize("graph", ["encoder.fp32.onnx", "decoder.fp32.onnx"])
def test_dynamic_quantisation_is_seen(bundle: Bundle, graph, tmp_path):
    """Negative control."""
    found = trials(Engine(with_dynamic_int8(bundle, graph, tmp_path), "fp32", ROWS), bundle)
    assert found.other_scores > found.trials / 2
    assert found.other_tokens > 0


class ForgetsToMove(Engine):
    """Broken on purpose: one array of the state stays where it was."""

    def place(self, rows, sources, tokens):
        array = next(iter(self._states[self._current].values()))
        kept = array.copy()
        super().place(rows, sources, tokens)
        array[:] = kept


class RunsInto(Engine):
    """Broken on purpose: an encoder run also starts the row after its last one."""

    def encode(self, sources, rows):
        super().encode(sources, rows)
        beyond = min(max(rows) + 1, self.rows - 1)
        super().move([beyond], [rows[0]])


@pytest.mark.parametrize("kind", [ForgetsToMove, RunsInto])
def test_a_broken_engine_is_seen(bundle: Bundle, kind):
    """Negative controls."""
    assert trials(kind(bundle, "fp32", ROWS), bundle).other_tokens > 0


def test_the_program_counts_and_says_so(every_profile: Path, monkeypatch, capsys):
    arguments = [
        "--bundle",
        str(every_profile / "tiny" / "1"),
        "--trials",
        "50",
        "--rows",
        "8",
        "--sources",
        "10",
    ]
    assert invariance.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[1] for line in lines) == sorted(PROFILES)
    assert all(" trials, 0 with other scores, 0 with other tokens" in line for line in lines)
    monkeypatch.setattr(
        invariance, "open_engine", lambda bundle, profile, rows, *_: (RunsInto(bundle, profile, rows), "")
    )
    assert invariance.main(arguments) == 1


def some_options(chance: random.Random, tokens: int, longest: int) -> Options:
    """One of every way of decoding."""
    token = chance.randrange(2, tokens)
    return chance.choice(
        [
            Options(longest),
            Options(chance.randint(1, longest)),
            Options(longest, beam_size=4, n_best=3, length_penalty=0.6),
            Options(longest, beam_size=5, n_best=5, alternatives=2),
            Options(longest, beam_size=3, cascade_margin=0.05),
            Options(longest, sampling=Sampling(chance.randrange(3), temperature=1.5, top_k=9, top_p=0.9)),
            Options(longest, min_length=3, no_repeat_ngram=2, biases=((token, 2.0),)),
            Options(longest, min_length=2, biases=((token, 1.0),), sampling=Sampling(chance.randrange(3))),
            Options(longest, prefix=(token, 3), banned=(4,), loop_repeats=3),
            Options(longest, beam_size=2, lexicon=pack([(2, 3), (2, token), (token,)])),
        ]
    )


def decode(
    engine: Engine, inputs: list[tuple[list[int], Options]], chance: random.Random | None = None
) -> dict[int, list[Hypothesis]]:
    """The answers by index; with `chance`, in company: many at once, in any order, some cancelled."""
    scheduler = Scheduler(engine, Waiting(), encode_tokens=chance.choice([20, 500]) if chance else 500)
    left = list(range(len(inputs)))
    if chance:
        chance.shuffle(left)
    answers = {}
    while left or scheduler.busy:
        if chance is None:
            come = 0 if scheduler.busy else 1
        else:
            come = chance.choice([0, 0, 1, 6])
            scheduler.cancel(chance.choices(range(len(inputs)), k=chance.random() < 0.1))
        newcomers, left = left[:come], left[come:]
        scheduler.submit([sequence(engine, index, *inputs[index], chance) for index in newcomers])
        scheduler.tick()
        news, scheduler.news = scheduler.news, News()
        answers |= {end.id: end.hypotheses for end in news.ended if end.outcome is not Outcome.CANCELLED}
    return answers


def sequence(
    engine: Engine, index: int, source: list[int], options: Options, chance: random.Random | None
) -> Sequence:
    priority = chance.randint(-1, 1) if chance else 0
    search = search_for(options, engine.emitted)
    return Sequence(index, source, options, math.inf, float(index), priority, search=search)


def changed(engine: Engine, bundle: Bundle) -> tuple[int, int]:
    """How many answers came in company, and how many of them were not what the input got alone."""
    chance = random.Random(11)
    longest = bundle.manifest.limits.max_target_length
    attends = bundle.manifest.architecture.attention != "none"
    inputs = [
        (
            chance.choices(range(2, bundle.manifest.vocabulary.source_size), k=chance.randint(1, 24)),
            replace(
                some_options(chance, engine.emitted, longest), alignments=attends and chance.random() < 0.5
            ),
        )
        for _ in range(150)
    ]
    alone = decode(engine, inputs)
    assert len(alone) == len(inputs)
    answers = [answer for seed in range(5) for answer in decode(engine, inputs, random.Random(seed)).items()]
    return len(answers), sum(answer != alone[index] for index, answer in answers)


@pytest.mark.parametrize("profile", PROFILES)
def test_company_changes_no_way_of_decoding(bundle: Bundle, profile):
    answers, others = changed(Engine(bundle, profile, ROWS), bundle)
    assert answers > 500
    assert others == 0


def test_company_changes_no_way_of_decoding_with_attention(attentive: Bundle):
    answers, others = changed(Engine(attentive, "fp32", ROWS), attentive)
    assert answers > 500
    assert others == 0


def test_ways_of_decoding_that_depend_on_company_are_seen(bundle: Bundle, tmp_path):
    """Negative control."""
    dynamic = with_dynamic_int8(bundle, "decoder.fp32.onnx", tmp_path)
    answers, others = changed(Engine(dynamic, "fp32", ROWS), bundle)
    assert others > answers / 2
