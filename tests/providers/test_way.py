"""What the way to a node and back adds to what the node says."""

from protos.types import Estimate, Finished, ModelId, Queued, TextDelta, TextResult, Timings, Usage
from providers.way import Way

ESTIMATE = Estimate(
    model=ModelId("m"), usage=Usage(), queue_s=1.0, load_s=0.0, run_s=2.0, total_s=3.0, fits_memory=True
)


def finished(total_s: float) -> Finished:
    return Finished(TextResult("7", "stop"), Usage(), Timings(total_s=total_s))


def test_a_way_that_nobody_has_gone_adds_nothing() -> None:
    way = Way()
    assert way.told(Queued(0, 2.0), 0.0) == Queued(0, 2.0)
    assert way.estimated(ESTIMATE) == ESTIMATE


def test_what_comes_is_forecast_with_the_usual_way_of_those_that_came_back() -> None:
    way = Way()
    for age_s in (1.25, 1.25, 9.0):
        assert way.told(finished(1.0), age_s) == finished(1.0)
    assert way.told(Queued(3, 2.0), 0.1) == Queued(3, 2.25)
    found = way.estimated(ESTIMATE)
    assert (found.queue_s, found.run_s, found.total_s) == (1.0, 2.25, 3.25)


def test_what_is_no_forecast_passes_as_it_is() -> None:
    way = Way()
    way.told(finished(1.0), 2.0)
    assert way.told(Queued(1), 0.0) == Queued(1)
    assert way.told(TextDelta("a"), 0.0) == TextDelta("a")


def test_clocks_that_differ_add_no_negative_time() -> None:
    way = Way()
    way.told(finished(2.0), 1.0)
    assert way.estimated(ESTIMATE) == ESTIMATE
