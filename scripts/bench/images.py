"""How long pictures take when requests of 4, 20 and 40 steps arrive at random, beside the stock pipeline used in two ways.

    python scripts/bench/images.py [--requests 300] [--seeds 5] [--load 0.95] [--rounds 2] [--model models/fabric-image]

First each way is measured, in alternating rounds: a call of the stock pipeline for 1 to 8 requests of 4, 20 and 40 steps; a step
of the engine for 1 to 16 pictures. Then the same arrivals are replayed at those times: the pipeline one request at a time, the
pipeline for up to 8 waiting requests of as many steps at once, and the engine with its own rules of turns and batches,
which run for real. All that it does beside its forwards counts as it runs: reading requests, turns, PNG files (a node does the
first and the last on other cores, and the stock pipeline makes no files); so minutes of arrivals are a matter of seconds.
At last some of the arrivals are drawn for real by the engine: `check` is what they took beside what the replay of them said,
at the costs measured before and at those of that very drawing: the first also differs where the machine was busier meanwhile.
Without a trained model a random one of the same shape is made: its pictures mean nothing and take as long.
What it leaves out: HTTP, gRPC, the device loop.
"""
# minutes: 5

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import mean, median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from diffusers import StableDiffusionPipeline

from node.engine import DeviceSpec, Done, ModelSpec
from node.engines.diffusion.drawing import Desk
from node.engines.diffusion.engine import DiffusionEngine
from node.engines.diffusion.family import Family, load_family
from node.engines.diffusion.forwards import Forwards
from node.engines.diffusion.parts import read_usual
from protos.types import Modality, ModelId
from scripts.bench.lib import image_costs
from scripts.bench.lib.image_costs import Clock, Costs, Meter, Metered, Replayed, measure_own, measure_stock, task_of
from scripts.bench.lib.report import Row, publish
from scripts.models.image.save import save_random

ROOT = Path(__file__).resolve().parents[2]
STEPS = (4, 20, 40)
STATIC_BATCH = 8
SEATS = 16
OWN_STEPS = 8  # of each measured batch of the engine; a step costs the same whichever it is
OWN, ONE, STATIC = "own", "the diffusers pipeline one at a time", "the same in static batches of up to 8"
CHECKED = 60  # requests that are drawn for real at the end


@dataclass(frozen=True, slots=True)
class Arrival:
    at_s: float
    steps: int


def arrive(count: int, mean_gap_s: float, seed: int) -> list[Arrival]:
    random, at_s, arrivals = Random(seed), 0.0, list[Arrival]()
    for _ in range(count):
        at_s += random.expovariate(1 / mean_gap_s)
        arrivals.append(Arrival(at_s, random.choice(STEPS)))
    return arrivals


# ---- the ways: each returns the wait of every arrival, from it to its picture ----


def stock(arrivals: Sequence[Arrival], costs: Costs, random: Random, most: int) -> list[float]:
    """The oldest that waits, with up to `most` - 1 others that wait and have as many steps: a call shares its steps."""
    now_s, waiting, waits_s = 0.0, list(range(len(arrivals))), [0.0] * len(arrivals)
    while waiting:
        now_s = max(now_s, arrivals[waiting[0]].at_s)
        steps = arrivals[waiting[0]].steps
        alike = [each for each in waiting if arrivals[each].at_s <= now_s and arrivals[each].steps == steps][:most]
        now_s += random.choice(costs[steps, len(alike)])
        for each in alike:
            waiting.remove(each)
            waits_s[each] = now_s - arrivals[each].at_s
    return waits_s


def own(arrivals: Sequence[Arrival], engine: DiffusionEngine, clock: Clock, meter: Meter) -> list[float]:
    """The engine, stepped as the device loop would. What it does beside its forwards is measured and added."""
    coming, waits_s = list(enumerate(arrivals)), [0.0] * len(arrivals)

    def timed(work: Callable[[], Any]) -> Any:  # Any: whatever the work returns
        result = meter.run("beside", work)
        clock.now_s += meter.costs["beside"][-1]
        return result

    while coming or engine.seated:
        if not engine.seated:
            clock.now_s = max(clock.now_s, coming[0][1].at_s)
        while coming and coming[0][1].at_s <= clock.now_s and engine.seated < engine.seats:
            number, arrival = coming.pop(0)
            timed(lambda: engine.admit(engine.prepare(task_of(number, arrival.steps))))  # noqa: B023 - called at once
        step = timed(lambda: engine.step(None))
        for task_id, event in step.events:
            if isinstance(event, Done):
                timed(lambda: engine.finish(event.raw))  # noqa: B023 - called at once
                waits_s[int(task_id)] = clock.now_s - arrivals[int(task_id)].at_s
    return waits_s


# ---- the bench ----


@dataclass(frozen=True, slots=True)
class Waits:
    mean_s: float
    p95_s: float
    few_s: float  # mean of those of the fewest steps

    @classmethod
    def of(cls, arrivals: Sequence[Arrival], waits_s: Sequence[float]) -> "Waits":
        few = [wait for arrival, wait in zip(arrivals, waits_s, strict=True) if arrival.steps == min(STEPS)]
        return cls(mean(waits_s), quantiles(waits_s, n=20)[-1], mean(few))


