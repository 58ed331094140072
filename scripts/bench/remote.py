"""A streamed remote answer through the router, against the vendor's stand-in alone, and against LiteLLM's proxy.

    python scripts/bench/remote.py [--rounds 3] [--calls 60] [--at-once 8] [--words 64] [--paced-words 256] [--litellm PATH]

All before the same stand-in of OpenAI's API, over its own wire: /v1/chat/completions with stream. Each round has three parts:
so many calls one after another, in turns so that a busy machine slows all alike, of which the median until the first word
counts; as many, so many at once, of a vendor that writes as fast as the stand-in can, which is more than any model does; and
words a second of longer answers, from the request to the last word, of a vendor that writes 150 a second in each. PATH: the
command of LiteLLM's proxy, by default that of .venv-peer-litellm (scripts/bench/peers litellm); "" leaves it out. None of them
asks for a key; the router alone writes what each call may cost beside it and what it did cost after it, to the disk. With
--budget-usd it holds the callers to a budget of a month: then a call waits until what it may cost is written.
"""
# minutes: 4
# peers: litellm

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from protos.types import DEFAULT_ORGANIZATION
from scripts.bench.lib.report import Row, publish
from scripts.bench.lib.streamed import FLAT_OUT, PACED, Target

ROOT: Final = Path(__file__).resolve().parents[2]
LITELLM: Final = ROOT / ".venv-peer-litellm" / "bin" / "litellm"
READY_S: Final = 240.0  # LiteLLM imports for a minute on a busy machine
_LITELLM: Final = """
model_list:
  - model_name: gpt-4o-mini
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{url}", api_key: sk-standin}}
  - model_name: gpt-4o
    litellm_params: {{model: openai/gpt-4o, api_base: "{url}", api_key: sk-standin}}
"""


@dataclass(frozen=True, slots=True)
class Round:
    """What one target did in one round."""

    first_ms: float  # median, one call at a time
    per_s: float
    paced_words_per_s: float


Figures = Mapping[str, Sequence[Round]]  # by target


async def measured(
    targets: Mapping[str, Target], rounds: int, *, calls: int, at_once: int, paced_words: int, budget_usd: float | None
) -> Figures:
    paced = {name: Target(target.port, paced_words) for name, target in targets.items()}
    for target in targets.values():
        await _until_up(target)
    if budget_usd is not None:
        await asyncio.to_thread(_limit, targets["router"].port, budget_usd)
    for target in targets.values():
        await _rate(target, FLAT_OUT, 2 * at_once, at_once)  # the first pay for what is made once
    found: dict[str, list[Round]] = {name: [] for name in targets}
    for _ in range(rounds):
        first_s: dict[str, list[float]] = {name: [] for name in targets}
        for _ in range(calls):
            for name, target in targets.items():
                first_s[name].append((await target.call(FLAT_OUT))[0])
        for name, target in targets.items():
            per_s = await _rate(target, FLAT_OUT, calls, at_once)
            paced_per_s = await _rate(paced[name], PACED, 2 * at_once, at_once) * paced_words
            found[name].append(Round(statistics.median(first_s[name]) * 1000, per_s, paced_per_s))
    return found


async def _until_up(target: Target) -> None:
    async with asyncio.timeout(READY_S):
        while not await target.is_up():  # noqa: ASYNC110 - another process has nothing else to wait on
            await asyncio.sleep(0.2)


def _limit(port: int, budget_usd: float) -> None:
    url = f"http://127.0.0.1:{port}/v1/organizations/{DEFAULT_ORGANIZATION}/budget"
    body, headers = json.dumps({"monthly_limit_usd": budget_usd}).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PUT")) as answer:
        assert answer.status == 200


async def _rate(target: Target, model: str, calls: int, at_once: int) -> float:
    todo = iter(range(calls))

    async def work() -> None:
        for _ in todo:
            await target.call(model)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return calls / (time.perf_counter() - began)


# ---- rows ----

WORK: Final = "a streamed answer of a vendor through the router"


