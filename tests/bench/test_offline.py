"""What is decoded without a server is right, and floors are of the shapes that the decoder has."""

from pathlib import Path

import onnx
import pytest

from bench import offline
from bench.plain_loop import PlainLoop
from bench.products import product_graph, shapes
from bundle.golden import GoldenCase
from bundle.reader import Bundle, read_bundle
from service.engine import Engine

FIGURES = ("engine.step_us", "floor.step_us", "offline.words_s")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def test_a_floor_has_the_products_of_the_decoder(bundle: Bundle) -> None:
    hidden = bundle.manifest.architecture.hidden_size
    emitted = bundle.manifest.vocabulary.target_size - 1
    for profile in ("fp32", "int8"):
        # The first layer's product with the embedding is a table there.
        assert shapes(bundle.graphs[f"decoder.{profile}.onnx"]) == [
            (hidden, 4 * hidden),
            (2 * hidden, 4 * hidden),
            (hidden, emitted),
        ]


@pytest.mark.parametrize("integer", [True, False])
def test_a_floor_is_products_and_nothing_else(integer: bool) -> None:
    graph = onnx.load_from_string(product_graph([(3, 5), (4, 6)], integer)).graph
    assert {node.op_type for node in graph.node} == {"MatMulInteger" if integer else "MatMul"}
    assert len(graph.node) == 2


def test_the_plain_loop_decodes(bundle: Bundle, tmp_path: Path) -> None:
    loop = PlainLoop(bundle, tmp_path)
    cases: list[GoldenCase] = list(bundle.golden.cases)
    answers = loop.decode([case.source_ids for case in cases], 4)
    end = bundle.manifest.vocabulary.end_id
    right = [[token for token in case.target_ids if token != end] for case in cases]
    # Dynamic int8 moves a random model's answers; most begin as PyTorch's do, and none is lost or swapped.
    same = sum(answer[:1] == target[:1] for answer, target in zip(answers, right, strict=True))
    assert same > len(cases) / 2


def test_256_rows_are_among_what_is_measured() -> None:
    assert 256 in offline.ROWS  # floor.step_us.256 is read of a run by name


def test_every_profile_is_measured(
    tiny_bundle: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(offline, "ROWS", (1, 4))
    monkeypatch.setattr(offline, "WORDS", 64)
    monkeypatch.setattr("sys.argv", ["offline", str(tiny_bundle), "--seconds", "0.02"])
    assert offline.main() == 0
    printed = capsys.readouterr().out
    for profile in bundle.manifest.profiles:
        for rows in (1, 4):
            for name in FIGURES:
                assert f'"{name}.{profile.name}.{rows}"' in printed
    assert '"dynamic.words_s"' in printed


def test_words_are_counted_as_they_end(bundle: Bundle) -> None:
    engine = Engine(bundle, "", 4)
    engine.warm_up()
    case = bundle.golden.cases[0]
    rate = offline.words_s(engine, [case.source_ids], bundle, 0.1)
    step = offline.step_us(engine, [case.source_ids] * 4, 0.01) / 1e6
    most = 4 / step / len(case.target_ids)
    assert 0 < rate < 1.5 * most