@dataclass(frozen=True, slots=True)
class Bench:
    """The model, loaded once for both ways."""

    spec: ModelSpec
    family: Family
    pipeline: StableDiffusionPipeline

    @classmethod
    def of(cls, folder: Path) -> "Bench":
        spec = ModelSpec(
            id=ModelId("bench"), engine="diffusion", modality=Modality.IMAGE, path=str(folder), seats=SEATS
        )
        pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        return cls(spec, load_family(spec, DeviceSpec("cpu", 0, 1)), pipeline)

    def engine(self, forwards: Forwards | None = None, **policy: Any) -> DiffusionEngine:  # Any: a clock, a row cap
        desk = Desk(self.family, read_usual(self.spec))
        return DiffusionEngine(self.spec, self.family, desk, forwards or Forwards(self.family), **policy)

    def measured(self, rounds: int) -> tuple[Costs, Costs]:
        """Of the stock pipeline, and of the engine."""
        engine = self.engine(row_cap=lambda _costs, _quantum_s, ceiling: ceiling)  # all share, whether it pays or not
        theirs, ours = Meter(), Meter()
        measure_stock(Meter(), self.pipeline, min(STEPS), 1)  # what is made only once
        measure_own(Meter(), engine, 1, min(STEPS))
        for _ in range(rounds):
            for pictures in range(1, SEATS + 1):
                measure_own(ours, engine, pictures, OWN_STEPS)
                for steps in STEPS if pictures <= STATIC_BATCH else ():
                    measure_stock(theirs, self.pipeline, steps, pictures)
        return theirs.costs, ours.costs

    def replayed(self, arrivals: Sequence[Arrival], costs: Costs, seed: int) -> list[float]:
        clock = Clock()
        engine = self.engine(Replayed(self.family, costs, clock, Random(seed)), clock=clock)
        engine.warm_up()
        clock.now_s = 0.0
        return own(arrivals, engine, clock, Meter())

    def checked(self, arrivals: Sequence[Arrival], costs: Costs) -> dict[str, float]:
        meter = Meter()
        engine = self.engine(Metered(self.family, meter))
        engine.warm_up()
        meter.costs.clear()
        ways = {
            "drawn_mean_s": own(arrivals, engine, Clock(), Meter()),
            "replayed_mean_s": self.replayed(arrivals, costs, 0),
            "replayed_at_its_costs_mean_s": self.replayed(arrivals, costs | meter.costs, 0),
        }
        return {way: round(mean(waits_s), 4) for way, waits_s in ways.items()}


def rows_of(options: argparse.Namespace, waits: Mapping[str, Sequence[Waits]]) -> list[Row]:
    work = f"images of {', '.join(map(str, STEPS))} steps, Poisson at {options.load:g} of the one-at-a-time capacity"
    kinds: Sequence[tuple[str, str, float | None, Callable[[Waits], float]]] = (
        (ONE, "p95 latency", 0.35, lambda each: each.p95_s),
        (STATIC, "p95 latency", 0.75, lambda each: each.p95_s),
        (ONE, f"mean of {min(STEPS)} steps", 0.2, lambda each: each.few_s),
        (STATIC, f"mean of {min(STEPS)} steps", None, lambda each: each.few_s),
        (ONE, "mean latency", None, lambda each: each.mean_s),
        (STATIC, "mean latency", None, lambda each: each.mean_s),
    )
    return [
        Row(
            work=work,
            peer=peer,
            measure=measure,
            values=[figure(our) / figure(their) for our, their in zip(waits[OWN], waits[peer], strict=True)],
            at_most=at_most,
            ours=median(map(figure, waits[OWN])),
            theirs=median(map(figure, waits[peer])),
        )
        for peer, measure, at_most, figure in kinds
    ]


def bench(folder: Path, options: argparse.Namespace, facts: Mapping[str, object]) -> None:
    bench = Bench.of(folder)
    theirs, ours = bench.measured(options.rounds)
    mean_call_s = mean(mean(theirs[steps, 1]) for steps in STEPS)
    waits: dict[str, list[Waits]] = {OWN: [], ONE: [], STATIC: []}
    for seed in range(options.seeds):
        arrivals = arrive(options.requests, mean_call_s / options.load, seed)
        for way, waits_s in (
            (OWN, bench.replayed(arrivals, ours, seed)),
            (ONE, stock(arrivals, theirs, Random(seed), 1)),
            (STATIC, stock(arrivals, theirs, Random(seed), STATIC_BATCH)),
        ):
            waits[way].append(Waits.of(arrivals, waits_s))
    publish(
        "images",
        rows_of(options, waits),
        requests=options.requests,
        seeds=options.seeds,
        step_ms=image_costs.curve(ours, (1, 2, 4, 8, 16)),
        stock_20_steps_ms={count: round(1000 * median(theirs[20, count])) for count in (1, 2, 4, 8)},
        check=bench.checked(arrive(CHECKED, mean_call_s / options.load, 0), ours),
        **facts,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--load", type=float, default=0.95, help="of what the stock pipeline can do one at a time")
    parser.add_argument("--rounds", type=int, default=2, help="of measuring")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "fabric-image")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        is_trained = (options.model / "model_index.json").exists()
        if not is_trained:
            save_random(Path(folder))
        model = options.model if is_trained else Path(folder)
        bench(model, options, {"model": options.model.name, "is_trained": is_trained})


if __name__ == "__main__":
    main()
