"""Who goes first when a deadline is near."""

from hypothesis import given
from hypothesis import strategies as st

from protos.types import ModelId, ProviderId
from router.candidates import Candidate
from router.spill import in_time_first

PLACES = st.lists(
    st.tuples(
        st.integers(0, 99).map(lambda n: Candidate(ProviderId(f"p{n}"), ModelId("m"), "as told")),
        st.none() | st.floats(0, 100),
    ),
    max_size=6,
    unique_by=lambda pair: pair[0].provider_id,
)


@given(PLACES, st.floats(-10, 110))
def test_nobody_is_lost_and_whoever_is_in_time_goes_before_whoever_is_late(
    places: list[tuple[Candidate, float | None]], left_s: float
) -> None:
    etas = {candidate.provider_id: eta_s for candidate, eta_s in places}
    order = [each.provider_id for each in in_time_first([c for c, _ in places], list(etas.values()), left_s)]
    assert sorted(order) == sorted(etas)
    late = [(eta_s := etas[name]) is not None and eta_s > left_s for name in order]
    if not all(late):
        assert late == sorted(late)
    given_order = list(etas)
    for part in (True, False):
        names = [name for name, is_late in zip(order, late, strict=True) if is_late is part]
        assert names == sorted(names, key=given_order.index)


def test_when_all_are_late_nothing_is_paid_for_it() -> None:
    free, paid = (Candidate(ProviderId(name), ModelId("m"), "as told") for name in ("free", "paid"))
    assert in_time_first([free, paid], [9.0, 8.0], 7.0) == [free, paid]


def test_who_is_put_behind_says_why() -> None:
    slow, fast = (Candidate(ProviderId(name), ModelId("m"), "as told") for name in ("slow", "fast"))
    assert [each.reason for each in in_time_first([slow, fast], [9.0, 1.0], 7.0)] == [
        "as told",
        "as told; should end in 9.0 s, and the deadline is in 7.0 s",
    ]
