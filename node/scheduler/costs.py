"""What a step costs: seconds = a * units + b, learned from the engine's own steps and forgetting old ones.

Not about who is charged for it (policy.py).
"""

from dataclasses import dataclass

_KEPT = 0.98  # of the weight of the past at each step: the last 50 steps or so decide, so a busy machine is noticed
_SPREAD = 1e-3  # (standard deviation / mean of the units) squared; below it the slope would be noise


@dataclass(frozen=True, slots=True)
class Line:
    """seconds = per_unit_s * units + fixed_s; neither is negative."""

    per_unit_s: float
    fixed_s: float


@dataclass(frozen=True, slots=True)
class Sums:
    """Weighted sums over the observed steps: all that a least-squares line needs."""

    weight: float = 0.0
    units: float = 0.0
    seconds: float = 0.0
    units_squared: float = 0.0
    units_seconds: float = 0.0

    @property
    def has_spread(self) -> bool:
        """Whether the steps differed enough in size to tell what a unit costs from what a step costs."""
        if self.units <= 0:
            return False
        mean_units = self.units / self.weight
        return self.units_squared / self.weight - mean_units * mean_units > _SPREAD * mean_units * mean_units

    def plus(self, units: int, seconds: float) -> "Sums":
        return Sums(
            _KEPT * self.weight + 1.0,
            _KEPT * self.units + units,
            _KEPT * self.seconds + seconds,
            _KEPT * self.units_squared + units * units,
            _KEPT * self.units_seconds + units * seconds,
        )


def line(sums: Sums) -> Line | None:
    """The least-squares line; through the origin while all steps were of about one size. None: nothing observed."""
    if sums.units <= 0:
        return None
    mean_units, mean_s = sums.units / sums.weight, sums.seconds / sums.weight
    if not sums.has_spread:
        return Line(mean_s / mean_units, 0.0)
    variance = sums.units_squared / sums.weight - mean_units * mean_units
    slope = (sums.units_seconds / sums.weight - mean_units * mean_s) / variance
    if slope <= 0:  # larger steps were not slower
        return Line(0.0, mean_s)
    if (fixed := mean_s - slope * mean_units) < 0:  # steeper than proportional: keep it through the origin
        return Line(sums.units_seconds / sums.units_squared, 0.0)
    return Line(slope, fixed)


class StepCosts:
    """The learned cost of one engine's steps, or of one shape class of them.

    `observe` is called by the loop thread alone; the others from any thread (they read one frozen value).
    """

    def __init__(self) -> None:
        self._sums = Sums()

    def observe(self, units: int, seconds: float) -> None:
        """One step of `units` (above 0) took `seconds`."""
        self._sums = self._sums.plus(units, seconds)

    @property
    def line(self) -> Line | None:
        """None while nothing has been observed."""
        return line(self._sums)

    @property
    def has_spread(self) -> bool:
        return self._sums.has_spread

    def seconds(self, units: int) -> float | None:
        """What a step of `units` should take. None while nothing has been observed."""
        found = line(self._sums)
        return found.per_unit_s * units + found.fixed_s if found else None

    def units_within(self, seconds: float) -> int | None:
        """The most units of a step that should end within `seconds`; at least 1, since a step must make progress.

        None where no bound is known: nothing observed yet, or larger steps do not take longer.
        """
        found = line(self._sums)
        if found is None or found.per_unit_s <= 0:
            return None
        return max(1, int((seconds - found.fixed_s) / found.per_unit_s))
