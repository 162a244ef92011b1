"""A run becomes a bundle that does what PyTorch does, or no bundle at all."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import export.gates
import export.int8
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
    monkeypatch.setitem(export.gates.ORDERS, "LSTM", ("i", "f", "g", "o"))
    assert main([*arguments(tiny_run, tmp_path / "models"), "--profiles", "fp32"]) == 2
    assert "h_0 differs by" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("profile", "says"), [("fp32", "h_0 differs by"), ("int8", "neighbours change its answer")]
)
def test_ignored_lengths_are_found(
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    profile: str,
    says: str,
) -> None:
    encode = Graphs.encode

    def encode_padding(graphs: Graphs, sources: list[list[int]], blocks: int = 0) -> object:
        longest = max(len(source) for source in sources)
        return encode(graphs, [[*source, *[0] * (longest - len(source))] for source in sources], blocks)

    monkeypatch.setattr(Graphs, "encode", encode_padding)
    assert main([*arguments(tiny_run, tmp_path / "models"), "--profiles", profile]) == 2
    assert f"in batches of 2: {says}" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_fixed_batch_axis_is_refused(tiny_models: Path) -> None:
    onnx = pytest.importorskip("onnx")
    bundle = read_bundle(tiny_models / "tiny" / "1")
    model = onnx.load_from_string(bundle.graphs["encoder.fp32.onnx"])
    for tensor in model.graph.input:
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(ParityError, match="source: its first axis is 1"):
        Graphs.load(model.SerializeToString(), bundle.graphs["decoder.fp32.onnx"])


@pytest.mark.parametrize("missing", ["run", "samples"])
def test_missing_file_is_named(
    missing: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "absent" if missing == "run" else tiny_run
    samples = ["--samples", str(tmp_path / "absent")] if missing == "samples" else []
    assert main([*arguments(run, tmp_path / "models"), *samples]) == 2
    assert "absent" in capsys.readouterr().err


def test_version_is_never_overwritten(
    tiny_run: Path, tiny_models: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("export.__main__.export", lambda *_: pytest.fail("nothing is to be proved"))
    assert main(arguments(tiny_run, tiny_models)) == 2
    assert "tiny/1: exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--name", "A/b", "'A/b': a to z"),
        ("--name", "x" * 65, "64 at most"),
        ("--version", "0", "from 1 to 2147483647 is wanted"),
        ("--version", "one", "from 1 to 2147483647 is wanted"),
    ],
)
def test_a_wrong_name_is_refused_at_once(
    option: str, value: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*arguments(tmp_path, tmp_path / "models"), option, value])
    assert said in capsys.readouterr().err


def test_profiles_are_chosen_and_the_first_is_the_default(tiny_run: Path, tmp_path: Path) -> None:
    found = {}
    for names in ("fp32", "int8", "fp32,int8,fp32", "fp32,fp16"):
        repository = tmp_path / names
        assert main([*arguments(tiny_run, repository), "--profiles", names]) == 0
        manifest = read_bundle(repository / "tiny" / "1").manifest
        found[names] = [profile.name for profile in manifest.profiles]
        assert manifest.profile("").name == found[names][0]
    assert found == {
        "fp32": ["fp32"],
        "int8": ["int8"],
        "fp32,int8,fp32": ["fp32", "int8"],
        "fp32,fp16": ["fp32", "fp16"],
    }


def test_an_unknown_profile_is_refused(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*arguments(tiny_run, tmp_path), "--profiles", "fp32,fp8"])
    assert "'fp8': int8, fp32, fp16 are allowed" in capsys.readouterr().err


def test_golden_cases_are_those_that_every_profile_gives(tiny_models: Path) -> None:
    """With PyTorch's own scores, from which int8's lie no further off than its tolerance says."""
    bundle = read_bundle(tiny_models / "tiny" / "1")
    for profile in bundle.manifest.profiles:
        graphs = Graphs.load(*(bundle.graphs[graph.file] for graph in (profile.encoder, profile.decoder)))
        for case in bundle.golden.cases:
            ((tokens, scores),) = graphs.greedy([case.source_ids], bundle.manifest.vocabulary.start_id, 12)
            assert tuple(tokens) == case.target_ids
            worst = max(abs(a - b) for a, b in zip(scores, case.token_scores, strict=True))
            assert worst <= profile.score_tolerance
    tolerances = {profile.name: profile.score_tolerance for profile in bundle.manifest.profiles}
    assert tolerances["fp32"] == 1e-4 < tolerances["int8"] < 0.5


def test_a_profile_that_agrees_too_seldom_is_no_bundle(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export.int8, "UNIT", np.float32(1))  # steps so coarse that answers change
    assert main([*arguments(tiny_run, tmp_path / "models"), "--profiles", "int8,fp32"]) == 2
    assert "int8, fp32 surely give PyTorch's tokens for" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
