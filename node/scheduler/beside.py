"""A thread beside the device loop's, for the steps of an engine whose library computes in threads of its own.

Not about what is run on it (loop.py).
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol, TypeAlias, TypeVar

T = TypeVar("T")
Call: TypeAlias = Callable[[], object]


class Side(Protocol):
    """Where calls are run, one after another."""

    def run(self, call: Callable[[], T], then: Callable[[T], object]) -> None:
        """Returns at once; `then` gets what `call` returns. Neither raises."""
        ...

    def close(self) -> None:
        """Ends it after the calls that it was given."""
        ...


class SideThread:
    """See Side. Idle it waits on its queue. A daemon: a call that never returns must not keep the process."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        threading.Thread(target=self._work, name=f"beside {name}", daemon=True).start()

    def run(self, call: Callable[[], T], then: Callable[[T], object]) -> None:
        self._calls.put(lambda: then(call()))

    def close(self) -> None:
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
