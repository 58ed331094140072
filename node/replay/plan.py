"""From a trace and what is to be changed to what is played: the site, and every task with what it asks for. Pure.

A task that ended before its last step, or never began, asks for what the model's middle one did. Its caller goes away when
it did then. What was refused at the door comes again: it is demand.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Final

from node.engine import ModelSpec
from node.occupancy import Residency
from node.replay.engine import Manner, Needs
from node.replay.node import Site
from node.replay.reading import Trace
from node.scheduler.costs import Line
from node.trace import SUCCEEDED, ModelLine, TaskLine
from protos.errors import Code, InputInvalid
from protos.types import ModelId

_REFUSED_AS_WRONG: Final = frozenset({Code.INVALID_REQUEST, Code.INPUT_VALIDATION_FAILED})
_LEFT: Final = frozenset({Code.CANCELLED})
_MOST: Final = 1_000_000  # tasks of an added model: more is a mistake in its rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A model that the node did not have. What is None is as with `like`."""

    model: str
    like: str | None = None  # whose requests and steps it has; None: those of the busiest one
    peak_bytes: int | None = None
    per_s: float | None = None  # requests
    weight: float | None = None
    load_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to be otherwise than it was."""

    added: tuple[Added, ...] = ()
    capacity_bytes: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Coming:
    """A task that will come."""

    at_s: float  # after the first
    line: TaskLine
    needs: Needs
    leaves_s: float | None  # its caller goes away so long after it came


@dataclass(frozen=True, slots=True)
class Plan:
    site: Site
    tasks: Sequence[Coming]  # by time
    like: Mapping[str, str]  # of each added model


def planned(trace: Trace, changes: Changes) -> Plan:
    """Raises InputInvalid for a model that is not there, or is there twice."""
    models = _weighted(trace.models, changes.weights)
    tasks = list(trace.tasks)
    manners = {name: _manner(trace, name) for name in models}
    like: dict[str, str] = {}
    for added in changes.added:
        like[added.model] = twin = _twin(trace, models, added)
        models[added.model], manners[added.model] = _added(models[twin], manners[twin], added)
        tasks += _arrivals(trace, twin, added, random.Random(f"{changes.seed} {added.model}"))
    tasks.sort(key=lambda task: (task.at_s, task.model))
    middle = {name: _middle(trace.tasks, like.get(name, name)) for name in models}
    began_s = tasks[0].at_s
    node = trace.node
    site = Site(
        models=[_spec(line) for line in models.values()],
        manners={ModelId(name): manner for name, manner in manners.items()},
        capacity_bytes=changes.capacity_bytes or node.capacity_bytes,
        quantum_s=node.quantum_s,
        threads=node.threads,
        residency=Residency(
            load_wait_s=node.load_wait_s, load_retry_s=node.load_retry_s, min_residency_s=node.min_residency_s
        ),
    )
    return Plan(site, [_coming(task, task.at_s - began_s, middle[task.model]) for task in tasks], like)


def _weighted(models: Mapping[str, ModelLine], weights: Mapping[str, float]) -> dict[str, ModelLine]:
    for name in weights:
        if name not in models:
            raise InputInvalid.at("--weight", f"names {name!r}: the trace has {', '.join(models)}")
    return {name: replace(line, weight=weights.get(name, line.weight)) for name, line in models.items()}


def _twin(trace: Trace, models: Mapping[str, ModelLine], added: Added) -> str:
    if added.model in models:
        raise InputInvalid.at("--with-model", f"adds {added.model!r}, which is there already: give it another name")
    busy = [task.model for task in trace.tasks]
    twin = added.like or max(sorted(set(busy)), key=busy.count)
    if twin not in busy:
        raise InputInvalid.at(
            "--with-model", f"is like {twin!r}, of which the trace has no task: it has {', '.join(sorted(set(busy)))}"
        )
    return twin


def _added(line: ModelLine, manner: Manner, added: Added) -> tuple[ModelLine, Manner]:
    peak_bytes = added.peak_bytes or manner.peak_bytes
    scaled_s = manner.load_s * peak_bytes / max(1, manner.peak_bytes)  # a load reads the model's bytes
    load_s = scaled_s if added.load_s is None else added.load_s
    model = replace(
        line, model=added.model, weight=added.weight or line.weight, preload=False, pin=False, bytes=peak_bytes
    )
    return model, replace(manner, peak_bytes=peak_bytes, load_s=load_s)


def _arrivals(trace: Trace, twin: str, added: Added, chance: random.Random) -> list[TaskLine]:
    """At random times, as many as its rate makes in the time of the trace; each like one of its twin's."""
    models = [task for task in trace.tasks if task.model == twin]
    began_s, ends_s = trace.tasks[0].at_s, trace.tasks[-1].at_s
    per_s = added.per_s if added.per_s is not None else len(models) / max(ends_s - began_s, 1.0)
    count = round(per_s * (ends_s - began_s))
    if count > _MOST:
        raise InputInvalid.at(
            "--with-model", f"gives {added.model!r} {count} requests: give a rate that makes at most {_MOST}"
        )
    times = sorted(chance.uniform(began_s, ends_s) for _ in range(max(1, count)))
    return [replace(chance.choice(models), at_s=at_s, model=added.model) for at_s in times]


def _manner(trace: Trace, name: str) -> Manner:
    line, costs = trace.models[name], trace.costs.get(name)
    done = [task for task in trace.tasks if task.model == name and task.steps]
    cost = Line(costs.per_unit_s, costs.fixed_s) if costs else _cost_of_tasks(done)
    return Manner(
        cost=cost,
        most_units=max(costs.most_units if costs else 1, 1),
        peak_bytes=line.bytes,
        load_s=line.load_s or 0.0,
        beside_threads=line.beside_threads,
    )


def _cost_of_tasks(done: Sequence[TaskLine]) -> Line:
    """Where no line tells what steps cost: in proportion to the units."""
    units = sum(task.units for task in done)
    return Line(sum(task.device_s for task in done) / units if units else 0.0, 0.0)


def _middle(tasks: Sequence[TaskLine], model: str) -> Needs:
    """Of those that ran to their end, by the means of steps and units."""
    done = [task for task in tasks if task.model == model and task.ended == SUCCEEDED and task.steps]
    if not done:
        return Needs()
    return Needs(max(1, round(fmean(t.steps for t in done))), max(1, round(fmean(t.units for t in done))))


def _coming(task: TaskLine, at_s: float, middle: Needs) -> Coming:
    leaves_s = task.took_s if task.ended in _LEFT else None
    if task.ended in _REFUSED_AS_WRONG and not task.steps:
        return Coming(at_s, task, Needs(fault=InputInvalid.at("request", "was refused when it was recorded")), leaves_s)
    ran = task.ended == SUCCEEDED and task.steps
    return Coming(at_s, task, Needs(task.steps, max(1, task.units)) if ran else middle, leaves_s)


def _spec(line: ModelLine) -> ModelSpec:
    return ModelSpec(
        id=ModelId(line.model),
        engine="replay",
        modality=line.modality,
        seats=line.seats,
        waiting_limit=line.waiting_limit,
        keep_alive_s=line.keep_alive_s,
        preload=line.preload,
        pin=line.pin,
        weight=line.weight,
    )
