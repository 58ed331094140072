"""The text engine beside transformers' continuous batching, its generate, llama.cpp's server, and itself.

    python scripts/bench/text.py [--sizes 20M 130M] [--parts together poisson alone llama prefix bfloat16] [--rounds 2]

Random weights of real shapes, greedy answers of fixed lengths, the same on all sides, in alternating rounds. Part `llama` needs
.venv-peer-llama (scripts/bench/peers llama). What it leaves out: HTTP, gRPC, the scheduler (see jobs.py, overhead.py).
"""
# minutes: 9
# limits: docs/text-on-a-cpu.md
# peers: llama

import argparse
import random
import statistics
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from transformers.utils import logging

from scripts.bench.lib.report import Row, publish
from scripts.bench.lib.text_llama import served
from scripts.bench.lib.text_models import END, SHAPES, save, save_gguf
from scripts.bench.lib.text_ways import Chat, ContinuousBatching, Generate, Ours, Run

PEER = Path(__file__).resolve().parents[2] / ".venv-peer-llama"
PARTS = ("together", "poisson", "alone", "llama", "prefix", "bfloat16")
LARGER = ("together", "alone", "llama", "bfloat16")  # what is measured of every size; the rest of the first alone
BATCHING = "transformers' continuous batching"
PACKED = "the same with our packed linears"


@dataclass(frozen=True)
class Lengths:
    """The fewest and the most tokens."""

    prompt: tuple[int, int] = (16, 256)
    answer: tuple[int, int] = (16, 128)


LENGTHS = {"130M": Lengths((16, 128), (16, 64))}  # half as much: a round of 32 takes a minute or so


def chats_of(size: str, count: int, *, rate: float = 0.0, seed: int = 0, system: Sequence[int] = ()) -> list[Chat]:
    """Prompts behind `system`; all at once, or `rate` a second."""
    choice, at_s, chats, lengths = random.Random(1000 * seed + count), 0.0, [], LENGTHS.get(size, Lengths())
    for _ in range(count):
        prompt = [choice.randrange(END + 1, SHAPES[size].vocabulary) for _ in range(choice.randint(*lengths.prompt))]
        chats.append(Chat([*system, *prompt], choice.randint(*lengths.answer), at_s))
        at_s += choice.expovariate(rate) if rate else 0.0
    return chats


def together(folder: Path, size: str, options: argparse.Namespace) -> None:
    """All chats at once; and Poisson arrivals at half of what the peer manages then."""
    chats, work = chats_of(size, options.chats), f"text, {options.chats} at once, {size}"
    ours = Ours(folder, options.chats, options.threads)
    plain = ContinuousBatching(folder, options.chats)
    packed = ContinuousBatching(folder, options.chats, is_packed=True)
    with plain.started(), packed.started():
        warm = chats[:2]
        assert equal(ours.run(warm), plain.run(warm)) == equal(ours.run(warm), packed.run(warm)) == 1.0, (
            "answers differ"
        )
        runs = [(ours.run(chats), plain.run(chats), packed.run(chats)) for _ in range(options.rounds)]
        beside_plain, beside_packed = ([(own, each[way]) for own, *each in runs] for way in (0, 1))
        rows = compared(work, BATCHING, beside_plain, 2.5) + compared(work, PACKED, beside_packed, 2.2)
        share = min(equal(*pair) for pair in beside_plain + beside_packed)
        held = ours.engine.held_bytes() >> 20
        publish(
            f"text together {size}",
            rows,
            **settings(size, options),
            **{"equal answers": round(share, 3), "held MiB": held},
        )
        if "poisson" in options.parts:
            capacity = statistics.median(theirs.rate for _, theirs in beside_plain) / mean_tokens(chats)
            arriving = chats_of(size, options.arrivals, rate=capacity / 2)
            pairs = [(ours.run(arriving), plain.run(arriving)) for _ in range(options.rounds)]
            poisson = first_token(f"text, Poisson at half the peer's capacity, {size}", BATCHING, pairs, 0.6)
            publish(f"text poisson {size}", [poisson], **settings(size, options), rate=round(capacity / 2, 2))


def alone(folder: Path, size: str, options: argparse.Namespace) -> list[Row]:
    """One request after another, each side's turn."""
    ours, theirs = Ours(folder, 1, options.threads), Generate(folder)
    warm = chats_of(size, 1)
    assert equal(ours.run(warm), theirs.run(warm)) == 1.0, "the answers differ"
    runs = []
    for turn, chat in enumerate(chats_of(size, 4 * options.rounds)):
        first, second = (ours, theirs) if turn % 2 else (theirs, ours)
        pair = {side: side.run([chat]) for side in (first, second)}
        runs.append((pair[ours], pair[theirs]))
    return compared(f"text, a lone request, {size}", "transformers' generate", runs, 1.0)[:1]


