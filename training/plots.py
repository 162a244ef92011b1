"""Pictures of a run, as PNG bytes. Knows nothing of files; the figures need no screen."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.calibration import Group

Row = dict[str, Any]


def draw_training(history: Sequence[Row]) -> bytes:
    """Loss, dev errors, gradient norms and clip shares over the epochs."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    epochs = [row["epoch"] for row in history]
    panels = (
        ("Training loss, nats a token", ("train_loss",)),
        ("Dev error, percent", ("dev_wer", "dev_per")),
        ("Gradient norm before clipping", ("gradient_norm_mean", "gradient_norm_max")),
        ("Share of clipped steps", ("steps_clipped_by_norm", "steps_clipped_by_value")),
    )
    for axes, (title, names) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name in names:
            axes.plot(epochs, [row[name] for row in history], label=name.replace("_", " "))
        _finish(axes, title)
    return _png(figure)


def draw_layers(rows: Sequence[Row]) -> bytes:
    """Each layer's gradient norm before and after clipping, and what was capped of it, over the epochs."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    panels = (
        ("Gradient norm before clipping", "norm_before"),
        ("Gradient norm after both clips", "norm_after"),
        ("Share of steps with a capped component", "steps_clipped_by_value"),
        ("Share of components capped", "components_clipped_by_value"),
    )
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    for axes, (title, name) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for number, layer in enumerate(layers):
            mine = [row for row in rows if row["layer"] == layer]
            line = "-" if number < 10 else "--"  # colours come round after ten
            axes.plot([row["epoch"] for row in mine], [row[name] for row in mine], line, label=layer)
        if name.startswith("norm"):
            axes.set_yscale("log")
        _finish(axes, title)
    return _png(figure)


def draw_gradients(rows: Sequence[Row]) -> bytes:
    """Norms of gradients over the lag, a line a cell; a column for each scale of the recurrent weights."""
    scales = list(dict.fromkeys(row["recurrent_scale"] for row in rows))
    panels = (("from_h", "|dh_t / dh_1|"), ("from_c", "|dh_t / dc_1|"), ("loss", "|dL / dh_t|"))
    figure = Figure(figsize=(4.4 * len(scales), 11), layout="constrained")
    grid = figure.subplots(len(panels), len(scales), sharex=True, sharey="row", squeeze=False)
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    for axes_row, (name, title) in zip(grid, panels, strict=True):
        for axes, scale in zip(axes_row, scales, strict=True):
            for number, cell in enumerate(cells):
                mine = [row for row in rows if (row["cell"], row["recurrent_scale"]) == (cell, scale)]
                if any(row[name] == row[name] for row in mine):  # nan: the cell has none
                    axes.plot(
                        [row["lag"] for row in mine], [row[name] for row in mine], f"C{number}", label=cell
                    )
            axes.set_yscale("log")
            axes.set_ylim(1e-12, 1e6)
            of = "trained" if scale == "trained" else f"recurrent weights x {scale}"
            _finish(axes, f"{title}, {of}", "steps back")
    return _png(figure)


def draw_reliability(groups: Sequence[Group], title: str) -> bytes:
    """Accuracy over confidence, a point a group; a true confidence lies on the diagonal."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "--", color="0.6", label="true")
    x, y = [group.confidence for group in groups], [group.accuracy for group in groups]
    axes.plot(x, y, "o-", label=f"{len(groups)} groups")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", ylabel="share that is right")
    _finish(axes, title, "confidence")
    return _png(figure)


def _finish(axes: Axes, title: str, x: str = "epoch") -> None:
    axes.set(xlabel=x)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6)


def _png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()
