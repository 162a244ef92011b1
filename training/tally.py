"""An epoch's sums over its steps, as plain data, so that a checkpoint can hold them; and its means.

Knows nothing of models or files.
"""

from typing import Any

from training.clipping import Clipped, ClipTally


def new_tally() -> dict[str, Any]:
    """Nothing counted yet."""
    sums = {"loss": 0.0, "tokens": 0, "source_tokens": 0, "seconds": 0.0, "cpu_seconds": 0.0}
    return {**sums, **ClipTally.new()}


def add_step(
    tally: dict[str, Any], loss: float, tokens: float, source_tokens: float, clipped: Clipped
) -> None:
    """Counts one step: its mean loss in nats a token, its target and source tokens, its clipping."""
    tally["loss"] += loss * tokens
    tally["tokens"] += int(tokens)
    tally["source_tokens"] += int(source_tokens)
    ClipTally.add(tally, clipped)


def summary(tally: dict[str, Any]) -> dict[str, float]:
    """An epoch's means: loss in nats a token, target and source tokens a second, clip shares.

    A second of the processes' own computing, over all their threads, is what other work does not lengthen.
    """
    tokens = tally["tokens"] + tally["source_tokens"]
    return {
        "train_loss": tally["loss"] / tally["tokens"],
        "tokens_per_second": tokens / max(tally["seconds"], 1e-9),
        "tokens_per_cpu_second": tokens / max(tally["cpu_seconds"], 1e-9),
        **ClipTally.summary(tally),
    }