def beside_llama(folder: Path, size: str, options: argparse.Namespace) -> tuple[list[Row], dict[str, object]]:
    work, peer = f"text, 16 at once, {size}, float32", "llama.cpp's server"
    if not (PEER / ".made").exists():
        return [Row(work=work, peer=peer, measure="tokens/s", values=[], at_least=1.0)], {}
    chats = chats_of(size, 16)
    ours = Ours(folder, 16, options.threads)
    with served(PEER, save_gguf(folder, size, PEER), 16, options.threads) as llama:
        ours.run(chats[:2]), llama.run(chats[:2])
        runs = [(ours.run(chats), llama.run(chats)) for _ in range(options.rounds)]
    rows = compared(work, peer, runs, 1.0)[:1]
    return rows, {"equal answers": round(min(equal(*pair) for pair in runs), 3)}


def with_prefix(folder: Path, size: str, options: argparse.Namespace) -> list[Row]:
    """Chats that share a system prompt of 200 tokens, beside the same engine that computes it for each."""
    chats = options.chats // 2
    ours, other = Ours(folder, chats, options.threads), Ours(folder, chats, options.threads)
    other.engine._pool.can_share = False
    system = [END + 1 + i for i in range(200)]
    rounds = [chats_of(size, chats, seed=seed, system=system) for seed in range(options.rounds)]
    runs = [(ours.run(chats), other.run(chats)) for chats in rounds]
    assert min(equal(*pair) for pair in runs) == 1.0, "the answers differ"
    work = f"text, {chats} at once behind the same 200 tokens, {size}"
    return compared(work, "itself without prefix reuse", runs, None, None)


def in_bfloat16(folder: Path, size: str, options: argparse.Namespace) -> tuple[list[Row], dict[str, object]]:
    """All chats at once, the same weights rounded to bfloat16 on both sides. Which of two nearly equal tokens is the likelier hangs
    there on who shares a step, on either side, so an answer may turn away: how many do not is told."""
    chats = chats_of(size, options.chats)
    ours = Ours(folder, options.chats, options.threads, dtype="bfloat16")
    with ContinuousBatching(folder, options.chats, dtype=torch.bfloat16).started() as theirs:
        ours.run(chats[:2]), theirs.run(chats[:2])
        runs = [(ours.run(chats), theirs.run(chats)) for _ in range(options.rounds)]
    rows = compared(f"text, {options.chats} at once in bfloat16, {size}", f"{BATCHING} in bfloat16", runs, 2.5)
    return rows, {"equal answers": round(min(equal(*pair) for pair in runs), 3)}


def compared(
    work: str, peer: str, runs: Sequence[tuple[Run, Run]], at_least: float | None, at_most: float | None = 0.5
) -> list[Row]:
    """Tokens a second, and the time to the first."""
    rates = [(ours.rate, theirs.rate) for ours, theirs in runs]
    sides = _sides(rates, [a / b for a, b in rates])
    return [
        Row(work=work, peer=peer, measure="tokens/s", at_least=at_least, **sides),
        first_token(work, peer, runs, at_most),
    ]


def first_token(work: str, peer: str, runs: Sequence[tuple[Run, Run]], at_most: float | None) -> Row:
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


def settings(size: str, options: argparse.Namespace) -> dict[str, object]:
    lengths = LENGTHS.get(size, Lengths())
    prompt, answer = ("{} to {}".format(*each) for each in (lengths.prompt, lengths.answer))
    return {"threads": options.threads, "prompt tokens": prompt, "answer tokens": answer}


def mean_tokens(chats: Sequence[Chat]) -> float:
    return statistics.mean(chat.max_tokens for chat in chats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["20M", "130M"], choices=SHAPES)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--chats", type=int, default=32)
    parser.add_argument("--arrivals", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as home:
        for size in options.sizes:
            parts = options.parts if size == options.sizes[0] else [part for part in options.parts if part in LARGER]
            measure(save(Path(home) / size, size), size, argparse.Namespace(**{**vars(options), "parts": parts}))


def measure(folder: Path, size: str, options: argparse.Namespace) -> None:
    """One line for each part that is asked for."""
    said = settings(size, options)
    if "together" in options.parts:
        together(folder, size, options)
    for part, rows_of in (("alone", alone), ("prefix", with_prefix)):
        if part in options.parts:
            publish(f"text {part} {size}", rows_of(folder, size, options), **said)
    for part, told_of in (("bfloat16", in_bfloat16), ("llama", beside_llama)):
        if part in options.parts:
            rows, facts = told_of(folder, size, options)
            publish(f"text {part} {size}", rows, **said, **facts)


if __name__ == "__main__":
    main()
