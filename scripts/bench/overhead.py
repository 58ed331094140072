"""What the scheduler costs beside what the engines compute: the bare engine loop, the device loop, and the whole service.

    scripts/bench/run overhead

The bare loop admits what fits and steps, on one thread, with nothing else. Beside it the device loop (rooms, turns, blame,
reports) and the node's service (asyncio, permits, ledger, the CPU pool), all with the models that ship, on one engine each,
alternating in one process. Every call into the engine is timed on its thread's processor clock; what the process or the loop's
thread computed beyond that is the scheduler. So neither other work on the machine nor the length of a step counts.
"""
# minutes: 2
# limits: docs/service-overhead.md

import argparse
import asyncio
import logging
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from node.catalog import read_catalog
from node.daemon import Daemon
from node.engine import DeviceSpec, Done, Engine, LoadEngine, ModelSpec
from node.engines import loader
from node.scheduler.loop import DeviceLoop
from node.scheduler.messages import Attach, Detach, Ended, Report, Stop, Submit
from node.settings import NodeSettings
from protos.types import EmbeddingRequest, ImageRequest, Modality, Task, TaskId, TaskRequest, TextRequest
from scripts.bench.lib.report import Row, publish

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("the sky", "a cat", "3 plus 4", "the sea", "music", "bread", "a train", "winter")


def _text(number: int) -> TaskRequest:
    return TextRequest(prompt=f"What is {number % 9} plus {number % 7}?", max_tokens=24, temperature=0.0)


def _embedding(number: int) -> TaskRequest:
    return EmbeddingRequest(texts=[" ".join(WORDS[(number + n) % 8] for n in range(4 + number % 30))])


def _image(number: int) -> TaskRequest:
    return ImageRequest(prompt="a red circle", steps=4, seed=number, guidance_scale=1.0)


REQUESTS: Mapping[Modality, tuple[Callable[[int], TaskRequest], int]] = {
    Modality.TEXT: (_text, 64),
    Modality.EMBEDDING: (_embedding, 256),
    Modality.IMAGE: (_image, 24),
}


def tasks_of(spec: ModelSpec, count: int, turn: str) -> list[Task]:
    make, _ = REQUESTS[spec.modality]
    return [Task(id=TaskId(f"{turn}-{number}"), request=make(number), model=spec.id) for number in range(count)]


class Timed:
    """See node/engine.py: `inner`, with the processor seconds of its calls counted."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self.spent_s: list[float] = []  # appended to by any thread

    def __getattr__(self, name: str) -> Any:  # Any: whatever the engine has
        found = getattr(self._inner, name)
        if name not in ("prepare", "admit", "step", "finish", "cancel"):
            return found

        def timed(*arguments: object) -> object:
            began = time.thread_time()
            try:
                return found(*arguments)
            finally:
                self.spent_s.append(time.thread_time() - began)

        return timed

    def taken_s(self) -> float:
        """Since it was asked last."""
        spent, self.spent_s = self.spent_s, []
        return sum(spent)


# ---- the three ways: each returns the processor seconds of all, and those of the engine ----


def bare(engine: Timed, tasks: Sequence[Task]) -> tuple[float, float]:
    """No scheduler at all."""
    waiting, done = deque(engine.prepare(task) for task in tasks), list[Done]()
    engine.taken_s()
    began = time.thread_time()
    while waiting or engine.seated:
        while waiting and engine.admit(waiting[0]):
            waiting.popleft()
        done += [event for _, event in engine.step(None).events if isinstance(event, Done)]
    return time.thread_time() - began, engine.taken_s()


def looped(engine: Timed, tasks: Sequence[Task]) -> tuple[float, float]:
    """The device loop on its thread, whose processor clock counts."""
    prepared, ends = [engine.prepare(task) for task in tasks], list[Ended]()
    taken_s, is_over, is_free = list[float](), threading.Event(), threading.Event()
    engine.taken_s()

    def hear(reports: Sequence[Report]) -> None:
        ends.extend(report for report in reports if isinstance(report, Ended))
        if len(ends) == len(prepared):
            is_over.set()

    def run() -> None:
        began = time.thread_time()
        loop.run()
        taken_s.append(time.thread_time() - began)

    loop = DeviceLoop(hear, 0.05)
    loop.send(Attach(engine, 1.0))
    for each in prepared:
        loop.send(Submit(engine.model, each))
    thread = threading.Thread(target=run)
    thread.start()
    is_over.wait()
    loop.send(Detach(engine.model, is_free.set))
    loop.send(Stop())
    thread.join()
    return taken_s[0], engine.taken_s()


async def served(engine: Timed, daemon: Daemon, tasks: Sequence[Task]) -> tuple[float, float]:
    """All that a node does but gRPC: all threads count."""

    async def one(task: Task) -> None:
        async for _ in daemon.service.execute(task):
            pass

    engine.taken_s()
    began = time.process_time()
    await asyncio.gather(*(one(task) for task in tasks))
    return time.process_time() - began, engine.taken_s()


# ---- rounds ----


@dataclass
class Added:
    """What was computed beyond the engine's calls, by round."""

    percent: list[float] = field(default_factory=list)  # of the engine's
    request_ms: list[float] = field(default_factory=list)

    def add(self, whole_s: float, engine_s: float, count: int) -> None:
        self.percent.append((whole_s - engine_s) / engine_s * 100)
        self.request_ms.append((whole_s - engine_s) / count * 1000)


