"""manifest.json and golden.json: strict JSON, strict types."""

import json
from typing import Any

import msgspec
import pytest

from bundle.card import Score, Speed, Timing
from bundle.errors import BundleError
from bundle.golden import Golden, GoldenCase, decode_golden, encode_golden
from bundle.manifest import Manifest, decode_manifest, encode_manifest

REMOVED = "(removed)"


def change(fields: dict[str, Any], path: str, value: Any) -> None:
    """Set or remove one value; a path reads "profiles.0.encoder.inputs.0.name"."""
    *parents, key = path.split(".")
    target: Any = fields
    for parent in parents:
        target = target[int(parent) if parent.isdigit() else parent]
    if value is REMOVED:
        del target[key]
    else:
        target[int(key) if key.isdigit() else key] = value


def test_survives_a_round_trip(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest)) == manifest


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("format_version", 1, "format_version is 1; 3 is allowed"),
        ("format_version", "1", "format_version"),
        ("format_version", REMOVED, "format_version"),
        ("files", REMOVED, "files"),
        ("vocabulary.end_id", REMOVED, "end_id"),
        ("surprise", 1, "surprise"),
        ("card.surprise", 1, "surprise"),
        ("limits.surprise", 1, "surprise"),
        ("architecture.surprise", 1, "surprise"),
        ("profiles.0.encoder.inputs.0.surprise", 1, "surprise"),
        ("name", "../up", "name"),
        ("name", ".hidden", "name"),
        ("name", "Upper", "name"),
        ("name", "line\n", "name"),
        ("name", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "name"),
        ("name", "", "name"),
        ("version", 0, "version"),
        ("version", True, "version"),
        ("version", 1.5, "version"),
        ("version", 2147483648, "version"),
        ("limits.max_source_length", 0, "max_source_length"),
        ("limits.max_target_length", 65537, "max_target_length"),
        ("architecture.cell", "transformer", "cell"),
        ("architecture.hidden_size", 0, "hidden_size"),
        ("architecture.bidirectional", 1, "bidirectional"),
        ("architecture.attention", "luong", "attention"),
        ("architecture.context", "sometimes", "context"),
        ("architecture.encoder_hidden_size", REMOVED, "encoder_hidden_size"),
        ("architecture.input_feeding", True, "input_feeding is true without attention; false is allowed"),
        ("vocabulary.start_id", 4, "start_id is 4; 5 is allowed"),
        ("vocabulary.end_id", 1, "end_id is 1; 0 is allowed"),
        ("vocabulary.unknown_id", 0, "unknown_id is 0; 1 is allowed"),
        ("vocabulary.source_pad_id", 1, "source_pad_id is 1; 0 is allowed"),
        ("vocabulary.source_unknown_id", 0, "source_unknown_id is 0; 1 is allowed"),
        ("profiles.0.encoder.inputs.0.dtype", "float64", "dtype"),
        ("profiles.0.encoder.inputs.0.shape", ["B", -1], "shape"),
        ("profiles.0.encoder.inputs.0.shape", ["batch"], "shape"),
        ("profiles.0.encoder.inputs.0.name", "a b", "name"),
        ("profiles", [], "profiles"),
        ("profiles.0.name", "fp8", "name"),
        ("profiles.0.score_tolerance", -1, "score_tolerance"),
        (
            "files",
            {"a": {"size": -1, "sha256": "0000000000000000000000000000000000000000000000000000000000000000"}},
            "size",
        ),
        (
            "files",
            {"a": {"size": 1, "sha256": "000000000000000000000000000000000000000000000000000000000000000"}},
            "sha256",
        ),
        (
            "files",
            {"a": {"size": 1, "sha256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}},
            "sha256",
        ),
        ("profiles.1.name", "fp32", "repeat a name"),
    ],
)
def test_refuses_a_wrong_field(manifest: Manifest, path: str, value: Any, words: str) -> None:
    fields = json.loads(encode_manifest(manifest))
    change(fields, path, value)
    with pytest.raises(BundleError, match=r"^manifest\.json: ") as caught:
        decode_manifest(json.dumps(fields).encode())
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["a", "0", "g2p-en", "a..b", "a._-", "x" * 64])
def test_legal_names_stay_legal(manifest: Manifest, name: str) -> None:
    named = msgspec.structs.replace(manifest, name=name)
    assert decode_manifest(encode_manifest(named)).name == name


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ['"value": 0.5', '"learning_rate": 0.001'])
def test_refuses_what_is_no_number(manifest: Manifest, field: str, constant: str) -> None:
    data = encode_manifest(manifest).decode()
    assert field in data
    with pytest.raises(BundleError, match=r"^manifest\.json: "):
        decode_manifest(data.replace(field, f"{field.split(':')[0]}: {constant}").encode())


