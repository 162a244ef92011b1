"""A tiny sound bundle, which each test spoils in one place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundle.card import DataSource, ModelCard, Score
from bundle.golden import Golden, GoldenCase, encode_golden
from bundle.graphs import decoder_graph, encoder_graph
from bundle.manifest import Architecture, Graph, Limits, Manifest, Profile, Vocabulary
from bundle.text import build_source, build_target
from bundle.values import ProfileName
from bundle.writer import publish

DTYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
}
FILES = (
    *("encoder.fp32.onnx", "decoder.fp32.onnx", "encoder.int8.onnx", "decoder.int8.onnx"),
    *("source.json", "target.json", "golden.json"),
)


def make_profiles(
    architecture: Architecture, vocabulary: Vocabulary, *names: ProfileName
) -> tuple[Profile, ...]:
    """Return profiles as a sound manifest declares them."""
    return tuple(
        Profile(
            name=name,
            score_tolerance=1e-4,
            encoder=encoder_graph(architecture, name),
            decoder=decoder_graph(architecture, vocabulary, name),
        )
        for name in names
    )


def make_manifest(**changes: Any) -> Manifest:
    """Return the manifest of g2p-toy/1: an LSTM with L=2, H=4 and an embedding of 3, in two profiles."""
    architecture = Architecture(
        cell="lstm",
        encoder_layers=1,
        decoder_layers=2,
        embedding_size=3,
        hidden_size=4,
        encoder_hidden_size=4,
        bidirectional=True,
        attention="none",
        input_feeding=False,
        context="first-step",
        parameters=1234,
    )
    vocabulary = Vocabulary(
        source_size=5,
        target_size=6,
        source_pad_id=0,
        source_unknown_id=1,
        start_id=5,
        end_id=0,
        unknown_id=1,
    )
    card = ModelCard(
        title="Toy",
        description="Spells words.",
        licence="Apache-2.0",
        data=(DataSource(name="toy", licence="CC0-1.0", split="train", examples=3, sha256="0" * 64),),
        scores=(Score(dataset="toy", metric="exact match", value=0.5, sources=2, decoding="greedy"),),
        training_commit="0" * 40,
        recipe={"optimiser": {"learning_rate": 1e-3, "steps": [1, 2]}},
    )
    manifest = Manifest(
        name="g2p-toy",
        version=1,
        card=card,
        architecture=architecture,
        vocabulary=vocabulary,
        limits=Limits(max_source_length=8, max_target_length=3),
        profiles=make_profiles(architecture, vocabulary, "fp32", "int8"),
        files={},
    )
    return msgspec.structs.replace(manifest, **changes)


def make_model(graph: Graph, ids: str, rows: int) -> onnx.ModelProto:
    """Return a model with the graph's tensors whose one look-up has `rows` rows; its outputs mean nothing."""
    table = numpy_helper.from_array(np.zeros((rows, 3), np.float32), "embedding")
    nodes = [
        helper.make_node("Transpose", [ids], ["ids_first"]),
        helper.make_node("Gather", ["embedding", "ids_first"], ["embedded"]),
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.ones(1, np.float32))),
    ]
    inputs, outputs = (
        [helper.make_tensor_value_info(t.name, DTYPES[t.dtype], t.shape) for t in tensors]
        for tensors in (graph.inputs, graph.outputs)
    )
    onnx_graph = helper.make_graph(nodes, "toy", inputs, outputs, [table])
    return helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", 17)])


def make_golden() -> Golden:
    return Golden(
        cases=(
            GoldenCase(
                text="ab!",
                source_ids=(2, 3, 1),
                target_ids=(2, 3, 0),
                token_scores=(-0.5, -0.25, 0.0),
                score=-0.75,
            ),
            GoldenCase(
                text="c", source_ids=(4,), target_ids=(4, 4, 1), token_scores=(-1.0, -2.0, -3.0), score=-6.0
            ),
        )
    )


@pytest.fixture
def manifest() -> Manifest:
    return make_manifest()


@pytest.fixture
def encoder(manifest: Manifest) -> onnx.ModelProto:
    return make_model(manifest.profiles[0].encoder, "source", 5)


@pytest.fixture
def decoder(manifest: Manifest) -> onnx.ModelProto:
    return make_model(manifest.profiles[0].decoder, "token", 6)


@pytest.fixture
def files(manifest: Manifest, encoder: onnx.ModelProto, decoder: onnx.ModelProto) -> dict[str, bytes]:
    """Every file of the bundle but its manifest."""
    int8 = manifest.profiles[1]
    return {
        "encoder.fp32.onnx": encoder.SerializeToString(),
        "decoder.fp32.onnx": decoder.SerializeToString(),
        "encoder.int8.onnx": make_model(int8.encoder, "source", 5).SerializeToString(),
        "decoder.int8.onnx": make_model(int8.decoder, "token", 6).SerializeToString(),
        "source.json": build_source(["a", "b", "c"], "char"),
        "target.json": build_target(["X", "Y", "Z"], "word"),
        "golden.json": encode_golden(make_golden()),
    }


@pytest.fixture
def folder(tmp_path: Path, manifest: Manifest, files: dict[str, bytes]) -> Path:
    """A published bundle."""
    return publish(tmp_path / "models", manifest, files)


@pytest.fixture
def publish_changed(tmp_path: Path, manifest: Manifest, files: dict[str, bytes]) -> Callable[..., Path]:
    """Publish the bundle with some files or manifest fields replaced; raises what `publish` raises."""

    def publish_with(changed: dict[str, bytes] | None = None, **fields: Any) -> Path:
        changed_manifest = msgspec.structs.replace(manifest, **fields)
        return publish(tmp_path / "models", changed_manifest, {**files, **(changed or {})})

    return publish_with