async def measured(spec: ModelSpec, rounds: int, folder: Path) -> tuple[Added, Added, Added]:
    """Of the bare loop, the device loop and the service."""
    count = REQUESTS[spec.modality][1]
    engine = Timed(loader(spec.engine)(spec, DeviceSpec("cpu", threads=1)))
    engine.warm_up()

    def same(_: str) -> LoadEngine:
        return lambda _spec, _device: engine

    ways = Added(), Added(), Added()
    settings = NodeSettings(
        listen="127.0.0.1:0", device="cpu", threads=1, models_path=folder / "models.toml", data_dir=folder
    )
    async with Daemon(settings, same) as daemon:
        await daemon.service.load(spec.id)
        for number in range(rounds + 1):
            found = (
                bare(engine, tasks_of(spec, count, f"a{number}")),
                looped(engine, tasks_of(spec, count, f"b{number}")),
                await served(engine, daemon, tasks_of(spec, count, f"c{number}")),
            )
            if number:  # the first was for the caches
                for way, (whole_s, engine_s) in zip(ways, found, strict=True):
                    way.add(whole_s, engine_s, count)
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", type=Path, default=ROOT / "models.toml")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    rows: list[Row] = []
    for spec in read_catalog(options.models):
        if spec.modality not in REQUESTS:
            continue  # speech is stepped beside the loop: its calls take longer than all that the loop does
        with tempfile.TemporaryDirectory() as folder:
            entry = f'[[model]]\nid = "{spec.id}"\nengine = "{spec.engine}"\npath = "{spec.path}"\nseats = {spec.seats}\nkeep_alive = "forever"\n'
            Path(folder, "models.toml").write_text(entry)
            bare_loop, loop, service = uvloop.run(measured(spec, options.rounds, Path(folder)))  # as a node does
        work = f"{spec.modality}, {REQUESTS[spec.modality][1]} tasks of {spec.id}"
        more = [ours - theirs for ours, theirs in zip(loop.percent, bare_loop.percent, strict=True)]
        rows += [
            Row(
                work=work,
                peer="the bare engine loop",
                measure="device loop adds to device time",
                values=more,
                unit="%",
                at_most=3.0,
            ),
            Row(
                work=work, peer="", measure="device loop, CPU a request", values=loop.request_ms, unit="ms", at_most=0.5
            ),
            Row(
                work=work,
                peer="",
                measure="service and loop, CPU a request",
                values=service.request_ms,
                unit="ms",
                at_most=0.5,
            ),
        ]
    publish("overhead", rows)


if __name__ == "__main__":
    main()
