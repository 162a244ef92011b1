"""Bundles whose files are sound one by one but disagree with each other: neither written nor read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bundle.errors import BundleError
from bundle.golden import GoldenCase
from bundle.manifest import Limits, Manifest, Profile, Tensor, Vocabulary
from bundle.reader import read_bundle
from bundle.text import build_source, build_target
from bundle.writer import publish
from tests.bundle.conftest import make_profiles

Publish = Callable[..., Path]


def refuses(publish: Publish, words: str, files: dict[str, bytes] | None = None, **fields: Any) -> None:
    with pytest.raises(BundleError) as caught:
        publish(files, **fields)
    assert words in str(caught.value)


def sizes(source: int, target: int) -> Vocabulary:
    return Vocabulary(
        source_size=source,
        target_size=target,
        source_pad_id=0,
        source_unknown_id=1,
        start_id=target - 1,
        end_id=0,
        unknown_id=1,
    )


@pytest.mark.parametrize("source", [4, 6])
def test_refuses_a_source_vocabulary_off_by_one(publish_changed: Publish, source: int) -> None:
    refuses(
        publish_changed,
        f"source.json: 5 tokens; the manifest allows exactly {source}",
        vocabulary=sizes(source, 6),
    )


@pytest.mark.parametrize("target", [5, 7])
def test_refuses_a_target_vocabulary_off_by_one(publish_changed: Publish, target: int) -> None:
    refuses(
        publish_changed,
        f"target.json: 6 tokens; the manifest allows exactly {target}",
        vocabulary=sizes(5, target),
    )


@pytest.mark.parametrize(
    ("file", "first", "second", "words"),
    [
        ("source.json", "<pad>", "a", "source.json: token 0 is 'a'; '<pad>' is allowed"),
        ("source.json", "<unk>", "a", "source.json: token 1 is 'a'; '<unk>' is allowed"),
        ("target.json", "<E>", "X", "target.json: token 0 is 'X'; '<E>' is allowed"),
        ("target.json", "<unk>", "X", "target.json: token 1 is 'X'; '<unk>' is allowed"),
        ("target.json", "<S>", "X", "target.json: token 5 is 'X'; '<S>' is allowed"),
    ],
)
def test_refuses_a_special_token_at_another_id(
    publish_changed: Publish, files: dict[str, bytes], file: str, first: str, second: str, words: str
) -> None:
    fields = msgspec.json.decode(files[file])
    vocab = fields["model"]["vocab"]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    refuses(publish_changed, words, {file: msgspec.json.encode(fields)})


@pytest.mark.parametrize("file", ["source.json", "target.json"])
def test_refuses_a_repeated_token(publish_changed: Publish, files: dict[str, bytes], file: str) -> None:
    data = files[file].replace(b'"<unk>": 1', b'"<unk>": 1, "<unk>": 1')
    assert data != files[file]
    refuses(publish_changed, f"{file}: not strict JSON: the key '<unk>' is given twice", {file: data})


def test_source_and_target_are_not_mistaken_for_each_other(publish_changed: Publish) -> None:
    swapped = {
        "source.json": build_target(["X", "Y"], "word"),
        "target.json": build_source(["a", "b", "c", "d"], "char"),
    }
    refuses(publish_changed, "source.json: token 0 is '<E>'", swapped)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cell": "gru"}, "fp32.encoder is not the graph"),
        ({"hidden_size": 5}, "fp32.encoder is not the graph"),
        ({"decoder_layers": 1}, "fp32.encoder is not the graph"),
    ],
)
def test_the_declared_graphs_follow_from_the_sizes(
    publish_changed: Publish, manifest: Manifest, changes: dict[str, Any], words: str
) -> None:
    architecture = msgspec.structs.replace(manifest.architecture, **changes)
    refuses(publish_changed, words, architecture=architecture)
    # Declared rightly, it is the file that is found wrong.
    refuses(
        publish_changed,
        "encoder.fp32.onnx: outputs are",
        architecture=architecture,
        profiles=make_profiles(architecture, manifest.vocabulary, "fp32", "int8"),
    )


def declared(manifest: Manifest, number: int, graph: str, **changes: Any) -> tuple[Profile, ...]:
    """The manifest's profiles, with some fields of one graph changed."""
    profiles = list(manifest.profiles)
    changed = msgspec.structs.replace(getattr(profiles[number], graph), **changes)
    profiles[number] = msgspec.structs.replace(profiles[number], **{graph: changed})
    return tuple(profiles)


