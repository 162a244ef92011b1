"""source.json and target.json: what text becomes, and what a user cannot do with it."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.errors import BundleError
from bundle.text import END, PAD, START, UNKNOWN, SourceText, TargetText, build_source, build_target

SPECIALS = [PAD, UNKNOWN, END, START]
LETTERS = ["a", "b", "c", " ", "<", ">", "E", "S"]


def changed(data: bytes, **changes: Any) -> bytes:
    return json.dumps(json.loads(data) | changes).encode()


def model_changed(data: bytes, **changes: Any) -> bytes:
    return changed(data, model=json.loads(data)["model"] | changes)


def test_characters() -> None:
    text = SourceText(build_source(LETTERS, "char"))
    assert text.tokens == (PAD, UNKNOWN, *LETTERS)
    assert text.encode("ab c") == [2, 3, 5, 4]
    assert text.encode("  ab\n") == [2, 3]
    assert text.encode("a\n\nb") == [2, 1, 1, 3]
    assert text.encode("aéb") == [2, 1, 3]
    assert text.encode("") == []
    assert text.encode_many(["a", "", "cb"]) == [[2], [], [4, 3]]


def test_words() -> None:
    text = SourceText(build_source(["the", "cat"], "word"))
    assert text.encode("  the   cat\tsat ") == [2, 3, 1]
    assert text.pieces(" the cat ") == ["the", "cat"]


def test_normalisation_is_a_choice() -> None:
    plain = SourceText(build_source(["É", "é"], "char"))
    assert plain.encode("Éé") == plain.encode("E\u0301e\u0301") == [2, 3]
    assert plain.normalise(" É ") == "É"
    lower = SourceText(build_source(["é"], "char", True))
    assert lower.encode("Éé") == [2, 2]
    bare = SourceText(build_source(["e"], "char", True, strip_accents=True))
    assert bare.encode("Éé") == [2, 2]
    assert bare.normalise("É") == "e"


def test_target_text() -> None:
    words = TargetText(build_target(["HH", "AH0"], "word"))
    assert words.tokens == (END, UNKNOWN, "HH", "AH0", START)
    assert words.decode([2, 3, 1]) == "HH AH0 <unk>"
    assert words.decode([]) == ""
    assert words.encode("HH AH0 ZZ") == [2, 3, 1]
    characters = TargetText(build_target(["a", " ", "b"], "char"))
    assert characters.decode([2, 3, 4]) == "a b"
    assert characters.encode("a b") == [2, 3, 4]


@pytest.mark.parametrize("ids", [[5], [-1], [2, 99]])
def test_decode_refuses_ids_outside_the_vocabulary(ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"0\.\.4 are allowed"):
        TargetText(build_target(["HH", "AH0"], "word")).decode(ids)


@pytest.mark.parametrize("special", SPECIALS)
@pytest.mark.parametrize("frame", ["{}", " {} ", "a{}b", "a {} b", "{}{}"])
def test_nobody_can_type_a_special_token(special: str, frame: str) -> None:
    typed = frame.format(special, special)
    for build, read, specials in (
        (build_source, SourceText, {0}),
        (build_target, TargetText, {0, 10}),
    ):
        text = read(build(LETTERS, "char"))
        assert specials.isdisjoint(text.encode(typed))
        assert len(text.encode(typed)) == len(typed.strip())  # a character each
    for build, read in ((build_source, SourceText), (build_target, TargetText)):
        text = read(build(["a", "b"], "word"))
        ids = text.encode(typed)
        assert set(ids) <= {1, 2, 3}
        assert 1 in ids


@pytest.mark.parametrize(
    "typed", ["＜pad＞", "<PAD>", "<p\u0301ad>", "<pa<pad>d>", "<pad>\u0301", "\u200b<pad>"]
)
def test_nobody_can_type_it_in_disguise(typed: str) -> None:
    text = SourceText(build_source(["a"], "word", True, strip_accents=True))
    assert text.encode(typed) == [1]


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.text(alphabet=st.sampled_from([*"<>padESunk \u0301ＥA"]), max_size=24))
def test_no_text_gives_special_ids(typed: str) -> None:
    for text in TEXTS:
        assert not {text.tokens[token_id] for token_id in text.encode(typed)} & {PAD, END, START}


TEXTS = [
    read(build(LETTERS if level == "char" else ["x"], level, False, strip_accents=strip))
    for read, build in ((SourceText, build_source), (TargetText, build_target))
    for level in ("char", "word")
    for strip in (False, True)
]


def test_never_cuts_or_pads() -> None:
    text = SourceText(build_source(LETTERS, "char"))
    assert text.encode("a" * 100_000) == [2] * 100_000
    assert [len(ids) for ids in text.encode_many(["a", "abc"])] == [1, 3]


@pytest.mark.parametrize("build", [build_source, build_target])
@pytest.mark.parametrize(
    ("tokens", "level", "words"),
    [
        (["a", "a"], "char", "given twice"),
        (["a", "<unk>"], "char", "given twice"),
        (["ab"], "char", "can never come from text"),
        (["e\u0301"], "char", "can never come from text"),
        (["a b"], "word", "can never come from text"),
        ([" "], "word", "can never come from text"),
        ([""], "word", "can never come from text"),
    ],
)
def test_builders_refuse_useless_tokens(build: Any, tokens: list[str], level: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(tokens, level)


def test_builders_refuse_capitals_that_would_be_lowered() -> None:
    build_source(["A"], "char")
    with pytest.raises(ValueError, match="can never come from text"):
        build_source(["A"], "char", lowercase=True)


ADDED = {
    "id": 0,
    "content": PAD,
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}
TRUNCATION = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 9},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": PAD,
}
BPE = {"type": "BPE", "vocab": {PAD: 0, UNKNOWN: 1, "a": 2}, "merges": [], "unk_token": UNKNOWN}
SOUND = build_source(["a", "b"], "char")
BROKEN_SPLIT = {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not strict JSON"),
        (b"{}", "not a tokenizer"),
        (SOUND[:-20], "not strict JSON"),
        (changed(SOUND, model={"type": "Foo"}), "not a tokenizer"),
        (changed(SOUND, pre_tokenizer=BROKEN_SPLIT), "not a tokenizer"),
        (changed(SOUND, normalizer=[[]]), "not laid out as the tokenizers library writes it"),
        (changed(SOUND, truncation=TRUNCATION), "truncation or padding is set"),
        (changed(SOUND, padding=PADDING), "truncation or padding is set"),
        (changed(SOUND, added_tokens=[ADDED]), "added_tokens"),
        (changed(SOUND, model=BPE | {"dropout": 0.5}), "dropout"),
        (
            model_changed(SOUND, vocab={PAD: 0, UNKNOWN: 1, "a": 2, "b": 2}),
            "4 tokens lack some of the ids 0..3",
        ),
        (
            model_changed(SOUND, vocab={PAD: 0, UNKNOWN: 1, "a": 2, "b": 4}),
            "4 tokens lack some of the ids 0..3",
        ),
        (SOUND.replace(b'"b": 3', b'"b": 3, "b": 3'), "the key 'b' is given twice"),
        (model_changed(SOUND, unk_token="[UNK]"), "cannot encode unknown text"),
        (changed(build_source(["a", "b"], "word"), normalizer=None), "becomes the special id"),
    ],
)
def test_refuses_a_wrong_tokenizer(data: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=r"^source\.json: ") as caught:
        SourceText(data)
    assert words in str(caught.value)


def test_accepts_a_subword_model_without_dropout() -> None:
    assert SourceText(changed(SOUND, model=BPE)).encode("aa") == [2, 2]


@pytest.mark.parametrize("special", [END, START])
def test_refuses_a_target_tokenizer_that_reads_special_tokens(special: str) -> None:
    sound = build_target(["a"], "word")
    TargetText(sound)
    normalizer = json.loads(sound)["normalizer"]
    normalizer["normalizers"] = [
        step for step in normalizer["normalizers"] if step.get("pattern") != {"String": special}
    ]
    with pytest.raises(BundleError, match=rf"^target\.json: a user's text '{special}'"):
        TargetText(changed(sound, normalizer=normalizer))


PROGRAM = """
import threading
from bundle.text import SourceText, build_source
text = SourceText(build_source(list("abc"), "char"))
texts = ["abcabc" * n for n in range(64)]
print([text.encode_many(texts), [text.encode(one) for one in texts]])
print(sum(line.startswith("Threads:\\t1\\n") for line in open("/proc/self/status")))
"""


def test_encoding_knows_no_threads() -> None:
    """The library's pool would compete with decoding, and hang on its environment."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"TOKENIZERS_PARALLELISM": parallelism, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for parallelism in ("true", "false")
    }
    assert len(outputs) == 1
    assert outputs.pop().endswith("\n1\n")


