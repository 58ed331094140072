"""What a benchmark prints: a table for people, then one line of JSON. docs/benchmarks.md is made of those lines."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[3]
NOT_INSTALLED = "peer not installed"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: what was done, beside which peer, and what a round gave.

    `values` are ratios, ours by theirs, one for each alternating round; or, with another unit, the figure itself. None: the
    peer is not installed.
    """

    work: str  # "text, 32 at once, 20M parameters"
    peer: str  # "transformers' continuous batching"; "" where there is none
    measure: str  # "tokens/s", "TTFT p95"
    values: Sequence[float]
    unit: str = "x"
    at_least: float | None = None  # what to reach; at most one of the two
    at_most: float | None = None
    ours: float | None = None  # the medians of both sides, in the measure's own unit, for people
    theirs: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def is_reached(self) -> bool | None:
        """None: there is no target, or nothing to hold to it."""
        if not self.values:
            return None
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g} {self.unit}"
        return "" if self.at_most is None else f"<= {self.at_most:g} {self.unit}"

    def as_json(self) -> dict[str, object]:
        return {
            "work": self.work,
            "peer": self.peer,
            "measure": self.measure,
            "unit": self.unit,
            "median": _short(self.median) if self.values else None,
            "low": _short(min(self.values)) if self.values else None,
            "high": _short(max(self.values)) if self.values else None,
            "rounds": len(self.values),
            "target": self.target,
            "is_reached": self.is_reached,
            "ours": None if self.ours is None else _short(self.ours),
            "theirs": None if self.theirs is None else _short(self.theirs),
        }


def publish(bench: str, rows: Sequence[Row], **facts: object) -> None:
    """Prints the rows and then the line that the table of all benchmarks is made of. `facts`: sizes, settings, checks."""
    for row in rows:
        said = {None: "", True: "reached", False: "MISSED"}[row.is_reached]
        sides = "" if row.ours is None or row.theirs is None else f"  ({_short(row.ours)} against {_short(row.theirs)})"
        print(f"{row.work}; {row.peer}; {row.measure}:{_spread(row)}{sides}  {row.target} {said}".rstrip())
    print(json.dumps({"bench": bench, "rows": [row.as_json() for row in rows], "facts": facts, **circumstances()}))


def _spread(row: Row) -> str:
    if not row.values:
        return f" {NOT_INSTALLED}"
    return f"{row.median:8.3g} {row.unit}  [{min(row.values):.3g}, {max(row.values):.3g}]"


def circumstances() -> dict[str, object]:
    """The machine, how busy it is, and what runs."""
    return {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 1),
        "stolen": _stolen(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "transformers")},
        "commit": _commit(),
        "day": time.strftime("%Y-%m-%d"),
    }


_BEGAN = psutil.cpu_times()


def _stolen() -> float:
    """The part of the processors' time, since this process began, that a virtual machine's host gave to others. Where it is
    not told: 0."""
    now = psutil.cpu_times()
    passed = sum(now) - sum(_BEGAN)
    return round((getattr(now, "steal", 0.0) - getattr(_BEGAN, "steal", 0.0)) / passed, 3) if passed else 0.0


def _short(figure: float) -> float:
    """Four digits, which is more than any of them is worth."""
    return float(f"{figure:.4g}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
