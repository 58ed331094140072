"""`fabric-node up`: keeps a router and its nodes running as child processes, and ends them in order.

A child that dies is started again, later each time; one that says that its configuration is wrong ends everything.
Not about what the children do (app.py, node/daemon.py).
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from node.watchdog import EXIT_HUNG

log = logging.getLogger(__name__)

EXIT_CONFIGURATION: Final = 2  # a child that ends so would end so again: typer's and argparse's code for a usage error
_FIRST_DELAY_S: Final = 0.5  # before a restart; doubled for each death in a row
_LAST_DELAY_S: Final = 15.0
_STABLE_S: Final = 1.0  # a child that lived so long had started; one that dies before would die again at once
_STOP_S: Final = 45.0  # for a child to drain; longer than the node's own drain timeout of 30 s


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child process: what it is called in messages, and what it runs: a module and its arguments."""

    name: str
    arguments: Sequence[str]
    log_path: Path | None = None  # None: it writes to our own stderr


def restart_delay_s(deaths: int) -> float:
    """Seconds to wait before the restart after the given number of deaths in a row, at least 1."""
    return min(_LAST_DELAY_S, float(_FIRST_DELAY_S * 2 ** (deaths - 1)))


class Child:
    """One supervised process."""

    def __init__(self, spec: ChildSpec, clock: Callable[[], float]) -> None:
        self.spec = spec
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def run(self) -> int:
        """Keeps the process alive; returns only when its configuration is wrong. Cancel to stop restarting."""
        deaths = 0
        while True:
            began = self._clock()
            code = await self._run_once()
            if code == EXIT_CONFIGURATION and deaths == 0:
                self._show_last_words()
                return code
            deaths = 1 if self._clock() - began > _STABLE_S else deaths + 1
            delay_s = restart_delay_s(deaths)
            log.warning("%s ended with %s, starting it again in %.1f s", self.spec.name, _cause(code), delay_s)
            await asyncio.sleep(delay_s)

    def _show_last_words(self) -> None:
        if self.spec.log_path is not None:
            words = self.spec.log_path.read_text(errors="replace").splitlines()
            sys.stderr.write((words[-1] if words else f"{self.spec.name} ended without a word") + "\n")

    async def stop(self) -> None:
        """Asks the process to drain and end, and ends it by force when it takes too long."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            log.warning("%s did not end within %.0f s, killing it", self.spec.name, _STOP_S)
            self.kill()
            await process.wait()

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _run_once(self) -> int:
        output: IO[bytes] | None = self.spec.log_path.open("ab") if self.spec.log_path else None
        try:
            # A session of its own: Ctrl-C at the terminal reaches us alone, and we end the children in order.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *self.spec.arguments, stderr=output, start_new_session=True
            )
        finally:
            if output is not None:
                output.close()
        return await self._process.wait()


class Supervisor:
    """The children, in the order in which they start; they end in the reverse order."""

    def __init__(self, specs: Sequence[ChildSpec], clock: Callable[[], float]) -> None:
        self.children = [Child(spec, clock) for spec in specs]
        self._interrupts = 0
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Runs until a signal or until a child's configuration is wrong; then ends all. The exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.interrupt)
        runs = [asyncio.create_task(child.run(), name=child.spec.name) for child in self.children]
        stopped = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait([*runs, stopped], return_when=asyncio.FIRST_COMPLETED)
        # Restarting stops first: a child that ends from here on stays down.
        for task in [*runs, stopped]:
            task.cancel()
        await asyncio.gather(*runs, stopped, return_exceptions=True)
        for child in reversed(self.children):
            await child.stop()
        return 0 if stopped in done else EXIT_CONFIGURATION

    def interrupt(self) -> None:
        """The first time ends the children in order; the second time kills them."""
        self._interrupts += 1
        self._stopping.set()
        if self._interrupts > 1:
            for child in self.children:
                child.kill()


def _cause(code: int) -> str:
    if code == EXIT_HUNG:
        return f"exit status {code}: its device hung"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
