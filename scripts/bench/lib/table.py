"""Keeps the last line of each benchmark in docs/benchmarks.jsonl and makes docs/benchmarks.md of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.bench.lib.report import NOT_INSTALLED

ROOT = Path(__file__).resolve().parents[3]
LINES = ROOT / "docs" / "benchmarks.jsonl"
TABLE = ROOT / "docs" / "benchmarks.md"
HEADER = """# Benchmarks

Made by `scripts/bench/run --peers`, which sets up the peers, runs every benchmark and writes this file; `scripts/bench/run text`
runs one of them. Ours and the peer run side by side in alternating rounds, with the same weights, inputs and threads. A figure
is the median of the rounds, with the lowest and the highest in brackets; `x` is ours by theirs. Times and rates of another
machine will differ, the ratios should not. Targets are for two CPU cores. What each row was measured on is below.

| work | beside | measure | figure [spread] | ours / theirs | target | |
|---|---|---|---|---|---|---|
"""

Line = dict[str, Any]  # Any: JSON


def kept(lines: Sequence[Line], new: Line) -> list[Line]:
    """With the new line in the place of the one of the same benchmark."""
    return sorted(
        [*(line for line in lines if line["bench"] != new["bench"]), new], key=lambda line: str(line["bench"])
    )


def table(lines: Sequence[Line]) -> str:
    rows = [_row(row) for line in lines for row in line["rows"]]
    return HEADER + "\n".join(rows) + "\n\n## Circumstances\n\n" + "\n".join(map(_circumstances, lines)) + "\n"


def _row(row: Mapping[str, Any]) -> str:
    figure = f"{row['median']:g} {row['unit']} [{row['low']:g}, {row['high']:g}]" if row["rounds"] else NOT_INSTALLED
    sides = "" if row["ours"] is None or row["theirs"] is None else f"{row['ours']:g} / {row['theirs']:g}"
    said = {None: "", True: "reached", False: "**missed**"}[row["is_reached"]]
    cells = (row["work"], row["peer"], row["measure"], figure, sides, row["target"], said)
    return "| " + " | ".join(cell.replace(">= ", "≥ ").replace("<= ", "≤ ") for cell in cells) + " |"


def _circumstances(line: Mapping[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in line["facts"].items())
    versions = ", ".join(f"{name} {line[name]}" for name in ("python", "torch", "transformers") if line[name])
    machine = f"{line['cpus']} x {line['processor'] or line['machine']}, load {line['load']:g}"
    if "stolen" in line:
        machine += f", {line['stolen']:.0%} of their time given to other guests"
    where = f"{machine}; {versions}; commit {line['commit']}, {line.get('day', 'an earlier day')}"
    return f"- `scripts/bench/run {line['bench'].split()[0]}` ({line['bench']}): {where}" + (
        f"; {facts}" if facts else ""
    )


def keep(said: str, lines_at: Path = LINES, table_at: Path = TABLE) -> None:
    """said: one line of JSON, as report.publish prints it."""
    lines = [json.loads(line) for line in lines_at.read_text().splitlines()] if lines_at.exists() else []
    lines = kept(lines, json.loads(said))
    lines_at.parent.mkdir(exist_ok=True)
    lines_at.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table_at.write_text(table(lines))
