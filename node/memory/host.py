"""The memory of a CPU device: how much there is for us, and what the allocator says it holds.

Resident size is not used: with the allocator settings that make page faults rare, freed memory stays resident.
"""

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

_CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # version 2, 1
_MEMINFO: Final = "/proc/meminfo"
_SAMPLE_S: Final = 0.005  # between looks at the allocator while a model warms up; its largest step takes longer

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # Source: malloc.h of glibc
_KEEP_BYTES: Final = (1 << 31) - 1  # mallopt takes an int
_BLOCK_BYTES: Final = 1 << 30  # larger ones come from the system and go back to it

_MALLINFO2_FIELDS: Final = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)

T = TypeVar("T")


class _MallInfo2(ctypes.Structure):
    """Source: mallinfo2(3), glibc 2.33 and later."""

    _fields_ = [(name, ctypes.c_size_t) for name in _MALLINFO2_FIELDS]


def total_bytes(root: Path = Path("/")) -> int:
    """Bytes that this process may use: the smaller of the machine's memory and the container's limit."""
    found = [_physical_bytes(root)]
    for name in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # absent, or "max"
            found.append(int((root / name.lstrip("/")).read_text()))
    return min(found)


def allocated_bytes() -> int:
    """Bytes that the C allocator has handed out and not got back; 0 where it cannot say."""
    statistics = _mallinfo2()
    return statistics.uordblks + statistics.hblkhd if statistics is not None else 0


def keep_freed_memory() -> None:
    """From now on the allocator keeps what is freed for the next step, until `trim`. Of the whole process.

    As it comes, it fetches large blocks from the system and gives them back in every step, and each of their pages is a
    fault: 77,000 for one Whisper window, a third of the encoder's time on a virtual machine.
    """
    set_option = getattr(_libc(), "mallopt", None)
    if set_option is not None:
        set_option(_M_TRIM_THRESHOLD, _KEEP_BYTES)
        set_option(_M_MMAP_THRESHOLD, _BLOCK_BYTES)


def trim() -> None:
    """Gives freed memory back to the system, after an unload."""
    trim_now = getattr(_libc(), "malloc_trim", None)
    if trim_now is not None:
        trim_now(0)


def peak_during(work: Callable[[], T]) -> tuple[T, int]:
    """The result of `work`, and how many bytes more than before it the allocator held at the worst moment.

    Other threads' allocations count too, so it errs on the safe side.
    """
    before = allocated_bytes()
    peak, is_over = before, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not is_over.wait(_SAMPLE_S):
            peak = max(peak, allocated_bytes())

    sampler = threading.Thread(target=sample, name="memory-sampler")
    sampler.start()
    try:
        result = work()
    finally:
        peak = max(peak, allocated_bytes())
        is_over.set()
        sampler.join()
    return result, peak - before


def _physical_bytes(root: Path) -> int:
    for line in (root / _MEMINFO.lstrip("/")).read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("/proc/meminfo has no MemTotal: this is a bug")


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _mallinfo2() -> _MallInfo2 | None:
    call = getattr(_libc(), "mallinfo2", None)
    if call is None:
        return None
    call.restype = _MallInfo2
    statistics: _MallInfo2 = call()
    return statistics
