"""What a replay says to people and to programs: waits, shares, loads, refusals, and whether it fits. Pure.

Not about printing (cli.py).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from node.entries import size
from node.replay.plan import Plan
from node.replay.run import Met, Played
from node.trace import SUCCEEDED, TaskLine
from protos.types import ModelId


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds until a seat, of the tasks that got one."""

    p50_s: float
    p95_s: float
    max_s: float


def waits(seconds: Sequence[float]) -> Waits | None:
    """None: nobody waited. The smallest that so many did not exceed."""
    if not seconds:
        return None
    found = sorted(seconds)
    p50, p95 = (found[max(0, -(-len(found) * part // 100) - 1)] for part in (50, 95))
    return Waits(round(p50, 4), round(p95, 4), round(found[-1], 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    model: str
    requests: int
    recorded: Waits | None  # as it really was; None for a model that was not there
    replayed: Waits | None
    before: Waits | None  # replayed without the changes; None when there are none, or it was not there
    device_share: float  # of the whole time
    loads: int
    evictions: int  # and other unloads
    refusals: Mapping[str, int]  # by code, cancels included


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    models: Sequence[ModelReport]
    lasted_s: float
    needed_bytes: int  # by all models together
    capacity_bytes: int
    verdict: str

    @property
    def json(self) -> dict[str, object]:
        return asdict(self)


def reported(plan: Plan, now: Played, before: Played | None) -> Report:
    """before: the same trace without the changes; None when nothing is changed."""
    needed = sum(manner.peak_bytes for manner in plan.site.manners.values())
    models = [_model(plan, name, now, before) for name in map(str, plan.site.manners)]
    return Report(
        models=models,
        lasted_s=round(now.lasted_s, 3),
        needed_bytes=needed,
        capacity_bytes=plan.site.capacity_bytes,
        verdict=_verdict(models, needed, plan.site.capacity_bytes),
    )


def _model(plan: Plan, name: str, now: Played, before: Played | None) -> ModelReport:
    mine = [met for met in now.met if met.model == name]
    was_there = name not in plan.like
    loads = now.loads[ModelId(name)]
    return ModelReport(
        model=name,
        requests=len(mine),
        recorded=_recorded([coming.line for coming in plan.tasks if coming.line.model == name]) if was_there else None,
        replayed=_waits_of(mine),
        before=_waits_of([met for met in before.met if met.model == name])
        if before is not None and was_there
        else None,
        device_share=round(now.device_s[name] / max(now.lasted_s, 1e-9), 4),
        loads=loads,
        evictions=loads - (name in now.loaded),
        refusals=dict(sorted(Counter(met.ended for met in mine if met.ended != SUCCEEDED).items())),
    )


def _recorded(lines: Sequence[TaskLine]) -> Waits | None:
    return waits([line.waited_s for line in lines if line.waited_s is not None])


def _waits_of(met: Sequence[Met]) -> Waits | None:
    return waits([each.waited_s for each in met if each.waited_s is not None])


def _verdict(models: Sequence[ModelReport], needed: int, capacity: int) -> str:
    refused = sum(count for model in models for code, count in model.refusals.items() if code in _FOR_LACK)
    lost = f"; {refused} requests are refused for lack of room" if refused else ""
    if needed <= capacity:
        return f"All models fit at once: {size(needed)} of {size(capacity)}{lost}."
    loads = sum(model.loads for model in models)
    return f"The models do not fit at once ({size(needed)} of {size(capacity)}) and take turns: {loads} loads{lost}."


_FOR_LACK = frozenset({"overloaded", "load_failed", "does_not_fit", "deadline_exceeded"})
