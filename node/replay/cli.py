"""The `replay` command: a recorded trace against the real policy in virtual time. router/cli.py mounts it in `fabric-node`.

Not about what is played (plan.py, run.py).
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from node.replay.plan import Added, Changes
from node.replay.reading import read_trace
from node.replay.report import Report, Waits
from protos.errors import InputInvalid

_UNITS: Final[Mapping[str, int]] = {
    "": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "ki": 1 << 10,
    "mi": 1 << 20,
    "gi": 1 << 30,
}
_BYTES: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ki|mi|gi|k|m|g|)b?", re.IGNORECASE)


def replay(
    trace: Annotated[Path, typer.Argument(help="What a node recorded with FABRIC_NODE_TRACE=file.")],
    *,
    with_model: Annotated[
        list[str] | None,
        typer.Option(
            help="One more model: NAME, or NAME,like=MODEL and so on with bytes=8GiB, rate=2, weight=1, load_s=20. "
            "Again for another."
        ),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="That models may use, such as 24GiB; by default as recorded.")
    ] = None,
    weight: Annotated[list[str] | None, typer.Option(help="MODEL=WEIGHT: another share of the device.")] = None,
    seed: Annotated[int, typer.Option(help="Of the times at which an added model is asked.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
) -> None:
    """Replay a recorded trace in virtual time: would one more model fit, and what would the waits be?"""
    from node.replay.compare import compared  # noqa: PLC0415 - gRPC takes a moment to import; --help should not

    logging.getLogger("node").setLevel(logging.ERROR)  # what the played node says of its models is no news
    changes = Changes(
        added=tuple(_added(text) for text in with_model or ()),
        capacity_bytes=_bytes("--memory", memory) if memory is not None else None,
        weights=dict(_weight(text) for text in weight or ()),
        seed=seed,
    )
    report = compared(read_trace(trace), changes)
    typer.echo(json.dumps(report.json) if as_json else table(report))


# ---- what was given ----


def _added(text: str) -> Added:
    name, *options = (part.strip() for part in text.split(","))
    given: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in ("like", "bytes", "rate", "weight", "load_s"):
            raise InputInvalid.at("--with-model", f"has {option!r}: give like=, bytes=, rate=, weight= or load_s=")
        given[key] = value
    if not name or "=" in name:
        raise InputInvalid.at("--with-model", f"is {text!r}: begin with the name of the new model")
    return Added(
        model=name,
        like=given.get("like"),
        peak_bytes=_bytes("--with-model", given["bytes"]) if "bytes" in given else None,
        per_s=_number("rate", given),
        weight=_number("weight", given),
        load_s=_number("load_s", given),
    )


def _number(key: str, given: Mapping[str, str]) -> float | None:
    if key not in given:
        return None
    return _positive("--with-model", f"{key}={given[key]}", given[key])


def _weight(text: str) -> tuple[str, float]:
    model, equals, value = text.rpartition("=")
    if not equals or not model:
        raise InputInvalid.at("--weight", f"is {text!r}: give MODEL=WEIGHT, such as chat=2")
    return model, _positive("--weight", text, value)


def _positive(option: str, shown: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InputInvalid.at(option, f"has {shown!r}: give a number above 0")
    return value


def _bytes(option: str, text: str) -> int:
    found = _BYTES.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise InputInvalid.at(option, f"has {text!r} for bytes: give a size such as 24GiB, 800MB or 1500000")
    return int(float(found[1]) * _UNITS[found[2].lower()])


# ---- what is shown ----


def table(report: Report) -> str:
    """For people: a line a model, waits as p50 / p95 / longest."""
    head = (
        "model",
        "requests",
        "waited (recorded)",
        "waits (replayed)",
        "without changes",
        "device",
        "loads",
        "evicted",
        "ended badly",
    )
    rows: list[Sequence[str]] = [head]
    for model in report.models:
        bad = ", ".join(f"{count} {code}" for code, count in model.refusals.items())
        waits = [_shown(each) for each in (model.recorded, model.replayed, model.before)]
        rows.append(
            (
                model.model,
                str(model.requests),
                *waits,
                f"{model.device_share:.1%}",
                str(model.loads),
                str(model.evictions),
                bad or "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(
        [
            *lines,
            "",
            f"waits: p50 / p95 / longest, in seconds, until a seat; {report.lasted_s:.0f} s were played",
            report.verdict,
        ]
    )


def _shown(waits: Waits | None) -> str:
    return f"{waits.p50_s:.2f} / {waits.p95_s:.2f} / {waits.max_s:.2f}" if waits is not None else "-"
