"""A cascade is fitted on what both ways of decoding really answer, and stored only where it is worth it."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

import export.cascade
from bundle.card import Cascade
from bundle.errors import BundleError
from bundle.manifest import decode_manifest, encode_manifest
from bundle.reader import Bundle, read_bundle
from bundle.text import TargetText
from export.__main__ import main
from export.cascade import decode, smallest_margin
from export.parity import Graphs
from training.beam import BeamOptions
from training.checkpoint import Checkpoint, load_checkpoint
from training.evaluate import answer, search

WORDS = [f"{a}{b}{c}" for a in "chair" for b in "lift" for c in ("", "snow", "ride")]
WIDTH, MAX_LENGTH = 5, 12
OPTIONS = {width: BeamOptions(width, max_length=MAX_LENGTH) for width in (1, WIDTH)}


@pytest.fixture(scope="module")
def checkpoint(tiny_run: Path) -> Checkpoint:
    return load_checkpoint(tiny_run / "best.safetensors")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def graphs_of(bundle: Bundle, profile: str) -> Graphs:
    return Graphs.load(*(bundle.graphs[f"{part}.{profile}.onnx"] for part in ("encoder", "decoder")))


def decode_all(bundle: Bundle, profile: str, width: int) -> tuple[list[list[int]], list[float]]:
    sources = bundle.source.encode_many(WORDS)
    start_id = bundle.manifest.vocabulary.start_id
    return decode(graphs_of(bundle, profile), sources, start_id, OPTIONS[width])


@pytest.mark.parametrize("batch", [1, 7, 128])
def test_answers_are_pytorchs(
    batch: int, bundle: Bundle, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.cascade, "BATCH", batch)
    model, sources = checkpoint.model(), bundle.source.encode_many(WORDS)
    beams = [list(best.ids) for best, *_ in search([model], sources, OPTIONS[WIDTH])]
    greedy = [ids for ids, _ in answer(model, sources, MAX_LENGTH)]
    assert decode_all(bundle, "fp32", WIDTH)[0] == beams != greedy
    assert decode_all(bundle, "fp32", 1)[0] == greedy


def test_margins_are_those_of_each_answer_decoded_alone(bundle: Bundle) -> None:
    answers, margins = decode_all(bundle, "int8", 1)
    graphs, start_id = graphs_of(bundle, "int8"), bundle.manifest.vocabulary.start_id
    for source, ids, margin in zip(bundle.source.encode_many(WORDS), answers, margins, strict=True):
        state, smallest = graphs.encode([source]), np.inf
        for token in [start_id, *ids[:-1]]:
            names = ["log_probs", *(f"next_{name}" for name in state)]
            log_probs, *arrays = graphs.decoder.run(names, {"token": np.array([token]), **state})
            state = dict(zip(state, arrays, strict=True))
            second, first = sorted(log_probs[0].tolist())[-2:]
            smallest = min(smallest, first - second)
        assert margin == smallest


@pytest.mark.parametrize("width", [1, WIDTH])
def test_a_source_without_a_token_has_no_answer(width: int, bundle: Bundle) -> None:
    start_id, graphs = bundle.manifest.vocabulary.start_id, graphs_of(bundle, "int8")
    sources = [[], *bundle.source.encode_many(WORDS[:3]), []]
    answers, margins = decode(graphs, sources, start_id, OPTIONS[width])
    assert answers == [[], *decode_all(bundle, "int8", width)[0][:3], []]
    assert (margins[0], margins[-1]) == (0.0, 0.0)


def slowly(margins: np.ndarray, greedy_wrong: np.ndarray, beam_wrong: np.ndarray) -> float:
    """The margin by trying each, from the largest down."""
    beam_wer = 100 * beam_wrong.mean()
    if 100 * greedy_wrong.mean() <= beam_wer + 0.02:
        return 0.0
    hundredths = 0
    for hundredths in range(int(margins.max() * 100) + 2, -1, -1):
        wer = 100 * np.where(margins < hundredths / 100, beam_wrong, greedy_wrong).mean()
        if wer > beam_wer + 0.02 + 1e-9:
            break
    return (hundredths + 1) / 100


@pytest.mark.parametrize("seed", range(20))
def test_the_margin_is_what_trying_each_gives(seed: int) -> None:
    chance = np.random.default_rng(seed)
    margins = chance.exponential(size=500)
    greedy_wrong = chance.random(500) < 0.3
    beam_wrong = np.where(chance.random(500) < 0.2 * np.exp(-margins), chance.random(500) < 0.3, greedy_wrong)
    assert smallest_margin(margins, greedy_wrong, beam_wrong) == slowly(margins, greedy_wrong, beam_wrong)


def test_a_margin_that_a_larger_one_shows_to_be_luck_is_not_taken() -> None:
    margins = np.array([0.105, 0.205, 0.305, 0.405])
    greedy_wrong = np.array([True, False, True, True])  # put right, spoiled, put right, left wrong
    beam_wrong = np.array([False, True, False, True])
    assert smallest_margin(margins, greedy_wrong, beam_wrong) == 0.31
    assert smallest_margin(margins[:2], greedy_wrong[:2], beam_wrong[:2]) == 0, "no better in all"
    assert smallest_margin(margins, greedy_wrong, np.zeros(4, bool)) == 0.41


def pairs(answers: list[list[int]], target: TargetText, file: Path) -> Path:
    """A file of pairs that has these answers as targets; those that no file can hold are left out."""
    texts = [target.decode([token for token in ids if token]) for ids in answers]
    lines = [f"{word}\t{text}\n" for word, text in zip(WORDS, texts, strict=True) if text and "<" not in text]
    assert len(lines) > len(WORDS) / 2
    file.write_text("".join(lines))
    return file


def export_with(run: Path, repository: Path, *arguments: str) -> Bundle:
    to = ["--name", "tiny", "--version", "1", "--to", str(repository)]
    assert main([str(run), *to, "--cascade-beam", str(WIDTH), *arguments]) == 0
    return read_bundle(repository / "tiny" / "1")


def test_where_the_beam_is_right_a_cascade_is_stored(
    bundle: Bundle, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pairs(decode_all(bundle, "int8", WIDTH)[0], bundle.target, tmp_path / "dev.some.tsv")
    measured = tmp_path / "test.tsv"
    measured.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    exported = export_with(tiny_run, tmp_path, "--dev", str(file), "--score", str(measured))
    cascade, count = exported.manifest.cascade, len(file.read_text().splitlines())
    assert cascade is not None
    assert (cascade.beam_size, cascade.profile, cascade.dataset) == (WIDTH, "int8", "dev")
    assert (cascade.sources, cascade.beam_wer, cascade.cascade_wer) == (count, 0.0, 0.0)
    assert cascade.greedy_wer > 0
    margins = dict(zip(WORDS, decode_all(bundle, "int8", 1)[1], strict=True))
    used = [margins[line.split("\t")[0]] for line in file.read_text().splitlines()]
    assert cascade.beam_share == round(sum(margin < cascade.margin for margin in used) / count, 4)
    assert f"cascade\tbeam 5 below a margin of {cascade.margin:g}" in capsys.readouterr().out
    scores = exported.manifest.card.scores
    found = {(score.decoding.split(",")[0], score.metric): score.value for score in scores}
    assert found["cascade", "WER"] == 0 < found["greedy", "WER"] == cascade.greedy_wer
    within = {score.decoding.split(",")[0]: score.interval_95 for score in scores if score.metric == "WER"}
    assert within["cascade"] == (0.0, 0.0) != within["greedy"]


def test_where_the_beam_is_no_better_there_is_none(
    bundle: Bundle, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pairs(decode_all(bundle, "int8", 1)[0], bundle.target, tmp_path / "dev.tsv")
    exported = export_with(tiny_run, tmp_path, "--dev", str(file))
    assert exported.manifest.cascade is None
    assert "a beam of 5 is no better than greedy" in capsys.readouterr().out


SOUND = {
    "beam_size": 32,
    "margin": 100.0,
    "profile": "fp32",
    "dataset": "dev",
    "sources": 1,
    "beam_share": 1.0,
    "greedy_wer": 100.0,
    "cascade_wer": 0.0,
    "beam_wer": 0.0,
}


@pytest.mark.parametrize(
    "change",
    [
        {"beam_size": 1},
        {"beam_size": 33},
        {"margin": 0.0},
        {"margin": 100.5},
        {"profile": "fp16"},  # which the bundle lacks
        {"beam_share": 1.1},
        {"beam_wer": -0.1},
        {"cascade_wer": 100.1},
    ],
    ids=str,
)
def test_a_manifest_with_a_cascade_that_cannot_be_is_refused(change: dict, bundle: Bundle) -> None:
    sound = msgspec.structs.replace(bundle.manifest, cascade=Cascade(**SOUND))
    assert decode_manifest(encode_manifest(sound)) == sound
    fields = json.loads(encode_manifest(sound))
    fields["cascade"] |= change
    with pytest.raises(BundleError, match="cascade"):
        decode_manifest(json.dumps(fields).encode())


def test_a_manifest_need_not_speak_of_cascades(bundle: Bundle) -> None:
    fields = json.loads(encode_manifest(bundle.manifest))
    assert fields.pop("cascade") is None
    assert decode_manifest(json.dumps(fields).encode()) == bundle.manifest


@pytest.mark.parametrize("arguments", [["--dev", "absent.tsv"], ["--dev", "empty.tsv"]])
def test_without_pairs_nothing_is_published(
    arguments: list[str],
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.tsv").touch()
    run = [str(tiny_run), "--name", "tiny", "--version", "1", "--to", str(tmp_path / "models")]
    assert main([*run, *arguments]) == 2
    assert arguments[1] in capsys.readouterr().err
    assert not Path("models").exists()
