"""A chat while images saturate the device, beside the same chat alone: the time between its tokens, and who gets how much.

    scripts/bench/run mixed

The models that ship, in one process, through the real service and device loop; alone and in company alternate. The bound of
the time between two tokens is the chat's own step (its 95th percentile, of the chat alone) and the longest step of the
images, both as the loop measured them in that round.
"""
# minutes: 2

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from node.catalog import read_catalog
from node.daemon import Daemon
from node.engine import ModelSpec
from node.scheduler.messages import Report, Stepped
from node.settings import NodeSettings
from protos.types import ImageRequest, Modality, ModelId, Task, TaskId, TaskRequest, TextDelta, TextRequest
from scripts.bench.lib.report import Row, publish

ROOT = Path(__file__).resolve().parents[2]
STORY = "Count from 1 to 10."  # the longest answer that the chat model gives


@dataclass
class Watch:
    """What the loop reports of the steps of one window."""

    steps_s: dict[ModelId, list[float]] = field(default_factory=dict)

    def hear(self, reports: Sequence[Report]) -> None:
        for report in reports:
            if isinstance(report, Stepped):
                self.steps_s.setdefault(report.model, []).append(report.device_s)

    def share(self, model: ModelId) -> float:
        return sum(self.steps_s.get(model, ())) / sum(sum(steps) for steps in self.steps_s.values())


class Box:
    """A node with the chat and the image model, and its callers."""

    def __init__(self, daemon: Daemon, chat: ModelSpec, image: ModelSpec) -> None:
        self.daemon, self.chat, self.image = daemon, chat, image
        self.watch = Watch()
        self._count = 0
        heard = daemon.service.on_reports
        daemon.service.on_reports = lambda reports: (self.watch.hear(reports), heard(reports))  # type: ignore[method-assign]

    async def window(self, seconds: float, chats: int, images: int) -> list[float]:
        """The times between two tokens of a chat, while so many of each are asked without a pause."""
        gaps: list[float] = []
        self.watch = Watch()
        callers = [asyncio.create_task(self._chat(gaps)) for _ in range(chats)]
        callers += [asyncio.create_task(self._draw()) for _ in range(images)]
        await asyncio.sleep(seconds)
        watch, self.watch = self.watch, Watch()
        for caller in callers:
            caller.cancel()
        for caller in callers:
            with suppress(asyncio.CancelledError):
                await caller
        self.watch = watch
        return gaps

    async def _chat(self, gaps: list[float]) -> None:
        while True:
            last_s: float | None = None
            async for event in self._events(self.chat, TextRequest(prompt=STORY, max_tokens=64, temperature=0.0)):
                if isinstance(event, TextDelta):
                    now_s = time.perf_counter()
                    if last_s is not None:
                        gaps.append(now_s - last_s)
                    last_s = now_s

    async def _draw(self) -> None:
        while True:
            async for _ in self._events(self.image, ImageRequest(prompt="a red circle", steps=8, seed=self._count)):
                pass

    def _events(self, spec: ModelSpec, request: TaskRequest):  # noqa: ANN202 - the service's own generator
        self._count += 1
        return self.daemon.service.execute(Task(id=TaskId(f"t{self._count}"), request=request, model=spec.id))


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[18]


async def rounds(options: argparse.Namespace, folder: Path) -> list[Row]:
    specs = read_catalog(options.models)
    chat = next(spec for spec in specs if spec.modality == Modality.TEXT)
    image = next(spec for spec in specs if spec.modality == Modality.IMAGE)
    settings = NodeSettings(listen="127.0.0.1:0", device="cpu", threads=1, models_path=options.models, data_dir=folder)
    alone_s, beside_s, own_s, longest_s, usual_s, chat_share, image_share = (list[float]() for _ in range(7))
    async with Daemon(settings) as daemon:
        for spec in (chat, image):
            await daemon.service.load(spec.id)
        box = Box(daemon, chat, image)
        await box.window(options.seconds / 2, options.chats, options.images)
        for _ in range(options.rounds):
            alone_s.append(p95(await box.window(options.seconds, options.chats, 0)))
            own_s.append(p95(box.watch.steps_s[chat.id]))
            beside_s.append(p95(await box.window(options.seconds, options.chats, options.images)))
            longest_s.append(max(box.watch.steps_s[image.id]))
            usual_s.append(p95(box.watch.steps_s[image.id]))
            chat_share.append(box.watch.share(chat.id) / (chat.weight / (chat.weight + image.weight)))
            image_share.append(box.watch.share(image.id) / (image.weight / (chat.weight + image.weight)))
    work = f"mixed: {options.chats} chats, {options.images} images at once without end"
    chats, images = "device seconds of the chat", "device seconds of the images"
    return [
        replace(bounded(work, "longest", beside_s, own_s, longest_s), at_most=1.0),
        bounded(work, "p95", beside_s, own_s, usual_s),
        in_ms(work, "p95 between tokens, alone", alone_s),
        in_ms(work, "the chat's own step, p95", own_s),
        in_ms(work, "the images' longest step", longest_s),
        Row(work=work, peer="its weighted share", measure=chats, values=chat_share, at_least=0.95),
        Row(work=work, peer="its weighted share", measure=images, values=image_share, at_least=0.95),
    ]


def bounded(work: str, which: str, gaps_s: Sequence[float], own_s: Sequence[float], other_s: Sequence[float]) -> Row:
    bounds_s = [own + other for own, other in zip(own_s, other_s, strict=True)]
    return Row(
        work=work,
        peer=f"the chat's own step + the images' {which}",
        measure="p95 between tokens, ms",
        values=[gap / bound for gap, bound in zip(gaps_s, bounds_s, strict=True)],
        ours=statistics.median(gaps_s) * 1000,
        theirs=statistics.median(bounds_s) * 1000,
    )


def in_ms(work: str, measure: str, seconds: Sequence[float]) -> Row:
    return Row(work=work, peer="", measure=measure, values=[each * 1000 for each in seconds], unit="ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each window")
    parser.add_argument("--chats", type=int, default=4)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--models", type=Path, default=ROOT / "models.toml")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(rounds(options, Path(folder)))
    publish("mixed", rows, seconds=options.seconds)


if __name__ == "__main__":
    main()
