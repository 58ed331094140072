"""The provider protocol: a place that runs tasks.

Not about which place is chosen (router/routing.py), nor about limits, retries or metering (wrappers.py).
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, Self, TypeAlias

from protos.errors import InputInvalid
from protos.types import Estimate, Modality, ModelId, NodeStatus, ProviderId, Task, TaskEvent, TaskId, TaskRequest, Tier
from providers.pricing import Bounds, Price

Refusal: TypeAlias = Callable[[TaskRequest], InputInvalid | None]
"""What the model cannot take of a request, field by field; None: it can take it. Pure."""


def takes_all(_request: TaskRequest) -> InputInvalid | None:
    """A place that does not say before it is asked."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One model that a provider serves."""

    model: ModelId
    modality: Modality
    is_default: bool = False  # serves tasks of its modality that name no model
    context_tokens: int = 0  # 0 where the notion does not apply
    max_batch: int = 1  # tasks that it runs at once
    waiting: int = 0
    running: int = 0
    price: Price | None = None  # None: free at a place of tier basic, not known at another
    bounds: Bounds = field(default_factory=Bounds)  # of what one request can use there
    aliases: Mapping[str, int] = field(default_factory=dict)  # that stand for it -> its place among their candidates
    refusal: Refusal = takes_all  # of what is not usual; lengths are in context_tokens and bounds
    taste: str = ""  # offers of one taste have the same bounds and refuse the same, in words of their own; "": of none


class Menu(tuple[Offer, ...]):
    """Offers, found by modality and name without a look at each: a route asks every place, and offers seldom change."""

    @classmethod
    def of(cls, offers: Iterable[Offer]) -> Self:
        return offers if isinstance(offers, cls) else cls(offers)

    def named(self, modality: Modality | None, name: str | None) -> Sequence[Offer]:
        """Those of a model or an alias of that name; no name: the default ones. No modality: of any."""
        return self.found.get(entry(modality, name), ())

    @cached_property
    def found(self) -> Mapping[str, Sequence[Offer]]:
        """By entry."""
        found: defaultdict[str, list[Offer]] = defaultdict(list)
        for offer in self:
            default = [None] if offer.is_default else []
            for name in (*default, *dict.fromkeys([offer.model, *offer.aliases])):
                found[entry(offer.modality, name)].append(offer)
                found[entry(None, name)].append(offer)
        return dict(found)


def entry(modality: Modality | None, name: str | None) -> str:
    """Where a menu has the offers of that name: one text, whose hash is made once for all places."""
    return f"{modality or ''}/{name or ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What was last seen of a provider. `status`: healthy, or degraded (serves some), or unavailable."""

    status: Literal["healthy", "degraded", "unavailable"]
    reason: str = ""
    seen_s: float = 0.0  # age of what was seen
    error_rate: float = 0.0  # 0 to 1, of the calls of the last minutes
    latency_s: float | None = None  # median of them until the first output; None: none was seen
    success_s: float | None = None  # since the last that ended well; None: none has
    rests_until: float | None = None  # nobody is let through before, on the monotonic clock; None: it is not left alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A provider as routing sees it: frozen, cheap to take, never a call."""

    id: ProviderId
    kind: str  # node, echo, openai, ...
    tier: Tier
    offers: Sequence[Offer]
    health: Health
    supports_streaming: bool = True
    only_when_named: bool = False  # echo: never a surprise
    cost_micro: Mapping[ModelId, int] = field(default_factory=dict)  # of a typical request, in 1e-6 USD; absent: 0
    node: NodeStatus | None = None  # of a node: its last status
    key_variable: str = ""  # of the key that a call needs, which an organization may have of its own; "": it needs none
    lacks_key: bool = False  # whoever asks has none: see ProviderRegistry.snapshots
    is_remote: bool = True  # what it is given leaves this machine; so does what a place that says nothing is given


class Provider(Protocol):
    """A place that runs tasks. Knows one vendor, or one node. One event loop; safe for many calls at a time."""

    @property
    def id(self) -> ProviderId: ...

    def snapshot(self) -> Snapshot:
        """What is known now, without a call."""
        ...

    def run(self, task: Task) -> AsyncIterator[TaskEvent]:
        """Runs the task; its events in the order that protos/types.py states, Finished last.

        Raises the FabricError that ended it. Closing the iterator cancels the task. Calling again with the id of a
        running task joins it where the place can do so.
        """
        ...

    async def cancel(self, task_id: TaskId) -> None:
        """Ends the task if it runs there. Nothing when it does not."""
        ...

    async def estimate(self, task: Task) -> Estimate:
        """What the task would take. Raises InputInvalid or ModelNotFound as `run` would."""
        ...

    async def start(self) -> None:
        """Begins to watch the place. Returns at once, also when the place cannot be reached yet."""
        ...

    async def close(self) -> None: ...
