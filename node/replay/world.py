"""Virtual time: an event loop whose clock jumps to the next timer, and what takes time in it. One thread; deterministic.

Not about what runs in it (node.py) nor about what takes how long (engine.py).
"""

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from node.scheduler.loop import DeviceLoop
from node.scheduler.messages import Report
from protos.errors import Internal
from protos.types import ModelId

T = TypeVar("T")
P = ParamSpec("P")

_START_S: Final = 1000.0  # of the clock: 0 is a time that some part may take for "never"


class _Jump(selectors.DefaultSelector):
    """Instead of waiting for so long, so much time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = _START_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Internal("the replay waits for what never comes: this is a bug")
        self.now_s += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is ready; when nothing is, the next timer is due at once."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now_s


class World:
    """The clock, and what the call that runs now has spent of it. Made inside a VirtualLoop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._spent_s = 0.0

    def clock(self) -> float:
        return self._loop.time() + self._spent_s

    def spend(self, seconds: float) -> None:
        """The call that runs now takes so much longer."""
        self._spent_s += seconds

    def ahead(self, call: Callable[[], object]) -> None:
        """Makes it when what was spent so far has passed."""
        if self._spent_s:
            self._loop.call_later(self._spent_s, call)
        else:
            self._loop.call_soon(call)  # timers of one time have no order

    def takes(self, call: Callable[[], T]) -> tuple[T, float]:
        """Its result, and the seconds that it spent. They have not passed yet."""
        outer_s, self._spent_s = self._spent_s, 0.0
        try:
            return call(), self._spent_s
        finally:
            self._spent_s = outer_s


class Threads(Executor):
    """One call after another, each as long as it spends."""

    def __init__(self, world: World) -> None:
        self._world, self._loop = world, asyncio.get_running_loop()
        self._calls: deque[Callable[[], None]] = deque()
        self._is_busy = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        self._calls.append(partial(self._run, future, partial(fn, *args, **kwargs)))
        self._next()
        return future

    def _next(self) -> None:
        while self._calls and not self._is_busy:
            self._calls.popleft()()

    def _run(self, future: Future[Any], call: Callable[[], Any]) -> None:  # Any: of whatever type its result is
        try:
            result, took_s = self._world.takes(call)
        except Exception as error:  # noqa: BLE001 - an executor hands on what a call raises
            future.set_exception(error)
            return
        if took_s:
            self._is_busy = True
            self._loop.call_later(took_s, self._end, future, result)
        else:
            future.set_result(result)

    def _end(self, future: Future[Any], result: Any) -> None:  # Any: as above
        self._is_busy = False
        if not future.cancelled():
            future.set_result(result)
        self._next()


class VirtualSide:
    """See node.scheduler.beside.Side: what a call spends passes before its result is told."""

    def __init__(self, world: World) -> None:
        self._world = world

    def run(self, call: Callable[[], T], then: Callable[[T], object]) -> None:
        outcome, took_s = self._world.takes(call)
        asyncio.get_running_loop().call_later(took_s, then, outcome)

    def close(self) -> None:
        pass


class VirtualDevice:
    """Turns a device loop: a step takes what its engine spends, and what it reports is heard when it has ended."""

    def __init__(self, world: World, quantum_s: float, threads: int) -> None:
        self._world = world
        self._rung = asyncio.Event()
        self.on_reports: Callable[[Sequence[Report]], object] = lambda _: None
        self.loop = DeviceLoop(
            self._report,
            quantum_s,
            threads,
            clock=world.clock,
            new_side=self._new_side,
            ring=self._rung.set,
        )

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            if self.loop.would_wait:
                self._rung.clear()
                await self._rung.wait()
            _, took_s = self._world.takes(self.loop.turn)
            await asyncio.sleep(took_s)

    def _new_side(self, _: ModelId) -> VirtualSide:
        return VirtualSide(self._world)

    def _report(self, reports: Sequence[Report]) -> None:
        self._world.ahead(partial(self.on_reports, reports))
