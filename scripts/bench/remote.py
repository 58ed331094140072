"""A streamed remote answer through the router, against the vendor's stand-in alone, and against LiteLLM's proxy.

    python scripts/bench/remote.py [--calls 200] [--at-once 8] [--words 64] [--litellm PATH]

All before the same stand-in of OpenAI's API, over its own wire: /v1/chat/completions with stream. `first`: until the first
word, `whole`: until the end, one call at a time, taken in turns so that a busy machine slows all alike. `per_s`: calls a
second, so many at once, of a vendor that writes as fast as the stand-in can: more than any model does. `paced`: words a
second of as many streams of a vendor that writes 150 a second in each. PATH: the `litellm` of an environment with
litellm[proxy]. Prints a table for people, then one line of JSON with what the router and LiteLLM add to the stand-in alone.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
READY_S: Final = 240.0  # LiteLLM imports for a minute on a busy machine
FLAT_OUT: Final = "gpt-4o-mini"  # as fast as the stand-in can
PACED: Final = "gpt-4o"  # 150 words a second
_WORD: Final = re.compile(rb'"content": ?"w')
_LITELLM: Final = """
model_list:
  - model_name: gpt-4o-mini
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{url}", api_key: sk-standin}}
  - model_name: gpt-4o
    litellm_params: {{model: openai/gpt-4o, api_base: "{url}", api_key: sk-standin}}
"""


class Target:
    """One door of OpenAI's wire. Connections are kept where the other side keeps them."""

    def __init__(self, port: int, words: int) -> None:
        self._port = port
        self._requests = {model: self._request(model, words) for model in (FLAT_OUT, PACED)}
        self._kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def _request(self, model: str, words: int) -> bytes:
        message = {"role": "user", "content": " ".join(["w"] * words)}
        body = json.dumps(
            {
                "model": model,
                "messages": [message],
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_tokens": words,
            }
        ).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        return f"{head}Content-Type: application/json\r\nAuthorization: Bearer sk-standin\r\n\r\n".encode() + body

    async def call(self, model: str) -> tuple[float, float]:
        """Seconds until the first word and until the end."""
        kept = await self._connection()
        began = time.perf_counter()
        kept[1].write(self._requests[model])
        got, first = b"", 0.0
        while not got.endswith(b"0\r\n\r\n"):
            piece = await kept[0].read(1 << 16)
            if not piece:
                break
            got += piece
            if not first and _WORD.search(got):
                first = time.perf_counter() - began
        whole = time.perf_counter() - began
        assert got.startswith(b"HTTP/1.1 200"), got[:2000]
        assert b"[DONE]" in got, got[-2000:]
        if got.endswith(b"0\r\n\r\n"):
            self._kept.append(kept)
        else:
            kept[1].close()
        return first, whole

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._kept:
            kept = self._kept.pop()
            if not kept[0].at_eof():  # servers close what was idle for some seconds
                return kept
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def is_up(self) -> bool:
        try:
            await self.call(FLAT_OUT)
        except (OSError, AssertionError):
            return False
        return True


async def measured(targets: Mapping[str, Target], calls: int, at_once: int, words: int) -> dict[str, dict[str, float]]:
    for target in targets.values():
        await _until_up(target)
    single: dict[str, list[tuple[float, float]]] = {name: [] for name in targets}
    for number in range(calls + 10):
        for name, target in targets.items():
            took = await target.call(FLAT_OUT)
            if number >= 10:  # the first pay for what is made once
                single[name].append(took)
    rates: dict[str, list[float]] = {name: [] for name in targets}
    paced: dict[str, list[float]] = {name: [] for name in targets}
    for _ in range(3):
        for name, target in targets.items():
            rates[name].append(await _rate(target, FLAT_OUT, calls, at_once))
            paced[name].append(await _rate(target, PACED, 4 * at_once, at_once) * words)
    return {
        name: {
            "first_p50_ms": _ms(first for first, _ in single[name]),
            "whole_p50_ms": _ms(whole for _, whole in single[name]),
            "per_s": round(statistics.median(rates[name]), 1),
            "paced_words_per_s": round(statistics.median(paced[name]), 1),
        }
        for name in targets
    }


async def _until_up(target: Target) -> None:
    async with asyncio.timeout(READY_S):
        while not await target.is_up():  # noqa: ASYNC110 - another process has nothing else to wait on
            await asyncio.sleep(0.2)


async def _rate(target: Target, model: str, calls: int, at_once: int) -> float:
    todo = iter(range(calls))

    async def work() -> None:
        for _ in todo:
            await target.call(model)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return calls / (time.perf_counter() - began)


def _ms(seconds: Iterator[float]) -> float:
    return round(statistics.median(seconds) * 1000, 2)


def added(figures: Mapping[str, Mapping[str, float]], name: str) -> dict[str, float]:
    """What one of them adds to the stand-in alone."""
    own, alone = figures[name], figures["alone"]
    return {
        "first_ms": round(own["first_p50_ms"] - alone["first_p50_ms"], 2),
        "whole_ms": round(own["whole_p50_ms"] - alone["whole_p50_ms"], 2),
        "per_s_ratio": round(own["per_s"] / alone["per_s"], 3),
        "paced_ratio": round(own["paced_words_per_s"] / alone["paced_words_per_s"], 3),
    }


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


def _commit() -> str:
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--words", type=int, default=64)
    parser.add_argument("--litellm", default="", help="the program, where the comparison is wanted")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, doors(Path(name), options.litellm) as ports:
        targets = {door: Target(port, options.words) for door, port in ports.items()}
        figures = asyncio.run(measured(targets, options.calls, options.at_once, options.words))
    for door, row in figures.items():
        shown = f"first {row['first_p50_ms']:>8} ms  whole {row['whole_p50_ms']:>8} ms  {row['per_s']:>8}/s"
        print(f"{door:8} {shown}  paced {row['paced_words_per_s']:>8} words/s")
    extra = {f"{door}_adds": added(figures, door) for door in figures if door != "alone"}
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": round(os.getloadavg()[0], 1)}
    asked = {"calls": options.calls, "at_once": options.at_once, "words": options.words}
    print(json.dumps({"bench": "remote", **asked, **figures, **extra, **machine, "commit": _commit()}))


if __name__ == "__main__":
    main()