def rows_of(found: Figures) -> list[Row]:
    alone, added_ms = "the vendor's stand-in alone", _added_ms(found, "router")
    rows = [
        Row(
            work=WORK,
            peer=alone,
            measure="added until the first word",
            values=added_ms,
            unit="ms",
            at_most=5,
            ours=statistics.median(each.first_ms for each in found["router"]),
            theirs=statistics.median(each.first_ms for each in found["alone"]),
        ),
        _row(alone, "words/s, 150 a second in each", *_both(found, "alone", "paced_words_per_s"), at_least=0.97),
        _row(alone, "requests/s", *_both(found, "alone", "per_s")),
    ]
    peer, first = "LiteLLM's proxy", "ms added until the first word"
    if "litellm" not in found:
        return [*rows, _not_installed(peer, "requests/s", at_least=3), _not_installed(peer, first, at_most=0.3)]
    theirs_ms = _added_ms(found, "litellm")
    return [
        *rows,
        _row(peer, "requests/s", *_both(found, "litellm", "per_s"), at_least=3),
        _row(peer, first, added_ms, theirs_ms, at_most=0.3),
    ]


def _not_installed(peer: str, measure: str, *, at_least: float | None = None, at_most: float | None = None) -> Row:
    return Row(work=WORK, peer=peer, measure=measure, values=[], at_least=at_least, at_most=at_most)


def _added_ms(found: Figures, name: str) -> list[float]:
    return [own.first_ms - alone.first_ms for own, alone in zip(found[name], found["alone"], strict=True)]


def _both(found: Figures, other: str, field: str) -> tuple[list[float], list[float]]:
    ours, theirs = ([float(getattr(each, field)) for each in found[name]] for name in ("router", other))
    return ours, theirs


def _row(
    peer: str,
    measure: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    return Row(
        work=WORK,
        peer=peer,
        measure=measure,
        values=[mine / their for mine, their in zip(ours, theirs, strict=True)],
        ours=statistics.median(ours),
        theirs=statistics.median(theirs),
        at_least=at_least,
        at_most=at_most,
    )


# ---- processes ----


@contextmanager
def doors(folder: Path, litellm: str) -> Iterator[dict[str, int]]:
    """The ports of the stand-in, the router and, where there is one, LiteLLM."""
    ports = {name: _free_port() for name in ("alone", "router", *(("litellm",) if litellm else ()))}
    url = f"http://127.0.0.1:{ports['alone']}/v1"
    (folder / "litellm.yaml").write_text(_LITELLM.format(url=url))
    router = ["-m", "router.cli", "route", "--port", str(ports["router"]), "--grpc-port", str(_free_port())]
    commands = {
        "alone": [sys.executable, str(ROOT / "scripts/bench/lib/standin.py"), str(ports["alone"])],
        "router": [sys.executable, *router, "--data", str(folder / "data")],
    }
    if litellm:
        options = ["--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(ports["litellm"])]
        commands["litellm"] = [litellm, *options]
    environ = {
        **os.environ,
        "FABRIC_NODES": "",
        "OPENAI_API_KEY": "sk-standin",
        "OPENAI_BASE_URL": url,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # as our router on loopback: no keys
    }
    running = [_start(command, environ, folder / f"{name}.log") for name, command in commands.items()]
    try:
        yield ports
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def _start(command: Sequence[str], environ: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--words", type=int, default=64, help="of an answer")
    parser.add_argument("--paced-words", type=int, default=256, help="of an answer of the vendor with a pace")
    parser.add_argument("--budget-usd", type=float, help="of a month; by default nobody is limited")
    parser.add_argument("--litellm", default=str(LITELLM), help="its command; where there is none, without it")
    options = parser.parse_args()
    if not Path(options.litellm).exists():
        options.litellm = ""
    with tempfile.TemporaryDirectory() as name, doors(Path(name), options.litellm) as ports:
        targets = {door: Target(port, options.words) for door, port in ports.items()}
        asked = {name: getattr(options, name) for name in ("calls", "at_once", "paced_words", "budget_usd")}
        found = asyncio.run(measured(targets, options.rounds, **asked))
    asked["words"] = options.words
    publish("remote", rows_of(found), **asked)


if __name__ == "__main__":
    main()
