"""Answers from a model's exception lexicon, in the form of decoded ones.

Knows nothing of files, or of how texts come and go.
"""

import hashlib

from msgspec.structs import replace

from bundle.lexicon import Lexicon, Targets
from bundle.reader import Bundle
from service.hypothesis import Hypothesis
from service.options import Options

PLAIN = Options(0)


def asks_for_the_best_alone(options: Options) -> bool:
    """Whether nothing is asked for that only a model can give, and nothing decides beside its ranking.

    A beam, a cascade, a penalty and a deadline are ways to the best answer; whatever is not named here asks
    for more.
    """
    ways = {"beam_size": 1, "n_best": 1, "length_penalty": 0.0, "cascade_margin": 0.0}
    return replace(options, max_length=0, partial_on_deadline=False, **ways) == PLAIN


def hypotheses(targets: Targets, options: Options) -> list[Hypothesis]:
    """A source's targets as an answer, the best first; nothing where one of them is longer than allowed."""
    wanted = targets[: options.n_best]
    if max(map(len, wanted)) > options.max_length:
        return []
    return [
        Hypothesis(tokens=list(ids), scores=[0.0] * (len(ids) + 1), reason="eos", score=0.0, normalised=0.0)
        for ids in wanted
    ]


def digest_with(bundle: Bundle, lexicon: Lexicon | None) -> str:
    """What names a bundle's answers under a lexicon: the bundle's digest alone where that holds the lexicon.

    Else SHA-256 of both digests, in hex, with a space between.
    """
    own = bundle.lexicon
    if lexicon is None or (own is not None and own.sha256 == lexicon.sha256):
        return bundle.digest
    return hashlib.sha256(f"{bundle.digest} {lexicon.sha256}".encode()).hexdigest()
