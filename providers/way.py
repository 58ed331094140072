"""How long a task's way to a node and back takes, beside what the node itself takes: the wire, and the work of both ends.

Nothing on an idle machine, a tenth of a second on one that is busy, and then most of what a forecast would miss. Not about
how long the node takes (it says that itself).
"""

from collections import deque
from dataclasses import replace
from statistics import median
from typing import Final

from protos.types import Estimate, Finished, Queued, TaskEvent

_SEEN: Final = 16  # tasks that came back


class Way:
    """Of one node. One event loop."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_SEEN)
        self._usual_s = 0.0

    def told(self, event: TaskEvent, age_s: float) -> TaskEvent:
        """What the node says of a task, as it is for who sent it `age_s` ago."""
        match event:
            case Queued(eta_s=float(eta_s)):
                return replace(event, eta_s=eta_s + self._usual_s)
            case Finished(timings=timings):
                self._seen.append(max(age_s - timings.total_s, 0.0))
                self._usual_s = median(self._seen)
        return event

    def estimated(self, estimate: Estimate) -> Estimate:
        """The same for a forecast that the node gives."""
        return replace(estimate, run_s=estimate.run_s + self._usual_s, total_s=estimate.total_s + self._usual_s)
