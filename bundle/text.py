"""Text to ids and ids to text, through the `tokenizers` library; the bundle's JSON decides everything.

Knows nothing about folders, graphs or lengths. Texts hold no lone surrogates; the wire has none.
"""

import json
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from bundle.errors import BundleError
from bundle.strict_json import refuse_loose_json

PAD, UNKNOWN, END, START = "<pad>", "<unk>", "<E>", "<S>"
CHARACTERS_PER_TOKEN = 64  # a text longer than this times its token limit is refused before it is tokenised

Level = Literal["char", "word"]


_NO_ID = 255
_BY_CHARACTER = frozenset({"Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Strip"})


def _goes_by_character(json_bytes: bytes) -> bool:
    """Whether a tokenizer file gives each ASCII character one id, whatever is around it."""
    settings = json.loads(json_bytes)
    model, normalizer = settings["model"], settings.get("normalizer")
    steps = normalizer.get("normalizers", [normalizer]) if normalizer else []
    switches = ("merges", "fuse_unk", "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix")
    return (
        settings.get("pre_tokenizer") is None
        and {step["type"] for step in steps} <= _BY_CHARACTER
        and model.get("type") == "BPE"
        and not any(model.get(switch) for switch in switches)
    )


class _Text:
    """A checked tokenizer. Raises BundleError unless it encodes every text, whole and always the same."""

    file: str

    def __init__(self, json_bytes: bytes) -> None:
        refuse_loose_json(self.file, json_bytes)
        try:
            self._tokenizer = Tokenizer.from_buffer(json_bytes)
            by_character = _goes_by_character(json_bytes)
        except ValueError as error:
            raise BundleError(f"{self.file}: not a tokenizer: {error}") from error
        except (AttributeError, KeyError, TypeError) as error:  # the library is more lenient than we are
            raise BundleError(f"{self.file}: not laid out as the tokenizers library writes it") from error
        self._check_settings()
        self.tokens: tuple[str, ...] = self._read_tokens()
        self._ids_of_ascii: bytes | None = None
        self._check_encoding()
        if by_character and len(self.tokens) <= _NO_ID:
            self._ids_of_ascii = self._tabulate_ascii()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text of any length: never padded or cut, no special id added.

        Where a vocabulary goes character by character, most texts take one look at a table each. The work is
        done in the caller's thread. The library's batch calls start a pool of threads, even for
        one text, that would compete with decoding.
        """
        if self._ids_of_ascii is not None and text.isascii():
            ids = text.encode("ascii").translate(self._ids_of_ascii)
            if _NO_ID not in ids:
                return list(ids)
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _tabulate_ascii(self) -> bytes:
        """The id of each ASCII character that stands for itself wherever it is: blanks may be cut off."""
        table = bytearray([_NO_ID] * 256)
        for code in range(ord("!"), ord("~") + 1):
            ids = self.encode(chr(code))
            if len(ids) == 1:
                table[code] = ids[0]
        return bytes(table)

    def normalise(self, text: str) -> str:
        """Return the text as the vocabulary spells it."""
        normalizer = self._tokenizer.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    def pieces(self, text: str) -> list[str]:
        """Return the normalised text cut up as `encode` cuts it before it looks anything up."""
        normalised = self.normalise(text)
        found = self._tokenizer.encode(normalised, add_special_tokens=False).offsets
        return [normalised[start:end] for start, end in found]

    def _check_settings(self) -> None:
        if self._tokenizer.truncation is not None or self._tokenizer.padding is not None:
            raise BundleError(f"{self.file}: truncation or padding is set; null is allowed")
        if self._tokenizer.get_added_tokens_decoder():
            raise BundleError(
                f"{self.file}: added_tokens would turn a user's text into special ids; none are allowed"
            )
        if getattr(self._tokenizer.model, "dropout", None) is not None:
            raise BundleError(f"{self.file}: dropout makes the ids of a text random; null is allowed")

    def _read_tokens(self) -> tuple[str, ...]:
        by_id = {token_id: token for token, token_id in self._tokenizer.get_vocab().items()}
        size = self._tokenizer.get_vocab_size()
        if sorted(by_id) != list(range(size)):
            raise BundleError(
                f"{self.file}: {size} tokens lack some of the ids 0..{size - 1}; each is allowed once"
            )
        return tuple(by_id[token_id] for token_id in range(size))

    def _check_encoding(self) -> None:
        for special in (PAD, END, START):
            try:
                ids = self.encode(f"{special} \U0010fffd")
            except Exception as error:  # all that the library raises where the model lacks its unknown token
                raise BundleError(f"{self.file}: cannot encode unknown text: {error}") from error
            if any(self.tokens[token_id] == special for token_id in ids):
                raise BundleError(
                    f"{self.file}: a user's text {special!r} becomes the special id; any other id is allowed"
                )


class SourceText(_Text):
    """source.json: text to source ids."""

    file = "source.json"

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Return what `encode` gives for each text."""
        return [self.encode(text) for text in texts]


