"""Texts to prove parity and to make golden cases with: drawn from the vocabulary, the same every time."""

import random
from collections.abc import Sequence

from bundle.text import SourceText

RANDOM_TEXTS = 200
UNKNOWN_CHARACTER = "\u2603"  # no vocabulary of ours has a snowman


def sample_texts(source: SourceText, max_length: int, given: Sequence[str] = ()) -> list[str]:
    """The given texts, then random ones: every length up to the limit, repeats, and a token that is unknown.

    A text that the tokenizer makes empty or longer than `max_length` tokens is left out.
    """
    tokens = source.tokens[2:] or (UNKNOWN_CHARACTER,)  # without <pad> and <unk>
    joint = "" if all(len(token) == 1 for token in tokens) else " "
    chance = random.Random(0)
    texts = list(given)
    for index in range(RANDOM_TEXTS):
        length = 1 + index % max_length if index % 2 else chance.randint(1, min(12, max_length))
        texts.append(joint.join(chance.choices(tokens, k=length)))
    texts += [
        joint.join([tokens[0]] * max_length),
        UNKNOWN_CHARACTER,
        f"{tokens[0]}{joint}{UNKNOWN_CHARACTER}",
    ]
    usable = dict.fromkeys(text for text in texts if 0 < len(source.encode(text)) <= max_length)
    return list(usable)
