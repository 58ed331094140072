"""Which devices this machine has. Asks the driver only; no GPU framework is imported."""

import pynvml


def device_names() -> list[str]:
    """`cuda:<index>` for each NVIDIA device in the driver's order; `cpu` alone where there is none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ["cpu"]
    try:
        return [f"cuda:{index}" for index in range(pynvml.nvmlDeviceGetCount())] or ["cpu"]
    finally:
        pynvml.nvmlShutdown()
