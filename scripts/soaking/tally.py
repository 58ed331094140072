"""What came of the requests of a soak, and what memory the process held: kept, judged, printed."""

import gc
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Final, Literal, TypeAlias

import psutil

from node.memory import host
from protos.errors import Cancelled, FabricError, InputInvalid, Internal
from protos.types import ModelId
from scripts.soaking.mix import Plan

Outcome: TypeAlias = Literal["finished", "refused", "cancelled", "left", "poisoned", "broken", "wrong"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("finished", "refused", "cancelled", "left", "poisoned", "broken", "wrong")
BROKEN_SHARE: Final = 0.1  # of a model's requests: more that fail for no fault of theirs is a fault
RESIDENT_SLACK: Final = 3  # pages with a few used bytes: 700 to 750 MiB was seen while 433 stayed allocated
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request ended. `said`: of a wrong end."""

    outcome: Outcome
    said: str = ""


def judged(plan: Plan, ends: int, error: FabricError | None, *, has_faults: bool = False) -> Answer:
    """ends: the Finished events that its caller read; error: what its stream ended with. has_faults: steps throw by chance.

    Who is alone when a step throws, or has all been heard, fails with it: nobody can tell that it was not the culprit.
    """
    if isinstance(error, Internal) and has_faults and not ends:
        return Answer("poisoned" if plan.is_poison else "broken")
    if error is None:
        if ends == 1 and not plan.is_bad and not plan.is_poison:
            return Answer("finished")
        return Answer("wrong", f"{ends} results of {'a bad' if plan.is_bad else 'a'} request: {plan.request!r:.200}")
    if isinstance(error, InputInvalid) and plan.is_bad and not ends:
        return Answer("refused")
    if isinstance(error, Cancelled) and plan.caller == "cancels" and not ends:
        return Answer("cancelled")
    return Answer("wrong", f"{type(error).__name__} after {ends} results: {error.message} ({plan.request!r:.200})")


@dataclass(frozen=True, slots=True)
class Memory:
    """Of this process at rest, with freed memory given back."""

    at_s: float
    allocated_mib: float  # by the C allocator
    resident_mib: float


def memory_now(at_s: float) -> Memory:
    gc.collect()
    host.trim()
    return Memory(at_s, host.allocated_bytes() / _MIB, psutil.Process().memory_info().rss / _MIB)


@dataclass(slots=True)
class Tally:
    outcomes: dict[ModelId, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    waits_s: dict[ModelId, list[float]] = field(default_factory=lambda: defaultdict(list))  # of those that finished
    wrongs: list[str] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    throws: dict[ModelId, tuple[int, int]] = field(default_factory=dict)  # steps, by chance and for poison

    @property
    def sent(self) -> int:
        return sum(sum(counts.values()) for counts in self.outcomes.values())

    def add(self, model: ModelId, answer: Answer, wait_s: float) -> None:
        self.outcomes[model][answer.outcome] += 1
        if answer.outcome == "finished":
            self.waits_s[model].append(wait_s)
        if answer.outcome == "wrong":
            self.wrongs.append(f"{model}: {answer.said}")

    def growth_mib(self) -> tuple[float, float]:
        """Allocated and resident: from the larger of the first two looks to the smaller of the last two.

        A single look is off by some 20 MiB, as caches fill and pages lie; what leaks is in all later ones.
        """
        first, last = self.memory[:2], self.memory[-2:]
        return (
            min(look.allocated_mib for look in last) - max(look.allocated_mib for look in first),
            min(look.resident_mib for look in last) - max(look.resident_mib for look in first),
        )

    def faults(self, growth_limit_mib: float) -> list[str]:
        """Why the soak failed; empty when it did not."""
        allocated, resident = self.growth_mib()
        grown = [
            ("the allocator holds", allocated, growth_limit_mib),
            ("resident memory is", resident, growth_limit_mib * RESIDENT_SLACK),
        ]
        return [
            *self.wrongs[:10],
            *(f"no request of {model} finished" for model in self.outcomes if not self.waits_s[model]),
            *(
                f"{counts['broken']} of {sum(counts.values())} requests of {model} failed with a step that was not theirs"
                for model, counts in self.outcomes.items()
                if counts["broken"] > max(3, BROKEN_SHARE * sum(counts.values()))
            ),
            *(f"{what} {more:.1f} MiB more than after the warm-up" for what, more, limit in grown if more > limit),
        ]

    def table(self) -> str:
        lines = [f"{'model':20}" + "".join(f"{outcome:>11}" for outcome in OUTCOMES) + f"{'p50 s':>9}{'p95 s':>9}"]
        for model, counts in sorted(self.outcomes.items()):
            p50, p95 = percentiles(self.waits_s[model])
            lines.append(f"{model:20}" + "".join(f"{counts[name]:11}" for name in OUTCOMES) + f"{p50:9.3f}{p95:9.3f}")
        lines += [
            f"after {look.at_s:6.0f} s: {look.allocated_mib:8.1f} MiB allocated, {look.resident_mib:8.1f} resident"
            for look in self.memory
        ]
        lines += [
            f"{model}: {by_chance} steps threw by chance, {by_poison} for a poison task"
            for model, (by_chance, by_poison) in self.throws.items()
        ]
        return "\n".join(lines)

    def figures(self) -> dict[str, object]:
        allocated, resident = self.growth_mib()
        models = {
            model: {**counts, "p50_s": round(percentiles(self.waits_s[model])[0], 4), "p95_s": round(percentiles(self.waits_s[model])[1], 4)}
            for model, counts in self.outcomes.items()
        }  # fmt: skip
        return {
            "requests": self.sent,
            "throws": self.throws,
            "models": models,
            "allocated_growth_mib": round(allocated, 2),
            "resident_growth_mib": round(resident, 2),
        }


def percentiles(waits_s: list[float]) -> tuple[float, float]:
    """The median and the 95th; 0 without any."""
    if len(waits_s) < 2:
        return (waits_s[0], waits_s[0]) if waits_s else (0.0, 0.0)
    cuts = quantiles(waits_s, n=20)
    return cuts[9], cuts[18]