class TargetText(_Text):
    """target.json: target ids to text, and back for texts whose score is asked."""

    file = "target.json"

    def __init__(self, json_bytes: bytes) -> None:
        super().__init__(json_bytes)
        self._by_id = dict(enumerate(self.tokens))
        decoder = json.loads(json_bytes).get("decoder")
        if decoder not in (None, {"type": "Fuse"}):
            raise BundleError(
                f"{self.file}: decoder {decoder.get('type')} might take back text that was streamed; null "
                "(a space between two tokens) and Fuse (nothing between them) are allowed"
            )
        self._joint = " " if decoder is None else ""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of target ids, each spelled out, `<E>` too.

        Raises ValueError for ids outside 0..n-1.
        """
        try:
            spelled = list(map(self._by_id.__getitem__, ids))
        except KeyError:
            raise ValueError(
                f"token ids {min(ids)}..{max(ids)}; 0..{len(self.tokens) - 1} are allowed"
            ) from None
        return self._joint.join(spelled)


def control_character(text: str) -> int | None:
    """Where a text has its first control character, which no request and no lexicon may hold."""
    if text.isprintable():
        return None
    return next((place for place, one in enumerate(text) if unicodedata.category(one) == "Cc"), None)


def build_source(
    tokens: Sequence[str], level: Level, lowercase: bool = False, *, strip_accents: bool = False
) -> bytes:
    """Return source.json for a vocabulary: `<pad>` 0, `<unk>` 1, then the tokens in their order.

    Raises ValueError for tokens that repeat or that no text can ever give.
    """
    return _build((PAD, UNKNOWN, *tokens), level, lowercase, strip_accents)


def build_target(
    tokens: Sequence[str], level: Level, lowercase: bool = False, *, strip_accents: bool = False
) -> bytes:
    """Return target.json for a vocabulary: `<E>` 0, `<unk>` 1, the tokens in their order, `<S>` last.

    Text is decoded with spaces between words, and with nothing between characters. Raises ValueError as
    `build_source` does.
    """
    return _build((END, UNKNOWN, *tokens, START), level, lowercase, strip_accents)


def normaliser(level: Level, lowercase: bool, strip_accents: bool) -> Callable[[str], str]:
    """Return what turns a text into the spelling that such a vocabulary sees: its `normalise`."""
    normalise: Callable[[str], str] = _normaliser(level, lowercase, strip_accents).normalize_str
    return normalise


def _build(tokens: Sequence[str], level: Level, lowercase: bool, strip_accents: bool) -> bytes:
    if len(set(tokens)) != len(tokens):
        twice = next(token for token in tokens if tokens.count(token) > 1)
        raise ValueError(f"token {twice!r} is given twice; once is allowed")
    ids = {token: i for i, token in enumerate(tokens)}
    if level == "char":  # byte-pair encoding without pairs: characters one by one, with no search for cuts
        tokenizer = Tokenizer(models.BPE(ids, [], unk_token=UNKNOWN, fuse_unk=False))
        tokenizer.decoder = decoders.Fuse()
    else:
        tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # decoded without a decoder: with spaces
    tokenizer.normalizer = _normaliser(level, lowercase, strip_accents)
    for token_id, token in enumerate(tokens):
        if token in (PAD, UNKNOWN, END, START) or (level == "char" and token.isspace()):
            continue  # never from text, or only from the middle of one
        if tokenizer.encode(token, add_special_tokens=False).ids != [token_id]:
            raise ValueError(
                f"token {token!r} can never come from text; normalised tokens of one {level} are allowed"
            )
    return tokenizer.to_str(pretty=True).encode()


def _normaliser(level: Level, lowercase: bool, strip_accents: bool) -> normalizers.Sequence:
    steps: list[normalizers.Normalizer] = []
    if lowercase:
        steps.append(normalizers.Lowercase())
    if strip_accents:
        steps += [normalizers.NFD(), normalizers.StripAccents()]
    steps += [normalizers.NFC(), normalizers.Strip()]
    if level == "word":  # last, on the final spelling: a user may type what a special token is called
        steps += [normalizers.Replace(special, UNKNOWN) for special in (PAD, END, START)]
    return normalizers.Sequence(steps)
