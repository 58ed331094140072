"""llama.cpp's server with the same weights, as one more way to answer many chats (text_ways.py)."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from scripts.bench.lib.text_models import CONTEXT
from scripts.bench.lib.text_ways import Chat, Run

READY_S = 60.0


class Llama:
    """A running server. Its answers travel over HTTP on this machine, one request a chat: some milliseconds in all."""

    def __init__(self, url: str, chats: int) -> None:
        self._client = httpx.Client(base_url=url, timeout=600, limits=httpx.Limits(max_connections=chats))
        self._threads = ThreadPoolExecutor(chats)

    def run(self, chats: Sequence[Chat]) -> Run:
        started = time.perf_counter()
        answers = list(self._threads.map(self._answer, chats))
        return Run(answers, [0.0] * len(chats), time.perf_counter() - started)

    def _answer(self, chat: Chat) -> Sequence[int]:
        wishes = {"n_predict": chat.max_tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        answer = self._client.post("/completion", json={"prompt": list(chat.prompt), "return_tokens": True, **wishes})
        return answer.raise_for_status().json()["tokens"]

    def is_ready(self) -> bool:
        try:
            return self._client.get("/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._threads.shutdown()
        self._client.close()


@contextlib.contextmanager
def served(peer: Path, model: Path, chats: int, threads: int) -> Iterator[Llama]:
    """As many slots as chats, keys and values in float32 as ours, continuous batching on as by default."""
    port = _free_port()
    arguments = {
        "--model": model, "--port": port, "--parallel": chats, "--ctx-size": chats * CONTEXT, "--threads": threads,
        "--threads-batch": threads, "--cache-type-k": "f32", "--cache-type-v": "f32", "--batch-size": 512,
    }  # fmt: skip
    command = [str(peer / "bin" / "llama-server"), *(str(part) for pair in arguments.items() for part in pair)]
    with (model.parent / "llama-server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    llama = Llama(f"http://127.0.0.1:{port}", chats)
    try:
        ends = time.monotonic() + READY_S
        while not llama.is_ready():
            if process.poll() is not None or time.monotonic() > ends:
                raise SystemExit(f"llama-server did not start: see {log.name}")
            time.sleep(0.1)
        yield llama
    finally:
        llama.close()
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
