"""The run on paper: results.json with every figure, RESULTS.md with those that matter.

Knows the keys of figures, and nothing of how they are measured. A row whose figures are missing is left out.
"""

import json
from pathlib import Path

from bench.tables import NEEDED, NOTES, TABLES, Row

Figures = dict[str, float]


def write(folder: Path, page: str, about: dict[str, str], figures: Figures) -> None:
    """Writes both files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RESULTS.md").write_text(page, encoding="utf-8")
    rounded = {key: value if isinstance(value, int) else round(value, 4) for key, value in figures.items()}
    text = json.dumps({**about, **rounded}, indent=2, sort_keys=True)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")


def results_page(command: str, about: dict[str, str], figures: Figures) -> str:
    """The figures as a page of Markdown."""
    lines = ["# What it costs", "", f"    {command}", ""]
    lines += [f"- {name}: {value}" for name, value in about.items()]
    for title, left, right, rows in TABLES:
        shown = [row for row in rows if {row.key, *({row.against} & NEEDED)} <= figures.keys()]
        lines += _table(title, left, right, shown, figures)
    lines += _offline(figures)
    lines += [
        "",
        "## Was it right",
        "",
        f"Wrong answers: **{figures['wrong_answers']:,}** of {figures['answers_compared']:,} words compared. "
        f"Failed calls: **{figures['failed_calls']:,}**.",
        f"Other processes took {figures['others_cpu_percent']:.1f} % of the machine meanwhile (below 0: the "
        "system counts in ticks, and counted too few); "
        f"the run took {figures['run_seconds']:.0f} s.",
        "",
    ]
    return "\n".join(lines) + "\n" + NOTES


def _table(title: str, left: str, right: str, rows: list[Row], figures: Figures) -> list[str]:
    if not rows:
        return []
    lines = ["", f"## {title}", "", f"| | {left} | {right} | ratio |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        value, against = figures[row.key], figures.get(row.against)
        cells = ("", "") if against is None else (_number(against), _number(value / against))
        lines.append(f"| {row.label} | {cells[0]} | {_number(value)} | {cells[1]} |")
    return lines


def _offline(figures: Figures) -> list[str]:
    """Words, steps and floors for each profile and number of rows; and the loop that others would write."""
    points = [key.removeprefix("offline.words_s.") for key in figures if key.startswith("offline.words_s.")]
    if not points:
        return []
    lines = ["", "## Without a server, one thread", ""]
    lines += ["| profile | rows | words/s | a step, µs | its matrix products, µs | ratio |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for point in points:
        profile, _, rows = point.partition(".")
        words = figures[f"offline.words_s.{point}"]
        step, floor = figures[f"engine.step_us.{point}"], figures[f"floor.step_us.{point}"]
        cells = (profile, rows, *map(_number, (words, step, floor, step / floor)))
        lines.append(f"| {' | '.join(cells)} |")
    batches = sorted(int(key.rpartition(".")[2]) for key in figures if key.startswith("dynamic.words_s."))
    for batch in batches:
        rate = _number(figures[f"dynamic.words_s.{batch}"])
        lines.append(f"| dynamic int8, plain loop | {batch} | {rate} | | | |")
    if "dynamic.words_s" in figures:
        best = max(figures[f"offline.words_s.{point}"] for point in points)
        ratio = _number(best / figures["dynamic.words_s"])
        lines += ["", f"Chairlift's best over the plain loop's best: **{ratio}**."]
    return lines


def _number(value: float) -> str:
    """Three significant digits, or all of those before the point; counts as they are."""
    if value >= 100 or isinstance(value, int):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
