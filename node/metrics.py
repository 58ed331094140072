"""The numbers of a node's models: rates over the last seconds, totals since the start.

Not about memory (memory/) nor about what they say of the model (pulse.py).
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from node.scheduler.messages import Stepped
from protos.errors import Cancelled, FabricError

WINDOW_S: Final = 10.0  # of the rates, as the contract says


class Meter:
    """One model's counts. Event loop only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began_s = clock()
        self._recent: deque[tuple[float, int]] = deque()  # when, units
        self._recent_units = 0
        self.device_seconds = 0.0
        self.last_batch = 0
        self.last_step_s: float | None = None
        self.succeeded = self.failed = self.cancelled = 0

    def step(self, stepped: Stepped) -> None:
        now = self._clock()
        self._recent.append((now, stepped.units))
        self._recent_units += stepped.units
        self._forget(now)
        self.device_seconds += stepped.device_s
        self.last_batch, self.last_step_s = stepped.rows, now

    def end(self, error: FabricError | None) -> None:
        """A task ended: succeeded (None), was cancelled, or failed."""
        if error is None:
            self.succeeded += 1
        elif isinstance(error, Cancelled):
            self.cancelled += 1
        else:
            self.failed += 1

    @property
    def last_step_age_s(self) -> float:
        """0 before the first step."""
        return self._clock() - self.last_step_s if self.last_step_s is not None else 0.0

    def rates(self) -> tuple[float, float]:
        """Steps and units per second, over the last WINDOW_S or since the start."""
        now = self._clock()
        self._forget(now)
        window_s = max(min(WINDOW_S, now - self._began_s), 1.0)
        return len(self._recent) / window_s, self._recent_units / window_s

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - WINDOW_S:
            self._recent_units -= self._recent.popleft()[1]
