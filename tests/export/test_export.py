"""A run becomes a bundle that does what PyTorch does, or no bundle at all."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

import export.graphs
from bundle.reader import read_bundle
from export.__main__ import main
from export.parity import Graphs, ParityError


def arguments(run: Path, repository: Path) -> list[str]:
    return [str(run), "--name", "tiny", "--version", "1", "--to", str(repository)]


def test_bundle_is_sound_and_its_card_names_no_folder(tiny_models: Path) -> None:
    bundle = read_bundle(tiny_models / "tiny" / "1")
    assert len(bundle.golden.cases) == 32
    assert len({len(case.source_ids) for case in bundle.golden.cases}) > 3
    text = (tiny_models / "tiny" / "1" / "manifest.json").read_text()
    assert "secret" not in text
    assert json.loads(text)["card"]["recipe"]["data"]["train"] == "train.tsv"


def test_mixed_up_gates_are_found_and_nothing_is_published(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export.graphs, "TORCH_TO_ONNX", (0, 1, 2, 3))
    assert main(arguments(tiny_run, tmp_path / "models")) == 2
    assert "h_0 differs by" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_ignored_lengths_are_found(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encode = Graphs.encode

    def encode_padding(graphs: Graphs, sources: list[list[int]]) -> object:
        longest = max(len(source) for source in sources)
        return encode(graphs, [[*source, *[0] * (longest - len(source))] for source in sources])

    monkeypatch.setattr(Graphs, "encode", encode_padding)
    assert main(arguments(tiny_run, tmp_path / "models")) == 2
    assert "in batches of 2: h_0 differs by" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_fixed_batch_axis_is_refused(tiny_models: Path) -> None:
    onnx = pytest.importorskip("onnx")
    bundle = read_bundle(tiny_models / "tiny" / "1")
    model = onnx.load_from_string(bundle.encoder)
    for tensor in model.graph.input:
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(ParityError, match="source: its first axis is 1"):
        Graphs.load(model.SerializeToString(), bundle.decoder)


@pytest.mark.parametrize("missing", ["run", "samples"])
def test_missing_file_is_named(
    missing: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "absent" if missing == "run" else tiny_run
    samples = ["--samples", str(tmp_path / "absent")] if missing == "samples" else []
    assert main([*arguments(run, tmp_path / "models"), *samples]) == 2
    assert "absent" in capsys.readouterr().err


def test_version_is_never_overwritten(
    tiny_run: Path, tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny_run, tiny_models)) == 2
    assert "tiny/1: exists already" in capsys.readouterr().err
