"""What `bench.cells` found, as a page and a picture beside it. Measures nothing."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from bench import machine

TEXT = """# Cells and attention, side by side

One small recipe (embedding 64, 128 hidden units, one layer, encoder both ways, 3 epochs of batches of 128,
one thread), trained once for each row with the same seed, the same data and the same number of steps. So
short a training ranks how fast each learns, not what each can reach.

`dev WER`: the lowest of the epochs', greedy. `tokens/s`: source and target tokens learnt from in a second of
processor time, in the fastest epoch; on a machine with much else to do even that is rough. `step`:
microseconds of one decoder step in the service's engine, one thread, by profile and rows: the lowest median
of several rounds over all networks.
"""


class Row(Protocol):
    """One network and what was found of it."""

    name: str
    figures: dict[str, float]
    steps: dict[tuple[str, int], float]
    notes: list[str]


def write(page: Path, cells: Sequence[Row], views: Sequence[Row], arguments: Sequence[str]) -> None:
    """Writes the page, and its picture under the same name with .png."""
    picture = page.with_suffix(".png")
    page.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(_picture([*cells, *views[1:]]))
    about = machine.describe()
    parts = [
        TEXT,
        _table("cell", cells),
        f"With `{cells[0].name}`, by what the decoder sees of the source:",
        _table("sees", views),
        _notes([*cells, *views[1:]]),
        f"![Error, training speed and step time of each row]({picture.name})",
        f"Made by `{command_line(arguments)}`. {about['CPU']}; {about['system']}; {about['versions']}; "
        f"load {about['load before']} at the end; {about['date']}.",
    ]
    page.write_text("\n\n".join(part.strip() for part in parts if part.strip()) + "\n", encoding="utf-8")


def command_line(arguments: Sequence[str]) -> str:
    """The command; of a path with folders its last part alone."""
    shown = [re.sub(r"^.*/(?=.)", "", word) for word in arguments]
    return shlex.join(["python", "-m", "bench.cells", *shown])


def _table(first: str, rows: Sequence[Row]) -> str:
    steps = list(dict.fromkeys(key for row in rows for key in row.steps))
    head = [first, "weights", "dev WER", "tokens/s", *(f"step {profile}, {n}" for profile, n in steps)]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for row in rows:
        lines.append(
            [
                f"`{row.name}`" if first == "cell" else row.name,
                _number(row.figures.get("parameters")),
                _number(row.figures.get("dev_wer"), " %", 2),
                _number(row.figures.get("training_tokens_s")),
                *(_number(row.steps.get(key)) for key in steps),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, unit: str = "", digits: int = 0) -> str:
    return "failed" if value is None else f"{value:,.{digits}f}{unit}"


def _notes(rows: Sequence[Row]) -> str:
    """What the manifests and the failures say: each text once, with the rows that it is true of."""
    names: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            names.setdefault(re.sub(r"\S*/(?=\S)", "", note), []).append(row.name)
    return "\n".join(f"- {', '.join(of)}: {note}" for note, of in names.items())


def _picture(rows: Sequence[Row]) -> bytes:
    """Bars of each figure, the first row on top, as PNG."""
    import io

    from matplotlib.figure import Figure

    panels: list[tuple[str, Any]] = [
        ("dev WER, percent", lambda row: row.figures.get("dev_wer", 0.0)),
        ("training, thousand tokens/s", lambda row: row.figures.get("training_tokens_s", 0.0) / 1e3),
    ]
    for profile, n in dict.fromkeys(key for row in rows for key in row.steps if key[1] > 1):
        panels.append(
            (f"step of {n} rows, {profile}, us", lambda row, key=(profile, n): row.steps.get(key, 0.0))
        )
    figure = Figure(figsize=(3.4 * len(panels), 3.6), layout="constrained")
    for number, (axes, (title, of)) in enumerate(zip(figure.subplots(1, len(panels)), panels, strict=True)):
        bars = axes.barh([row.name for row in rows], [of(row) for row in rows], color="#4878a8")
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        if number:
            axes.set_yticklabels([])
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()
