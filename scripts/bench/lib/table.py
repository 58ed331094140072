"""Keeps the last line of each benchmark in docs/benchmarks.jsonl and makes docs/benchmarks.md of them.

A benchmark that misses a target says in its own file which document shows the limit: "# limits: docs/NAME.md".
"""

import ast
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from scripts.bench.lib.report import NOT_INSTALLED

ROOT = Path(__file__).resolve().parents[3]
LINES = ROOT / "docs" / "benchmarks.jsonl"
TABLE = ROOT / "docs" / "benchmarks.md"
BENCHES = ROOT / "scripts" / "bench"
HEADER = """# Benchmarks

Made by `scripts/bench/run --peers`, which sets up the peers, runs every benchmark and writes this file; `scripts/bench/run text`
runs one of them. Ours and the peer run side by side in alternating rounds, with the same weights, inputs and threads. A figure
is the median of the rounds, with the lowest and the highest in brackets; `x` is ours by theirs. Times and rates of another
machine will differ, the ratios should not. Targets are for two CPU cores; where one is missed, the link leads to the profile,
what was tried and the limit. What each row was measured on is at the end.
"""
COLUMNS = """
| work | beside | measure | figure [spread] | ours / theirs | target | |
|---|---|---|---|---|---|---|
"""
# What users wait for, modality by modality, then the node's own affairs, then the router's.
ORDER: Final = (
    *("text together 20M", "text together", "text poisson", "text alone", "text llama", "text", "audio", "images"),
    *("embedding_http", "embedding", "mixed", "overhead", "eta", "jobs", "streams", "lists", "remote", "routing"),
)

Line = dict[str, Any]  # Any: JSON


def kept(lines: Sequence[Line], new: Line) -> list[Line]:
    """With the new line in the place of the one of the same benchmark."""
    return sorted([*(line for line in lines if line["bench"] != new["bench"]), new], key=_place)


def _place(line: Line) -> tuple[int, str]:
    name = str(line["bench"])
    return next((place for place, known in enumerate(ORDER) if name.startswith(known)), len(ORDER)), name


def table(lines: Sequence[Line], benches: Path = BENCHES) -> str:
    sections = [
        _section(benches / f"{name}.py", [row for line in its for row in line["rows"]])
        for name, its in itertools.groupby(sorted(lines, key=_place), _script)
    ]
    return "\n".join([HEADER, *sections, "## Circumstances\n", *map(_circumstances, lines)]) + "\n"


def _script(line: Line) -> str:
    return str(line["bench"]).split()[0]


def _section(script: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Says what is measured in the benchmark's own words."""
    code = script.read_text(encoding="utf-8") if script.exists() else '""'
    told = (ast.get_docstring(ast.parse(code)) or "").partition("\n\n")[0]
    limits = re.search(r"^# limits: docs/(.+)$", code, re.MULTILINE)
    above = [{"work": None}, *rows]
    lines = [
        _row(row, row["work"] != over["work"], limits and limits[1]) for over, row in zip(above, rows, strict=False)
    ]
    return f"## {script.stem}\n\n{told}\n{COLUMNS}" + "\n".join(lines) + "\n"


def _row(row: Mapping[str, Any], is_first: bool, limits: str | None) -> str:
    """is_first: of its work, which is not said again below."""
    missed = f"[**missed**]({limits})" if limits else "**missed**"
    sides = "" if row["ours"] is None or row["theirs"] is None else f"{row['ours']:g} / {row['theirs']:g}"
    said = {None: "", True: "reached", False: missed}[row["is_reached"]]
    cells = (row["work"] if is_first else "", row["peer"], row["measure"], _figure(row), sides, row["target"], said)
    return "| " + " | ".join(cell.replace(">= ", "≥ ").replace("<= ", "≤ ").strip() for cell in cells) + " |"


def _figure(row: Mapping[str, Any]) -> str:
    if not row["rounds"]:
        return NOT_INSTALLED
    spread = f" [{row['low']:g}, {row['high']:g}]" if row["rounds"] > 1 else ""
    return f"{row['median']:g} {row['unit']}".strip() + spread


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
