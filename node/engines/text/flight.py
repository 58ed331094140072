"""A step that the device computes while the host goes on: its tokens stay there for the next one, and land on the host later.

With one step in the air the next is launched before the tokens of the first are known here, so the device never waits for
the host. An answer that ended meanwhile has a token too many, which nobody reads. Not about when that is done (engine.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from node.engines.text.attention import Chunk
from node.engines.text.sampler import Draw, pick
from node.engines.text.seat import Seat
from node.engines.text.upload import upload

Landing: TypeAlias = Callable[[], list[list[int]]]
"""Waits for what is on its way to the host, and gives it."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A step under way. A seat may have been left since: whoever sits in its slot now is another."""

    served: Sequence[tuple[Seat, Chunk]]
    ready: Sequence[Seat]  # those that get a token, in the order of the rows
    tokens: torch.Tensor  # (rows,) on the device
    landing: Landing  # two numbers of each row: the token, and 1 where its logits are finite

    @property
    def size(self) -> int:
        return sum(chunk.count for _, chunk in self.served)

    def take_off(self) -> None:
        """What it computes counts as computed: whatever is asked of the device next comes after it."""
        for seat, chunk in self.served:
            seat.computed += chunk.count
        for seat in self.ready:
            seat.flying += 1


def chosen(logits: torch.Tensor, draws: Sequence[Draw]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (rows,), and whether their logits were finite, without a look at either. Where they are not, some token."""
    is_sound = logits.amax(-1).isfinite()
    return pick(logits, draws).clamp_(0, logits.shape[-1] - 1), is_sound


def land(tokens: torch.Tensor, is_sound: torch.Tensor) -> Landing:
    """On a CPU they are read when they are asked for, not now: a tensor that a later step wrote over would show."""
    if tokens.device.type != "cuda":
        return lambda: [tokens.tolist(), is_sound.tolist()]
    numbers = torch.stack([tokens, is_sound.to(tokens.dtype)])
    pinned = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    pinned.copy_(numbers, non_blocking=True)
    landed = torch.cuda.Event()
    landed.record()

    def wait() -> list[list[int]]:
        landed.synchronize()
        return pinned.tolist()

    return wait


def filled_in(ids: torch.Tensor, late: Sequence[tuple[int, int]], flight: Flight | None) -> torch.Tensor:
    """The ids of a pack, with those that only the device knows yet. late: (row of the pack, row of the flight)."""
    if flight is None or not late:
        return ids
    rows, sources = upload(list(zip(*late, strict=True)), torch.long, ids.device)
    return ids.index_copy(0, rows, flight.tokens[sources])
