"""The devices of this machine, and one probe of the memory of each kind.

Not about what is reserved on them (ledger.py).
"""

import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

from node.engine import DeviceSpec
from node.memory import host
from protos.errors import InputInvalid

T = TypeVar("T")


class Probe(Protocol):
    """The memory of one device. Any thread."""

    @property
    def name(self) -> str: ...

    def total_bytes(self) -> int: ...

    def foreign_bytes(self) -> int:
        """Held by other processes."""
        ...

    def peak_during(self, work: Callable[[], T]) -> tuple[T, int]:
        """The result of `work`, and how many device bytes more than before it were held at the worst moment."""
        ...

    def release(self) -> None:
        """Gives freed memory back, after an unload."""
        ...


def device_names() -> list[str]:
    """What a node each could own: the CUDA devices, or else the CPU."""
    count = _nvml().count() if _torch_has_cuda() else 0
    return [f"cuda:{index}" for index in range(count)] or ["cpu"]


def device_spec(name: str, threads: int) -> DeviceSpec:
    """The device of that name: auto, cpu, cuda, cuda:N. threads: 0 means half of the processors."""
    resolved = device_names()[0] if name == "auto" else name
    if resolved == "cpu":
        return DeviceSpec("cpu", threads=threads or max(1, len(os.sched_getaffinity(0)) // 2))
    index, count = int(resolved.partition(":")[2] or 0), _nvml().count()
    if index >= count:
        raise InputInvalid.at("device", f"is {name!r}, but this machine has {count} NVIDIA devices: give cpu or auto")
    return DeviceSpec("cuda", index)


def probe_of(device: DeviceSpec) -> Probe:
    return CpuProbe() if device.kind == "cpu" else CudaProbe(device)


class CpuProbe:
    name = platform.processor() or platform.machine()

    def total_bytes(self) -> int:
        return host.total_bytes()

    def foreign_bytes(self) -> int:
        return 0  # the system pages others out for us; the limit of a container is ours alone

    def peak_during(self, work: Callable[[], T]) -> tuple[T, int]:
        return host.peak_during(work)

    def release(self) -> None:
        host.trim()


class CudaProbe:
    def __init__(self, device: DeviceSpec) -> None:
        self._device, self._nvml = device, _nvml()
        self._nvml.open_for_good()
        self.name = self._nvml.name(device.index)

    def total_bytes(self) -> int:
        return int(self._nvml.total_bytes(self._device.index))

    def foreign_bytes(self) -> int:
        is_used = "torch" in sys.modules  # else we hold nothing yet, and importing it takes seconds
        own_bytes = _torch_cuda().memory_reserved(self._device.torch_name) if is_used else 0
        return int(self._nvml.foreign_bytes(self._device.index, own_bytes))

    def peak_during(self, work: Callable[[], T]) -> tuple[T, int]:
        cuda, name = _torch_cuda(), self._device.torch_name
        cuda.reset_peak_memory_stats(name)
        before = cuda.memory_allocated(name)
        result = work()
        cuda.synchronize(name)
        return result, cuda.max_memory_allocated(name) - before

    def release(self) -> None:
        _torch_cuda().empty_cache()


def capacity_bytes(probe: Probe, limit_bytes: int) -> int:
    """What models may use: all of the device, or less by the setting (0: no limit)."""
    total = probe.total_bytes()
    return min(total, limit_bytes) if limit_bytes else total


def _nvml() -> ModuleType:
    from node.memory import nvml  # noqa: PLC0415 - opens the driver's library; only where there may be a GPU

    return nvml


def _torch_cuda() -> Any:  # Any: torch is typed only where it is installed
    import torch  # noqa: PLC0415 - takes seconds; only on a CUDA device, where the engines import it anyway

    return torch.cuda


def _torch_has_cuda() -> bool:
    """Whether the installed torch is a CUDA build, told by its version so that it need not be imported."""
    try:
        return not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def measured_path(data_dir: Path, node_id: str) -> Path:
    """Where a node remembers what it measured."""
    return data_dir / "nodes" / node_id / "measured.json"
