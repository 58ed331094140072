"""Ends a process whose device hangs, since no thread can be ended: whoever keeps the process starts a fresh one.

`fabric-node up` does (router/supervisor.py), systemd with Restart=on-failure too; jobs that ran are run again.
Not about telling that the node is not ready, which comes first (pulse.py).
"""

import faulthandler
import logging
import os
import sys
from typing import Final

from node.scheduler.loop import UnderWay

log = logging.getLogger(__name__)

_LATE_S: Final = 3.0  # that the alarm may go off after the bound: `look` comes first where it can
EXIT_HUNG: Final = 3  # the status that says why; 1 where not even the event loop came to say so


class Watchdog:
    """`look` at least every second. Event loop only.

    A call that keeps the interpreter's lock stops the event loop too. Then the alarm goes off, which is a thread of the C
    library's that needs no lock: it writes where every thread is, and ends the process with status 1.
    """

    def __init__(self, hang_s: float) -> None:
        """hang_s: a call into an engine that takes longer hangs; 0: none ever does."""
        self._hang_s = hang_s

    def look(self, call: UnderWay | None) -> None:
        """call: the longest that is under way on the device."""
        if not self._hang_s:
            return
        faulthandler.dump_traceback_later(self._hang_s + _LATE_S, exit=True)
        if call is not None and call.for_s > self._hang_s:
            log.critical("%s, and no thread can be ended: the process ends with status %d", call, EXIT_HUNG)
            faulthandler.dump_traceback(sys.stderr)  # where it hangs, for whoever mends it
            logging.shutdown()
            os._exit(EXIT_HUNG)

    def close(self) -> None:
        faulthandler.cancel_dump_traceback_later()
