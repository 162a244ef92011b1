"""How to decode, as the clients' keyword arguments. Knows nothing of connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from chairlift.v1 import seq2seq_pb2 as pb

SAMPLING = ("seed", "temperature", "top_k", "top_p")
NOT_ZERO = ("temperature", "top_p")  # on the wire, 0 is the default, which is 1
NOT_EMPTY = ("lexicon", "allowed_tokens")  # on the wire, none is any
MANY = ("lexicon", "allowed_tokens", "banned_tokens")


class Decoding(TypedDict, total=False):
    """Options of `generate` and `stream`; what is left out keeps its default, which is plain greedy decoding.

    Their ranges are those of `DecodingOptions` in seq2seq.proto. Tokens are spelled as `Client.model` lists
    them; texts are target texts: words with spaces between them, or characters, as the model has it.
    """

    max_length: int
    """Most tokens of an answer. Default: the model's own limit."""
    min_length: int
    """Fewest tokens of an answer."""
    beam_size: int
    """Hypotheses that are followed side by side."""
    n_best: int
    """Most hypotheses in the answer."""
    length_penalty: float
    """A beam ranks by score / length**length_penalty."""
    cascade: bool
    """The model's own cascade: greedy, and a beam only where greedy was in doubt. Says `Model.cascade`."""
    cascade_margin: float
    """Greedy, and the beam only where two tokens came closer than this in log-probability."""
    sample: bool
    """Draws tokens instead of taking the best; so do the next four, which need not be given."""
    seed: int
    """The same seed draws the same answer."""
    temperature: float
    top_k: int
    top_p: float
    prefix: str
    """Text that the answer begins with."""
    allowed_tokens: Sequence[str]
    """The only tokens that may come."""
    banned_tokens: Sequence[str]
    """Tokens that never come."""
    biases: Mapping[str, float]
    """What is added to the log-probability of tokens."""
    lexicon: Sequence[str]
    """The only answers there may be."""
    no_repeat_ngram: int
    """No so many tokens come twice in the same order."""
    loop_repeats: int
    """Ends an answer whose last tokens came so often in a row."""
    alternatives: int
    """How many of the best tokens of each position come with a hypothesis."""
    log_probabilities: bool
    """Whether the log-probability of each token comes with a hypothesis."""
    alignments: bool
    """Whether each token comes with what it was looked for in the source; for models with attention."""
    partial_on_deadline: bool
    """Whether the best so far is the answer when time is up, instead of an error."""


def message(options: Decoding) -> pb.DecodingOptions:
    """The wire's message. Raises TypeError for an option that there is not, or a value of the wrong type.

    Raises ValueError for values that contradict each other, or that the wire cannot hold.
    """
    if unknown := options.keys() - Decoding.__annotations__.keys():
        raise TypeError(f"no such option: {', '.join(sorted(unknown))}")
    for name in MANY:
        if isinstance(options.get(name), str):
            raise TypeError(f"{name}: one text; a list of texts is wanted")
    for name in NOT_EMPTY:
        if name in options and not options[name]:  # type: ignore[literal-required]
            raise ValueError(f"{name}: empty, so that nothing may come; leave it out where anything may")
    for name in NOT_ZERO:
        if options.get(name) == 0:
            raise ValueError(f"{name}: 0; more is wanted, and greedy decoding where there is no sampling")
    fields = dict(options)
    sampling = {name: fields.pop(name) for name in SAMPLING if name in fields}
    if sampling and options.get("sample") is False:
        raise ValueError(f"sample: False, with {', '.join(sampling)}")
    if fields.pop("sample", False) or sampling:
        fields["sampling"] = sampling
    if "biases" in options:
        if not isinstance(options["biases"], Mapping):
            raise TypeError("biases: a mapping of tokens to numbers is wanted")
        fields["biases"] = [{"token": token, "bias": bias} for token, bias in options["biases"].items()]
    return pb.DecodingOptions(**fields)  # type: ignore[arg-type]
