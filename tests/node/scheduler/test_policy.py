"""Properties of the fair shares, simulated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.scheduler import policy
from node.scheduler.policy import Shares
from protos.types import ModelId

LENGTHS_S = st.floats(0.01, 0.3)
WEIGHTS = st.floats(0.25, 4.0)


def backlogged(lanes: dict[ModelId, tuple[float, float]], until_s: float) -> tuple[Shares, dict[ModelId, float]]:
    """Device seconds that each of `lanes` (step length, weight) got while all had work."""
    shares, used = Shares(), dict.fromkeys(lanes, 0.0)
    for model, (_, weight) in lanes.items():
        shares = policy.join(shares, model, weight)
    while sum(used.values()) < until_s:
        chosen, shares = policy.pick(shares, lanes)
        shares = policy.charge(shares, chosen, lanes[chosen][0])
        used[chosen] += lanes[chosen][0]
    return shares, used


@given(lanes=st.lists(st.tuples(LENGTHS_S, WEIGHTS), min_size=2, max_size=5))
def test_backlogged_lanes_get_their_weighted_share_though_steps_differ(lanes: list[tuple[float, float]]) -> None:
    named = {ModelId(f"m{i}"): lane for i, lane in enumerate(lanes)}
    _, used = backlogged(named, until_s=5.0)
    normalized = [used[model] / weight for model, (_, weight) in named.items()]
    slack = 2 * max(length / weight for length, weight in lanes)  # Source: the fairness bound of SFQ, theorem 1
    assert max(normalized) - min(normalized) <= slack + 1e-6


@given(lengths=st.lists(LENGTHS_S, min_size=2, max_size=5))
def test_no_backlogged_lane_waits_longer_than_the_others_take_for_their_turns(lengths: list[float]) -> None:
    models = {ModelId(f"m{i}"): length for i, length in enumerate(lengths)}
    shares, waited = Shares(), dict.fromkeys(models, 0.0)
    for model in models:
        shares = policy.join(shares, model, 1.0)
    for _ in range(100):
        chosen, shares = policy.pick(shares, models)
        shares = policy.charge(shares, chosen, models[chosen])
        for model, own_s in models.items():
            waited[model] = 0.0 if model == chosen else waited[model] + models[chosen]
            others = sum(max(length, own_s) * 2 for length in lengths)
            assert waited[model] <= others + max(lengths)


def test_an_idle_lane_costs_the_others_nothing() -> None:
    shares = policy.join(policy.join(Shares(), ModelId("busy"), 1.0), ModelId("idle"), 1.0)
    for _ in range(100):
        chosen, shares = policy.pick(shares, [ModelId("busy")])
        assert chosen == "busy"
        shares = policy.charge(shares, chosen, 0.1)


@given(idle_steps=st.integers(1, 500), length=LENGTHS_S)
def test_a_woken_lane_goes_first_but_catches_up_no_more_than_its_credit(idle_steps: int, length: float) -> None:
    busy, woken = ModelId("busy"), ModelId("woken")
    shares = policy.join(policy.join(Shares(), busy, 1.0), woken, 1.0)
    for _ in range(idle_steps):
        _, shares = policy.pick(shares, [busy])
        shares = policy.charge(shares, busy, length)
    shares = policy.wake(shares, woken)
    ahead_s = 0.0
    while (picked := policy.pick(shares, [busy, woken]))[0] == woken:
        shares = policy.charge(picked[1], woken, 0.01)
        ahead_s += 0.01
    assert 0 < ahead_s <= policy.WAKE_CREDIT_S + length + 0.02


def test_a_lane_cannot_shed_its_debt_by_going_idle() -> None:
    model = ModelId("m")
    shares = policy.charge(policy.join(Shares(), model, 1.0), model, 5.0)
    assert policy.wake(shares, model).lanes[model].virtual_s == pytest.approx(5.0)


def test_a_lane_that_joins_late_is_not_owed_the_past() -> None:
    shares, _ = backlogged({ModelId("a"): (0.1, 1.0)}, until_s=10.0)
    late = policy.join(shares, ModelId("b"), 1.0)
    assert late.lanes[ModelId("b")].virtual_s == late.now_s > 9


def test_a_step_is_bounded_only_while_another_lane_has_work() -> None:
    assert policy.quantum([ModelId("a")], 0.05) is None
    assert policy.quantum([ModelId("a"), ModelId("b")], 0.05) == 0.05


def test_a_lane_that_left_is_forgotten() -> None:
    shares = policy.leave(policy.join(Shares(), ModelId("a"), 1.0), ModelId("a"))
    assert ModelId("a") not in shares.lanes
