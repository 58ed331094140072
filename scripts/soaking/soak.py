"""A node under mixed load for minutes: every request is answered exactly once, and neither memory nor seats leak.

    scripts/soak [--minutes 10] [--models models.toml] [--faults]

Starts a node in this process and asks every modality that the models serve of it over gRPC, with bad requests, cancels
and callers that go away. With --faults every engine's steps throw now and then, and some requests make each step throw that
they sit in: they fail alone, and the others are answered. Prints a table for people, then one line of JSON; ends with 1 and the reasons when it failed.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from node.catalog import read_catalog
from node.daemon import Daemon
from node.engine import ModelSpec
from node.engines import loader as engine_loader
from node.settings import NodeSettings
from protos import codec
from protos.errors import FabricError
from protos.fabric.node.v1 import node_pb2 as pb
from protos.fabric.node.v1 import node_pb2_grpc
from protos.grpc_status import from_rpc_error
from protos.types import Finished, Modality, ModelId, Task, TaskId
from scripts.soaking.faulty import POISON, Throws, faulty_loader
from scripts.soaking.mix import Plan, next_plan
from scripts.soaking.tally import Answer, Tally, judged, memory_now

CALLERS: Final = {Modality.TEXT: 4, Modality.EMBEDDING: 4, Modality.IMAGE: 3, Modality.AUDIO: 2}  # at once, a model
ANSWER_S: Final = 300.0  # a request that has no end by then is lost
REST_S: Final = 60.0  # for callers that went away to be noticed
WARM_UP_S: Final = 120.0  # or a fifth of the whole, when that is less: then the first look at the memory
LOOKS: Final = 5  # at the memory, after that
POISON_SHARE: Final = 0.03  # of the requests, with --faults


@dataclass(frozen=True, slots=True)
class Soak:
    """A running node and its callers."""

    daemon: Daemon
    stub: node_pb2_grpc.NodeStub
    callers: Sequence[
        tuple[ModelSpec, random.Random]
    ]  # each with chances of its own: what it asks hangs on nobody's speed
    tally: Tally
    has_faults: bool = False

    async def load(self, seconds: float, least: int) -> None:
        """All callers at it for so long, and for so many requests at least; returns when the node is at rest."""
        until_s = time.monotonic() + seconds
        async with asyncio.TaskGroup() as calls:
            for spec, chance in self.callers:
                calls.create_task(self._call_until(spec, chance, until_s, least))
        await self._rest()

    async def _call_until(self, spec: ModelSpec, chance: random.Random, until_s: float, least: int) -> None:
        made = 0
        while made < least or time.monotonic() < until_s:
            made += 1
            plan = next_plan(spec, chance, poison_share=POISON_SHARE if self.has_faults else 0.0)
            name = f"{POISON if plan.is_poison else ''}{chance.getrandbits(64):016x}"
            task = Task(id=TaskId(name), request=plan.request, model=spec.id)
            began_s = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_S):
                    answer = await self._answer(task, plan)
            except TimeoutError:
                answer = Answer("wrong", f"no end within {ANSWER_S:.0f} s: {plan.request!r:.200}")
            self.tally.add(spec.id, answer, time.monotonic() - began_s)

    async def _answer(self, task: Task, plan: Plan) -> Answer:
        """Reads the stream to its end, or as far as its caller stays."""
        call, reader = self.stub.Execute(codec.task_message(task)), codec.EventReader()
        events, ends, error = 0, 0, None
        try:
            async for message in call:
                event = reader.read(message)
                events += event is not None
                ends += isinstance(event, Finished)
                if event is not None and events == plan.after_events and plan.caller == "cancels":
                    await self._cancel(task.id)
                if event is not None and events == plan.after_events and plan.caller == "leaves":
                    call.cancel()
                    return Answer("left")
        except grpc.aio.AioRpcError as rpc_error:
            error = from_rpc_error(rpc_error, "the node")
        return judged(plan, ends, error, has_faults=self.has_faults)

    async def _cancel(self, task_id: TaskId) -> None:
        try:
            await self.stub.Cancel(pb.CancelRequest(task_id=task_id))
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:  # it has ended
                raise

    async def _rest(self) -> None:
        """Nothing waits, runs or is lent, and no engine has anybody seated."""
        async with asyncio.timeout(REST_S):
            while self.held():  # noqa: ASYNC110 - the node tells nobody when it has come to rest
                await asyncio.sleep(0.02)

    def held(self) -> list[str]:
        """What the node still holds of any task."""
        status = self.daemon.service.status()
        counts = {f"{model.model.id}: waiting": model.waiting for model in status.models}
        counts |= {f"{model.model.id}: running": model.running for model in status.models}
        for entry in self.daemon.registry.entries:
            counts[f"{entry.spec.id}: leases"] = entry.leases
            counts[f"{entry.spec.id}: seats"] = entry.engine.seated if entry.engine is not None else 0
        return [f"{what} {count}" for what, count in counts.items() if count]

    def ended(self) -> int:
        """Tasks that the node has ended, by its own books."""
        models = self.daemon.service.status().models
        return sum(model.succeeded + model.failed + model.cancelled for model in models)


async def soak(
    models: Path,
    seconds: float,
    growth_limit_mib: float,
    seed: int,
    *,
    least: int = 0,
    has_faults: bool = False,
    trace: str = "",
) -> tuple[Tally, list[str]]:
    """What came of it, and why it failed: nothing when it did not. least: requests of each caller between two looks."""
    tally, began_s = Tally(), time.monotonic()
    throws: dict[ModelId, Throws] = defaultdict(Throws)
    loader = faulty_loader(engine_loader, seed, throws) if has_faults else engine_loader
    with tempfile.TemporaryDirectory() as data:
        settings = NodeSettings(listen="127.0.0.1:0", models_path=models, data_dir=Path(data), trace=trace)
        async with Daemon(settings, loader) as daemon, grpc.aio.insecure_channel(daemon.target) as channel:
            stub = node_pb2_grpc.NodeStub(channel)  # type: ignore[no-untyped-call]
            specs = list(read_catalog(models))
            callers = [
                (spec, random.Random(f"{seed} {spec.id} {number}"))
                for spec in specs
                for number in range(CALLERS[spec.modality])
            ]
            running = Soak(daemon, stub, callers, tally, has_faults)
            warm_up_s = min(WARM_UP_S, seconds / 5)
            for part_s in (warm_up_s, *[(seconds - warm_up_s) / LOOKS] * LOOKS):
                await running.load(part_s, least)
                tally.memory.append(memory_now(time.monotonic() - began_s))
            faults = [*tally.faults(growth_limit_mib), *running.held()]
            if running.ended() != tally.sent:
                faults.append(f"{tally.sent} requests were sent, and the node has ended {running.ended()}")
            if has_faults:
                tally.throws = {model: (each.by_chance, each.by_poison) for model, each in throws.items()}
                faults += [f"no step of {s.id} threw by chance" for s in specs if not throws[s.id].by_chance]
                faults += [f"no step of {s.id} threw for poison" for s in specs if not throws[s.id].by_poison]
    return tally, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--models", type=Path, default=Path("models.toml"))
    parser.add_argument("--growth-mib", type=float, default=16.0, help="that memory may grow by after the warm-up")
    parser.add_argument("--faults", action="store_true", help="steps of every engine throw now and then")
    parser.add_argument("--trace", default="", help="a file to record what came, for `fabric-node replay`")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        tally, faults = asyncio.run(
            soak(
                options.models,
                options.minutes * 60,
                options.growth_mib,
                options.seed,
                has_faults=options.faults,
                trace=options.trace,
            )
        )
    except FabricError as error:
        sys.exit(error.message)
    print(tally.table())
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    print(json.dumps({"bench": "soak", "minutes": options.minutes, **tally.figures(), "faults": faults, **machine}))
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
