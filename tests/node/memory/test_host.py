"""The probes of the host's memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from node.memory import host
from node.memory.devices import CpuProbe, capacity_bytes, device_spec
from protos.errors import InputInvalid

ROOT = Path(__file__).resolve().parents[3]


def machine(root: Path, *, physical_kib: int, cgroup: str | None = None) -> Path:
    (root / "proc").mkdir()
    (root / "proc" / "meminfo").write_text(f"MemTotal:       {physical_kib} kB\nMemFree: 1 kB\n")
    if cgroup is not None:
        (root / "sys" / "fs" / "cgroup").mkdir(parents=True)
        (root / "sys" / "fs" / "cgroup" / "memory.max").write_text(cgroup)
    return root


def test_the_physical_memory_is_all_there_is(tmp_path: Path) -> None:
    assert host.total_bytes(machine(tmp_path, physical_kib=1000)) == 1_024_000


@pytest.mark.parametrize(("limit", "total"), [("5000\n", 5000), ("max\n", 1_024_000), ("9999999\n", 1_024_000)])
def test_a_container_has_what_its_limit_leaves(tmp_path: Path, limit: str, total: int) -> None:
    assert host.total_bytes(machine(tmp_path, physical_kib=1000, cgroup=limit)) == total


def test_a_setting_lowers_the_capacity_and_never_raises_it() -> None:
    probe = CpuProbe()
    assert capacity_bytes(probe, 0) == probe.total_bytes()
    assert capacity_bytes(probe, 1000) == 1000
    assert capacity_bytes(probe, 1 << 60) == probe.total_bytes()


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputInvalid, match="NVIDIA devices: give cpu or auto"):
        device_spec("cuda:63", 0)


def test_a_cpu_has_at_least_one_thread() -> None:
    assert device_spec("cpu", 0).threads >= 1
    assert device_spec("cpu", 7).threads == 7


# ---- in a process of its own, in which nobody else takes and frees ----


def printed(code: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return [int(each) for each in done.stdout.split()]


_BLOCK = """
from node.memory import host

before = host.allocated_bytes()
block = bytearray(8 << 20)
print(host.allocated_bytes() - before)
"""


def test_the_allocator_says_what_it_handed_out() -> None:
    (handed_out,) = printed(_BLOCK)
    assert handed_out >= 8 << 20


_SPIKE = """
import hashlib, pathlib, threading
from node.memory import host

def pauses(thread):
    status = pathlib.Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])

def spike():
    (sampler,) = [thread for thread in threading.enumerate() if thread.name == "memory-sampler"]
    block = bytes(32 << 20)
    enough = pauses(sampler) + 12  # it pauses after each look, and where it waits for the interpreter's lock
    while pauses(sampler) < enough:
        hashlib.sha256(block)  # without that lock
    return len(block)

host.allocated_bytes()
size, peak = host.peak_during(spike)
print(size, peak, host.peak_during(lambda: None)[1])
"""


def test_a_peak_is_seen_though_it_is_gone_at_the_end() -> None:
    size, peak, afterwards = printed(_SPIKE)
    assert peak >= size
    assert afterwards < size


_SECOND_BLOCK = """
import resource
from node.memory import host

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def of_a_block():
    before = faults()
    b"a" * (64 << 20)
    return faults() - before

host.keep_freed_memory()
print(of_a_block(), of_a_block(), host.trim() or of_a_block())
"""


def test_a_freed_block_is_there_for_the_next_until_it_is_trimmed() -> None:
    first, second, after_trim = printed(_SECOND_BLOCK)
    assert second * 10 < min(first, after_trim), f"page faults: {first}, {second}, {after_trim}"