TABLES = [
    build_source(tuple("abc'-.<"), "char"),
    build_source(tuple("abcxyz'"), "char", lowercase=True, strip_accents=True),
    build_target(tuple("ABCabc ,"), "char"),
]


@pytest.mark.parametrize("data", TABLES, ids=["plain", "lower", "target"])
@given(text=st.text(st.sampled_from("abcxyzABC '-.,<>~!\u00e4\u0301"), max_size=12))
def test_the_table_of_characters_gives_what_the_library_gives(data: bytes, text: str) -> None:
    read = TargetText(data) if END in data.decode() else SourceText(data)
    assert read._ids_of_ascii is not None
    assert read.encode(text) == read._tokenizer.encode(text, add_special_tokens=False).ids


def test_only_characters_have_a_table() -> None:
    merged = json.loads(build_source(("a", "b"), "char"))
    merged["model"]["vocab"]["ab"] = 4
    merged["model"]["merges"] = [["a", "b"]]
    for data in (json.dumps(merged).encode(), build_source(("some", "words"), "word")):
        assert SourceText(data)._ids_of_ascii is None
    many = SourceText(build_source([chr(0x4E00 + i) for i in range(300)], "char"))
    assert many._ids_of_ascii is None  # an id is more than a byte
    assert many.encode("a") == [1]


@pytest.mark.parametrize("level", ["char", "word"])
@given(ids=st.lists(st.integers(0, 5), max_size=8))
def test_joined_tokens_are_what_the_library_decodes(level: Any, ids: list[int]) -> None:
    target = TargetText(build_target(("AA", "B", "c'") if level == "word" else ("A", "b", "\u00e9"), level))
    assert target.decode(ids) == target._tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize(
    "decoder",
    [
        {"type": "WordPiece", "prefix": "##", "cleanup": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
    ],
)
def test_a_decoder_that_might_take_text_back_is_refused(decoder: dict[str, Any]) -> None:
    settings_ = json.loads(build_target(["a", "b"], "char"))
    settings_["decoder"] = decoder
    with pytest.raises(BundleError, match=f"decoder {decoder['type']} might take back .* null .* and Fuse"):
        TargetText(json.dumps(settings_).encode())
