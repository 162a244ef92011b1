"""Vocabularies of older checkpoints, in the form that is written now."""

import json

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from bundle.text import SourceText, build_source, build_target
from training.recipe import RECIPES, load_recipe
from training.vocabulary import rebuild_texts

LETTERS, PHONEMES = ["c", "a", "b", "'"], ["T", "AH0", "B"]


def test_an_older_form_is_rewritten_and_no_id_changes() -> None:
    recipe = load_recipe(RECIPES / "g2p-en.toml")
    new = build_source(LETTERS, "char", True, strip_accents=True), build_target(PHONEMES, "word")
    older = Tokenizer.from_buffer(new[0])
    older.model = models.WordLevel(older.get_vocab(), unk_token="<unk>")
    older.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    older.decoder = decoders.Fuse()
    old = older.to_str().encode()
    assert json.loads(old)["model"]["type"] == "WordLevel"
    assert rebuild_texts(recipe, old, new[1]) == new
    for text in ("abc", "CAB'", "á x", "<unk>c"):
        assert SourceText(old).encode(text) == SourceText(new[0]).encode(text)
