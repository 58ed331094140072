"""The text engine beside transformers' continuous batching, its generate, and llama.cpp's server.

    python scripts/bench/text.py [--sizes 20M 130M] [--parts together poisson alone llama] [--threads 1] [--rounds 3]

Random weights of real shapes, greedy answers of fixed lengths, the same on all sides, in alternating rounds. Part `llama` needs
.venv-peer-llama (scripts/bench/peers llama). What it leaves out: HTTP, gRPC, the scheduler (see jobs.py, overhead.py).
"""
# peers: llama

import argparse
import random
import statistics
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from transformers.utils import logging

from scripts.bench.lib.report import Row, publish
from scripts.bench.lib.text_llama import served
from scripts.bench.lib.text_models import END, SHAPES, save, save_gguf
from scripts.bench.lib.text_ways import Chat, ContinuousBatching, Generate, Ours, Run

PEER = Path(__file__).resolve().parents[2] / ".venv-peer-llama"
PARTS = ("together", "poisson", "alone", "llama")
BATCHING = "transformers' continuous batching"
PACKED = "the same with our packed linears"


def chats_of(size: str, count: int, rate: float = 0.0) -> list[Chat]:
    """Prompts of 16 to 256 tokens, answers of 16 to 128; all at once, or `rate` a second."""
    choice, at_s, chats = random.Random(count), 0.0, []
    for _ in range(count):
        prompt = [choice.randrange(END + 1, SHAPES[size].vocabulary) for _ in range(choice.randint(16, 256))]
        chats.append(Chat(prompt, choice.randint(16, 128), at_s))
        at_s += choice.expovariate(rate) if rate else 0.0
    return chats


def together(folder: Path, size: str, options: argparse.Namespace) -> tuple[list[Row], dict[str, object]]:
    """All chats at once; and Poisson arrivals at half of what the peer manages then."""
    chats = chats_of(size, options.chats)
    ours = Ours(folder, options.chats, options.threads)
    rows: list[Row] = []
    share = 0.0
    for peer, is_packed in ((BATCHING, False), (PACKED, True)):
        with ContinuousBatching(folder, options.chats, is_packed=is_packed).started() as batching:
            warm = chats[:2]
            assert equal(ours.run(warm), batching.run(warm)) == 1.0, "the answers differ"
            runs = [(ours.run(chats), batching.run(chats)) for _ in range(options.rounds)]
            share = min(equal(*pair) for pair in runs)
            rows += compared(f"text, {options.chats} at once, {size}", peer, runs, 2.2 if is_packed else 2.5)
            if not is_packed and "poisson" in options.parts and size == options.sizes[0]:
                capacity = statistics.median(theirs.rate for _, theirs in runs) / mean_tokens(chats)
                arriving = chats_of(size, options.arrivals, capacity / 2)
                pairs = [(ours.run(arriving), batching.run(arriving)) for _ in range(2)]
                rows.append(first_token(f"text, Poisson at half its capacity, {size}", peer, pairs, 0.6))
    return rows, {"equal answers": round(share, 3), "held MiB": ours.engine.held_bytes() >> 20}


def alone(folder: Path, size: str, options: argparse.Namespace) -> list[Row]:
    """One request after another, each side's turn."""
    ours, theirs = Ours(folder, 1, options.threads), Generate(folder)
    warm = chats_of(size, 1)
    assert equal(ours.run(warm), theirs.run(warm)) == 1.0, "the answers differ"
    runs = [(ours.run([chat]), theirs.run([chat])) for chat in chats_of(size, 2 * options.rounds)]
    return compared(f"text, a lone request, {size}", "transformers' generate", runs, 1.0)[:1]


def beside_llama(folder: Path, size: str, options: argparse.Namespace) -> tuple[list[Row], dict[str, object]]:
    chats = chats_of(size, 16)
    ours = Ours(folder, 16, options.threads)
    with served(PEER, save_gguf(folder, size, PEER), 16, options.threads) as llama:
        ours.run(chats[:2]), llama.run(chats[:2])
        runs = [(ours.run(chats), llama.run(chats)) for _ in range(options.rounds)]
    rows = compared(f"text, 16 at once, {size}, float32", "llama.cpp's server", runs, 1.0)[:1]
    return rows, {"equal answers": round(min(equal(*pair) for pair in runs), 3)}


def compared(work: str, peer: str, runs: Sequence[tuple[Run, Run]], at_least: float) -> list[Row]:
    rates = [(ours.rate, theirs.rate) for ours, theirs in runs]
    speed = Row(
        work=work, peer=peer, measure="tokens/s", at_least=at_least, **_sides(rates, [a / b for a, b in rates])
    )  # fmt: skip
    return [speed, first_token(work, peer, runs, 0.5)]


def first_token(work: str, peer: str, runs: Sequence[tuple[Run, Run]], at_most: float) -> Row:
    firsts = [(ours.first_p95_s, theirs.first_p95_s) for ours, theirs in runs]
    ratios = [a / b if b else 0.0 for a, b in firsts]
    return Row(work=work, peer=peer, measure="TTFT p95, s", at_most=at_most, **_sides(firsts, ratios))


def _sides(pairs: Sequence[tuple[float, float]], ratios: Sequence[float]) -> dict[str, object]:
    medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
    return {"values": ratios, "ours": medians[0], "theirs": medians[1]}


def equal(ours: Run, theirs: Run) -> float:
    """The share of chats with the same answer, token by token."""
    same = [list(a) == list(b) for a, b in zip(ours.answers, theirs.answers, strict=True)]
    return sum(same) / len(same)


def mean_tokens(chats: Sequence[Chat]) -> float:
    return statistics.mean(chat.max_tokens for chat in chats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["20M", "130M"], choices=SHAPES)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--chats", type=int, default=32)
    parser.add_argument("--arrivals", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as home:
        for size in options.sizes:
            measure(save(Path(home) / size, size), size, options)


def measure(folder: Path, size: str, options: argparse.Namespace) -> None:
    """One line for each part that is asked for."""
    threads = {"threads": options.threads}
    if "together" in options.parts:
        rows, facts = together(folder, size, options)
        publish(f"text together {size}", rows, **threads, **facts)
    if "alone" in options.parts:
        publish(f"text alone {size}", alone(folder, size, options), **threads)
    if "llama" in options.parts:
        rows, facts = beside_llama(folder, size, options)
        publish(f"text llama {size}", rows, **threads, **facts)


if __name__ == "__main__":
    main()
