"""Numbers from the host to the device, without waiting for what the device is doing."""

from typing import Any

import torch


def upload(values: Any, dtype: torch.dtype, device: torch.device) -> torch.Tensor:  # Any: numbers, however nested
    """To a GPU from pinned memory, which torch keeps until the copy is made: from other memory the host would wait for
    all that the stream still has to do. Source: https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html"""
    if device.type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)