@pytest.mark.parametrize(
    "file", ["../encoder.fp32.onnx", "/etc/passwd", "encoder.int8.onnx", "manifest.json", "encoder.onnx"]
)
def test_refuses_another_graph_file(publish_changed: Publish, manifest: Manifest, file: str) -> None:
    profiles = declared(manifest, 0, "encoder", file=file)
    refuses(publish_changed, "manifest.json: fp32.encoder is not the graph", profiles=profiles)


def test_refuses_a_declared_tensor_too_many(publish_changed: Publish, manifest: Manifest) -> None:
    extra = Tensor(name="memory", dtype="float32", shape=("R", 4))
    inputs = (*manifest.profiles[1].decoder.inputs, extra)
    profiles = declared(manifest, 1, "decoder", inputs=inputs)
    refuses(publish_changed, "manifest.json: int8.decoder is not the graph", profiles=profiles)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_refuses_the_graphs_of_two_profiles_swapped(
    publish_changed: Publish, files: dict[str, bytes], part: str
) -> None:
    swapped = {
        f"{part}.fp32.onnx": files[f"{part}.int8.onnx"],
        f"{part}.int8.onnx": files[f"{part}.fp32.onnx"],
    }
    refuses(publish_changed, f"{part}.fp32.onnx: ", swapped)


@pytest.mark.parametrize("names", [("fp32",), ("int8",), ("fp32", "int8", "fp16")])
def test_profiles_and_files_must_match(publish_changed: Publish, manifest: Manifest, names: Any) -> None:
    """A profile whose graphs are not there, or graphs that no profile lists."""
    profiles = make_profiles(manifest.architecture, manifest.vocabulary, *names)
    refuses(publish_changed, "files: ", profiles=profiles)


def test_a_bundle_of_one_profile(tmp_path: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    few = {name: data for name, data in files.items() if "fp32" not in name}
    read = read_bundle(
        publish(tmp_path / "few", msgspec.structs.replace(manifest, profiles=manifest.profiles[1:]), few)
    )
    assert sorted(read.graphs) == ["decoder.int8.onnx", "encoder.int8.onnx"]
    assert read.manifest.profile("").name == "int8"
    with pytest.raises(BundleError, match="profile 'fp32'; int8 are allowed"):
        read.manifest.profile("fp32")


SOUND_CASE = GoldenCase(
    text="ab", source_ids=(2, 3), target_ids=(2, 0), token_scores=(-1.0, -1.0), score=-2.0
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source_ids": (2, 4)}, "case 0: source_ids are not what source.json makes of the text"),
        ({"target_ids": (5, 0)}, "case 0: target id 5; 0..4 are allowed"),
        ({"target_ids": (0, 2)}, "case 0: target_ids go on after <E>"),
        ({"text": "abcabcabc", "source_ids": (2, 3, 4) * 3}, "case 0: 9 source_ids; at most 8 are allowed"),
        (
            {"target_ids": (2, 2, 2, 2), "token_scores": (-1.0,) * 4, "score": -4.0},
            "case 0: 4 target tokens; at most 3 are allowed",
        ),
    ],
    ids=["source ids", "start", "after end", "long source", "long target"],
)
def test_refuses_a_golden_case_that_cannot_be(
    publish_changed: Publish, changes: dict[str, Any], words: str
) -> None:
    wrong = msgspec.structs.replace(SOUND_CASE, **changes)
    refuses(publish_changed, f"golden.json: {words}", {"golden.json": encode({"cases": [wrong]})})


def test_the_longest_golden_case_allowed(publish_changed: Publish) -> None:
    longest = msgspec.structs.replace(
        SOUND_CASE, target_ids=(2, 2, 2, 0), token_scores=(-1.0,) * 4, score=-4.0
    )
    assert read_bundle(publish_changed({"golden.json": encode({"cases": [longest]})}))


def test_limits_bind_the_golden_cases(publish_changed: Publish) -> None:
    refuses(
        publish_changed,
        "golden.json: case 0: 3 source_ids; at most 2 are allowed",
        limits=Limits(max_source_length=2, max_target_length=3),
    )


def encode(value: Any) -> bytes:
    return msgspec.json.encode(value)
