"""What a benchmark of an engine prints: a table for people, then one line of JSON."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parents[3]


def report(bench: str, rates: Mapping[str, float], unit: str, ratios: Mapping[str, float], **facts: object) -> None:
    """rates: `unit` per second by way of running; ratios: the ones that a reader should compare between machines."""
    width = max(map(len, (*rates, *ratios)))
    for name, rate in rates.items():
        print(f"{name:{width}}  {rate:9.1f} {unit}/s")
    for name, ratio in ratios.items():
        print(f"{name:{width}}  {ratio:9.2f} x")
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": round(os.getloadavg()[0], 1)}
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    figures = {
        "rates": {name: round(rate, 2) for name, rate in rates.items()},
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }
    print(json.dumps({"bench": bench, "unit": unit, **figures, **facts, **machine, **versions, "commit": _commit()}))


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
