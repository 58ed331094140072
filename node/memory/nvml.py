"""The memory of a GPU as its driver sees it, other processes included. Only for CUDA devices."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pynvml


def open_for_good() -> None:
    """Keeps the driver's library open, so that the calls below are quick."""
    pynvml.nvmlInit()


def count() -> int:
    """How many NVIDIA devices this machine has; 0 also where there is no driver."""
    try:
        with _session():
            return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def name(index: int) -> str:
    with _session():
        return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index)))


def total_bytes(index: int) -> int:
    with _session():
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(index)).total)


def foreign_bytes(index: int, own_bytes: int) -> int:
    """Bytes of the device that others use. own_bytes: what we know we hold, where the driver cannot tell us apart
    (in a container it lists the processes by the host's ids)."""
    with _session():
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        used = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        listed = sum(process.usedGpuMemory or 0 for process in running if process.pid == os.getpid())
        return max(0, used - (listed or own_bytes))


@contextmanager
def _session() -> Iterator[None]:
    """nvmlInit counts its callers, so sessions may nest."""
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()
