"""How one input is decoded. Knows nothing of text, transport or tensors: tokens are ids here.

Plain values that both kinds of process send to each other. They are hashable: with the source and the model
they decide the answer, and nothing else does. Whoever makes them has checked them.
"""

from collections.abc import Collection

from msgspec import Struct, msgpack


class Sampling(Struct, frozen=True, array_like=True):
    """Tokens are drawn: by `temperature`, from the `top_k` best, from the fewest that hold `top_p` in all.

    The draw at a position depends on `seed` and the position alone. The filters apply in that order.
    """

    seed: int = 0  # 0 to 2**64 - 1
    temperature: float = 1.0  # more than 0; 1: the model's own distribution
    top_k: int = 0  # 0: all tokens
    top_p: float = 1.0  # more than 0, at most 1


class Options(Struct, frozen=True, array_like=True):
    """Everything that decides how one input is decoded. The defaults are plain greedy decoding."""

    max_length: int  # most tokens, <E> not counted; 1 or more
    min_length: int = 0  # tokens before <E> may come; at most max_length
    beam_size: int = 1  # 1: no beam
    n_best: int = 1  # hypotheses returned; at most beam_size
    length_penalty: float = 0.0  # beams rank by score / length**length_penalty, <E> counted
    cascade_margin: float = 0.0  # above 0: greedy, and a beam where two tokens came closer than that
    sampling: Sampling | None = None  # never with a beam
    prefix: tuple[int, ...] = ()  # tokens that come first, whatever the other options say
    allowed: tuple[int, ...] = ()  # the only tokens that may come, besides <E>; empty: all
    banned: tuple[int, ...] = ()  # tokens that never come
    biases: tuple[tuple[int, float], ...] = ()  # added to a token's log-probability where tokens are ranked
    lexicon: bytes = b""  # the only answers there may be, packed; empty: any
    no_repeat_ngram: int = 0  # no n tokens come twice in the same order; 0: they may
    loop_repeats: int = 0  # a short cycle this often in a row ends the answer; 0: never
    alternatives: int = 0  # how many of the best tokens of each position are returned; at most 8
    partial_on_deadline: bool = False  # at the deadline the best so far is the answer
    alignments: bool = False  # whether each token comes with what the attention looked at

    @property
    def rows(self) -> int:
        """Rows that an input holds at first; a cascade in doubt holds those of its beam later."""
        return 1 if self.cascade_margin > 0 else self.beam_size


def pack(entries: Collection[tuple[int, ...]]) -> bytes:
    """A lexicon as one value, which is cheap to hash, compare and send with each of many inputs."""
    return msgpack.encode(sorted(set(entries))) if entries else b""


def unpack(lexicon: bytes) -> list[tuple[int, ...]]:
    """The entries that were packed."""
    return _entries.decode(lexicon) if lexicon else []


_entries = msgpack.Decoder(list[tuple[int, ...]])


def forced(target: tuple[int, ...], end_id: int) -> Options:
    """Options that give no choice: the answer is `target`, then <E>; its score is what was asked for."""
    return Options(max_length=len(target) + 1, prefix=(*target, end_id))
