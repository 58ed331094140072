"""Ties this process to the one that started it: a child must not outlive its supervisor, however that one ends."""

import ctypes
import signal
import sys

from protos.errors import Internal

_PR_SET_PDEATHSIG = 1  # Source: prctl(2), linux/prctl.h


def die_with_parent() -> None:
    """From now on the kernel kills this process when its parent dies, kill -9 included. Call it from the main thread.

    The kernel watches the thread that started us: a supervisor starts its children from its main thread. Jobs that
    were running are found by their lease and done again.
    """
    if not sys.platform.startswith("linux"):
        raise Internal(f"--exit-with-parent needs Linux, this is {sys.platform}: leave it away")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise Internal(f"prctl(PR_SET_PDEATHSIG) failed with errno {ctypes.get_errno()}: this is a bug")
