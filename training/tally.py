"""An epoch's sums over its steps, as plain data, so that a checkpoint can hold them; and its means.

Knows nothing of models or files.
"""

from typing import Any

from training.clipping import Clipped

SUMS = (
    *("loss", "tokens", "source_tokens", "seconds", "cpu_seconds"),
    *("steps", "norm_sum", "norm_max", "by_norm", "by_value", "components", "all_components"),
)
LAYER_SUMS = ("steps", "before", "after", "by_value", "components", "all_components")


def new_tally() -> dict[str, Any]:
    """Nothing counted yet."""
    return {**dict.fromkeys(SUMS, 0.0), "layers": {}}


def add_step(
    tally: dict[str, Any], loss: float, tokens: float, source_tokens: float, clipped: Clipped
) -> None:
    """Counts one step: its mean loss in nats a token, its target and source tokens, its clipping."""
    tally["loss"] += loss * tokens
    tally["tokens"] += int(tokens)
    tally["source_tokens"] += int(source_tokens)
    tally["steps"] += 1
    tally["norm_sum"] += clipped.norm
    tally["norm_max"] = max(tally["norm_max"], clipped.norm)
    tally["by_norm"] += clipped.by_norm
    tally["by_value"] += clipped.components > 0
    tally["components"] += clipped.components
    tally["all_components"] += clipped.all_components
    for name, layer in clipped.layers.items():
        sums = tally["layers"].setdefault(name, dict.fromkeys(LAYER_SUMS, 0.0))
        sums["steps"] += 1
        sums["before"] += layer.before
        sums["after"] += layer.after
        sums["by_value"] += layer.components > 0
        sums["components"] += layer.components
        sums["all_components"] += layer.all_components


def summary(tally: dict[str, Any]) -> dict[str, float]:
    """An epoch's means: loss in nats a token, target and source tokens a second, and what clipping did.

    A second of the processes' own computing, over all their threads, is what other work does not lengthen.
    Norms are the gradient's before clipping; shares, of steps and of components that were clipped.
    """
    tokens, steps = tally["tokens"] + tally["source_tokens"], tally["steps"]
    return {
        "train_loss": tally["loss"] / tally["tokens"],
        "tokens_per_second": tokens / max(tally["seconds"], 1e-9),
        "tokens_per_cpu_second": tokens / max(tally["cpu_seconds"], 1e-9),
        "gradient_norm_mean": tally["norm_sum"] / steps,
        "gradient_norm_max": tally["norm_max"],
        "steps_clipped_by_norm": tally["by_norm"] / steps,
        "steps_clipped_by_value": tally["by_value"] / steps,
        "components_clipped_by_value": tally["components"] / tally["all_components"],
    }


def by_layer(tally: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a layer: mean norms before and after both clips; shares of steps and components capped."""
    return [
        {
            "layer": name,
            "norm_before": sums["before"] / sums["steps"],
            "norm_after": sums["after"] / sums["steps"],
            "steps_clipped_by_value": sums["by_value"] / sums["steps"],
            "components_clipped_by_value": sums["components"] / sums["all_components"],
        }
        for name, sums in tally["layers"].items()
    ]
