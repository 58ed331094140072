"""How long pictures take when requests of 4, 20 and 40 steps arrive at random: one forward for all, against one at a time.

    python scripts/bench/images.py [--requests 40] [--load 0.9] [--model models/fabric-image]

Without a trained model it makes a random one of the same shape: its pictures mean nothing and take as long. Time is
counted in CPU seconds of one thread, and an idle server jumps to the next arrival, so a busy machine changes little.
What it leaves out: HTTP, gRPC, the scheduler.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from node.engine import DeviceSpec, Done, ModelSpec
from node.engines.diffusion.engine import DiffusionEngine, load
from protos.types import ImageRequest, Modality, ModelId, Task, TaskId
from scripts.bench.lib.report import report
from scripts.models.image.save import save_random

ROOT = Path(__file__).resolve().parents[2]
STEPS = (4, 20, 40)
GUIDANCE_SCALE = 3.0


@dataclass(frozen=True, slots=True)
class Arrival:
    at_s: float
    steps: int
    seed: int


class Clock:
    """CPU seconds of what ran, and jumps over idle time."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def run(self, work: Callable[[], Any]) -> Any:  # Any: whatever the work returns
        started = time.process_time()
        result = work()
        self.now_s += time.process_time() - started
        return result


def one_at_a_time(pipeline: StableDiffusionPipeline, arrivals: Sequence[Arrival]) -> list[float]:
    """The stock pipeline in the order of arrival -> the wait of each."""
    clock, waits_s = Clock(), []
    for arrival in arrivals:
        clock.now_s = max(clock.now_s, arrival.at_s)
        clock.run(lambda: draw(pipeline, arrival.steps, arrival.seed))  # noqa: B023 - called at once
        waits_s.append(clock.now_s - arrival.at_s)
    return waits_s


def draw(pipeline: StableDiffusionPipeline, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pipeline("a red circle", num_inference_steps=steps, guidance_scale=GUIDANCE_SCALE, generator=generator)


def all_together(engine: DiffusionEngine, arrivals: Sequence[Arrival]) -> list[float]:
    """Our engine, stepped as the device loop would -> the wait of each."""
    clock, waits_s, coming = Clock(), dict[str, float](), list(enumerate(arrivals))
    while coming or engine.seated:
        if not engine.seated:
            clock.now_s = max(clock.now_s, coming[0][1].at_s)
        while coming and coming[0][1].at_s <= clock.now_s and engine.seated < engine.seats:
            number, arrival = coming.pop(0)
            clock.run(lambda: engine.admit(engine.prepare(task_of(number, arrival))))  # noqa: B023 - called at once
        step = clock.run(lambda: engine.step(None))
        for task_id, event in step.events:
            if isinstance(event, Done):
                clock.run(lambda: engine.finish(event.raw))  # noqa: B023 - called at once
                waits_s[task_id] = clock.now_s - arrivals[int(task_id)].at_s
    return [waits_s[str(number)] for number in range(len(arrivals))]


def task_of(number: int, arrival: Arrival) -> Task:
    request = ImageRequest(prompt="a red circle", steps=arrival.steps, seed=arrival.seed, guidance_scale=GUIDANCE_SCALE)
    return Task(id=TaskId(str(number)), request=request)


def arrive(count: int, mean_gap_s: float) -> list[Arrival]:
    random = np.random.default_rng(0)
    times = np.cumsum(random.exponential(mean_gap_s, count))
    return [Arrival(float(at_s), int(random.choice(STEPS)), seed) for seed, at_s in enumerate(times)]


def figures(arrivals: Sequence[Arrival], waits_s: Sequence[float]) -> dict[str, float]:
    short = [wait for arrival, wait in zip(arrivals, waits_s, strict=True) if arrival.steps == STEPS[0]]
    return {"mean": mean(waits_s), "p95": quantiles(waits_s, n=20)[-1], f"mean of {STEPS[0]} steps": mean(short)}


def measure(folder: Path, requests: int, load_share: float) -> dict[str, dict[str, float]]:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    draw(pipeline, STEPS[0], 0)
    clock = Clock()
    for steps in STEPS:
        clock.run(lambda: draw(pipeline, steps, 0))  # noqa: B023 - called at once
    arrivals = arrive(requests, clock.now_s / len(STEPS) / load_share)
    spec = ModelSpec(id=ModelId("bench"), engine="diffusion", modality=Modality.IMAGE, path=str(folder))
    engine = load(spec, DeviceSpec("cpu", 0, 1))
    engine.warm_up()
    return {
        "stock pipeline, one at a time": figures(arrivals, one_at_a_time(pipeline, arrivals)),
        "own engine, one forward for all": figures(arrivals, all_together(engine, arrivals)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--load", type=float, default=0.9, help="of what the stock pipeline can do")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "fabric-image")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        is_trained = (options.model / "model_index.json").exists()
        if not is_trained:
            save_random(Path(folder))
        found = measure(options.model if is_trained else Path(folder), options.requests, options.load)
    ours, stock = found["own engine, one forward for all"], found["stock pipeline, one at a time"]
    for way, waits_s in found.items():
        print(f"{way:32}" + "".join(f"  {name} {wait_s:.2f} s" for name, wait_s in waits_s.items()))
    report(
        "images",
        {way: 1 / waits_s["mean"] for way, waits_s in found.items()},
        "waits",
        {f"wait, stock / own, {name}": stock[name] / ours[name] for name in ours},
        waits_s=found,
        requests=options.requests,
        load_share=options.load,
        is_trained=is_trained,
    )


if __name__ == "__main__":
    main()
