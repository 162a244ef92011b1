"""What a text must be before it is tokenised. Cheap checks come before any work that grows with the text.

Knows nothing of messages: a text comes with the name of its field, for the complaint.
"""

import unicodedata
from functools import lru_cache

from bundle.text import CHARACTERS_PER_TOKEN, START, SourceText, TargetText, control_character
from bundle.values import UNKNOWN_ID
from service.errors import InvalidRequest, Violation

TURN_CHARACTERS = 16_384  # tokenised in a few milliseconds; then others get their turn
MAX_MARKS = 32  # combining marks in a row: normalising a long run of them takes quadratic time


def source_ids(source: SourceText, text: str, most: int, field: str) -> list[int]:
    """A text's ids, 1 to `most` of them. Raises InvalidRequest naming the field."""
    return _ids(source, text, most, field)


def target_ids(target: TargetText, text: str, most: int, field: str) -> tuple[int, ...]:
    """Ids of a target text, 1 to `most` of them, none `<unk>`. Raises InvalidRequest naming the field."""
    ids = _ids(target, text, most, field)
    if UNKNOWN_ID in ids:
        reason = f"the token at {ids.index(UNKNOWN_ID)} is not in the target vocabulary"
        raise InvalidRequest(Violation(field, reason))
    return tuple(ids)


def token_id(target: TargetText, token: str, field: str) -> int:
    """The id of a target token by its spelling; `<S>` has none. Raises InvalidRequest naming the field."""
    token_id = _ids_by_token(target.tokens).get(token)
    if token_id is None:
        raise InvalidRequest(Violation(field, "not in the target vocabulary, as the model lists it"))
    return token_id


@lru_cache(maxsize=16)
def _ids_by_token(tokens: tuple[str, ...]) -> dict[str, int]:
    return {token: i for i, token in enumerate(tokens) if token != START}


def _ids(vocabulary: SourceText | TargetText, text: str, most: int, field: str) -> list[int]:
    if len(text) > most * CHARACTERS_PER_TOKEN:
        raise InvalidRequest(Violation(field, f"{len(text)} characters; at most {most} tokens are allowed"))
    if not text.isascii():
        _refuse_piled_marks(text, field)
    if (place := control_character(text)) is not None:
        reason = f"control character U+{ord(text[place]):04X} at {place}; none are allowed"
        raise InvalidRequest(Violation(field, reason))
    ids = vocabulary.encode(text)
    if not ids:
        raise InvalidRequest(Violation(field, "empty; at least one token is needed"))
    if len(ids) > most:
        raise InvalidRequest(Violation(field, f"{len(ids)} tokens; at most {most} are allowed"))
    return ids


def _refuse_piled_marks(text: str, field: str) -> None:
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > MAX_MARKS:
            reason = f"more than {MAX_MARKS} combining marks in a row; at most {MAX_MARKS} are allowed"
            raise InvalidRequest(Violation(field, reason))