@pytest.mark.parametrize("field", ['"version": 1,', '"title": "Toy",', '"steps": [', '"licence": "CC0-1.0",'])
def test_refuses_a_key_given_twice(manifest: Manifest, field: str) -> None:
    data = encode_manifest(manifest).decode()
    key = field.split(":")[0]
    assert field in data
    with pytest.raises(BundleError, match=r"^manifest\.json: .*is given twice"):
        decode_manifest(data.replace(field, f"{key}: 1, {field}", 1).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{", b"\xff\xfe", b"{}x", b"\xef\xbb\xbf{}", b"[" * 100_000, b"9" * 10_000],
    ids=["empty", "null", "list", "cut", "no UTF-8", "trailing", "byte order mark", "deep", "long number"],
)
def test_refuses_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"^manifest\.json: "):
        decode_manifest(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_writes_no_number_that_json_lacks(manifest: Manifest, value: float) -> None:
    score = Score(dataset="toy", metric="exact match", value=value, sources=2, decoding="greedy")
    card = msgspec.structs.replace(manifest.card, scores=(score,))
    with pytest.raises(BundleError, match="value"):
        encode_manifest(msgspec.structs.replace(manifest, card=card))
    card = msgspec.structs.replace(manifest.card, recipe={"rate": value})
    with pytest.raises(BundleError, match="does not survive JSON"):
        encode_manifest(msgspec.structs.replace(manifest, card=card))


def test_a_card_need_not_speak_of_intervals_and_speed(manifest: Manifest) -> None:
    fields = json.loads(encode_manifest(manifest))
    assert fields["card"].pop("speed") is fields["card"]["scores"][0].pop("interval_95") is None
    assert decode_manifest(json.dumps(fields).encode()) == manifest


def test_a_card_with_both_survives_a_round_trip(manifest: Manifest) -> None:
    timing = Timing(profile="int8", rows=32, source_microseconds=1.5, step_microseconds=70.0)
    speed = Speed(machine="m", runtime="r", threads=1, source_length=8, timings=(timing,))
    score = msgspec.structs.replace(manifest.card.scores[0], interval_95=(0.25, 0.75))
    card = msgspec.structs.replace(manifest.card, scores=(score,), speed=speed)
    whole = msgspec.structs.replace(manifest, card=card)
    assert decode_manifest(encode_manifest(whole)) == whole


def case(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "text": "ab",
        "source_ids": [2, 3],
        "target_ids": [2, 0],
        "token_scores": [-0.5, -1],
        "score": -1.5,
    }
    return json.dumps({"cases": [fields | changes]}).encode()


def test_golden_survives_a_round_trip() -> None:
    golden = decode_golden(case())
    assert golden.cases[0].token_scores == (-0.5, -1.0)
    assert decode_golden(encode_golden(golden)) == golden


def test_golden_scores_keep_every_bit() -> None:
    score = -0.1 - 0.2
    exact = GoldenCase(text="a", source_ids=(2,), target_ids=(0,), token_scores=(score,), score=score)
    assert decode_golden(encode_golden(Golden(cases=(exact,)))).cases[0].score == score


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_ids": []}, "target_ids"),
        ({"source_ids": []}, "source_ids"),
        ({"source_ids": [-1]}, "source_ids"),
        ({"target_ids": [2, 0, 0]}, "2 token_scores; 3 are allowed"),
        ({"token_scores": [-0.5, 1.0], "score": 0.5}, "token_scores"),
        ({"token_scores": [-0.5, None]}, "token_scores"),
        ({"score": -1.6}, "score is -1.6; the sum"),
        ({"score": None}, "score"),
        ({"surprise": 1}, "surprise"),
        ({"text": 7}, "text"),
    ],
)
def test_refuses_a_wrong_golden_case(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BundleError, match=r"^golden\.json: ") as caught:
        decode_golden(case(**changes))
    assert words in str(caught.value)


def test_refuses_a_golden_file_without_cases() -> None:
    with pytest.raises(BundleError, match=r"^golden\.json: .*cases"):
        decode_golden(b'{"cases": []}')


def test_refuses_attention_beside_a_summary_at_every_step(manifest: Manifest) -> None:
    fields = json.loads(encode_manifest(manifest))
    fields["architecture"] |= {"attention": "dot", "context": "every-step"}
    with pytest.raises(BundleError, match="context is every-step with attention; first-step is allowed"):
        decode_manifest(json.dumps(fields).encode())
