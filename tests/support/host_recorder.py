"""Records what is computed on a CPU as a CUDA graph does: the operations alone, not the Python around them."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class HostRecorder:
    """A replay makes the recorded operations on the tensors that were there: a number that Python knew at recording stays
    what it was, and what a tensor held before is gone."""

    def __init__(self) -> None:
        self.bytes = 0
        self.replays = 0

    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        tape = _Tape()
        with tape:
            result = compute()

        def replay() -> torch.Tensor:
            self.replays += 1
            result.fill_(float("nan"))
            return result.copy_(tape.play(result))

        return replay


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, Any, Any, Any]] = []  # what torch calls, with what, and what came of it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # Any: torch's own
        assert func is not torch.ops.aten._local_scalar_dense.default, "the host asked for a value of the device"
        found = func(*args, **(kwargs or {}))
        self._operations.append((func, args, kwargs or {}, found))
        return found

    def play(self, wanted: torch.Tensor) -> torch.Tensor:
        """What is `wanted`, made again."""
        made: dict[int, torch.Tensor] = {}

        def now(tensor: torch.Tensor) -> torch.Tensor:
            return made.get(id(tensor), tensor)

        for func, args, kwargs, found in self._operations:
            again = func(*tree_map_only(torch.Tensor, now, args), **tree_map_only(torch.Tensor, now, kwargs))
            for before, after in zip(_tensors(found), _tensors(again), strict=True):
                made[id(before)] = after
        return now(wanted)


def _tensors(found: Any) -> list[torch.Tensor]:  # Any: a tensor or several
    return [each for each in (found if isinstance(found, tuple | list) else [found]) if isinstance(each, torch.Tensor)]
