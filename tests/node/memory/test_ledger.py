"""What the ledger decides, and what it never does."""

from hypothesis import given
from hypothesis import strategies as st

from node.memory.ledger import Decision, Evict, Ledger, Load, Refuse, Resident, Wait, claims, decide, expected_bytes
from protos.types import ModelId

A, B, C = ModelId("a"), ModelId("b"), ModelId("c")


def resident(
    model: ModelId, *, is_busy: bool = False, age_s: float = 100.0, rate: float = 1.0, reload_s: float = 1.0
) -> Resident:
    return Resident(model=model, is_busy=is_busy, age_s=age_s, arrivals_per_s=rate, reload_s=reload_s)


def decided(needed: int, *residents: Resident, foreign: int = 0, each: int = 40) -> Decision:
    """On a device of 100 bytes whose residents hold `each`."""
    return decide(Ledger(100, foreign, {r.model: each for r in residents}), needed, residents, min_residency_s=10)


def test_a_model_that_fits_is_loaded() -> None:
    assert decided(100) == Load()
    assert decided(60, resident(A)) == Load()


def test_a_model_larger_than_the_device_is_refused_with_the_numbers() -> None:
    assert decided(101) == Refuse(101, 100)


def test_what_other_processes_hold_is_never_promised() -> None:
    assert decided(60, foreign=50) == Wait(10)


def test_the_least_valuable_idle_model_goes() -> None:
    assert decided(50, resident(A, rate=5.0), resident(B, rate=0.1)) == Evict([B])
    assert decided(50, resident(A, reload_s=0.1), resident(B, reload_s=9.0)) == Evict([A])


def test_a_busy_model_stays_and_the_newcomer_waits() -> None:
    assert decided(50, resident(A, is_busy=True), resident(B, is_busy=True)) == Wait(30)


def test_a_model_stays_its_minimum() -> None:
    assert decided(70, resident(A, age_s=9.0)) == Wait(10)
    assert decided(70, resident(A, age_s=10.0)) == Evict([A])


def test_no_more_go_than_must() -> None:
    ledger = Ledger(100, 0, {A: 10, B: 80})
    assert decide(ledger, 80, [resident(A, rate=0.0), resident(B)], 0) == Evict([B])


def test_before_the_first_load_the_files_and_a_margin_are_expected() -> None:
    assert expected_bytes(1000) > 1200


def test_a_busy_model_that_had_its_minimum_is_claimed_by_one_that_waits() -> None:
    ledger = Ledger(100, 0, {A: 40, B: 40})
    residents = [resident(A, is_busy=True, rate=9.0), resident(B, is_busy=True)]
    assert claims(ledger, 50, residents, 10) == [B]
    assert claims(ledger, 50, [resident(A, age_s=1.0), resident(B, age_s=1.0)], 10) == ()


@given(
    capacity=st.integers(1, 1000),
    foreign=st.integers(0, 300),
    needed=st.integers(1, 1200),
    models=st.lists(st.tuples(st.integers(1, 400), st.booleans(), st.floats(0, 20), st.floats(0, 5)), max_size=6),
)
def test_what_is_promised_never_exceeds_the_device(
    capacity: int, foreign: int, needed: int, models: list[tuple[int, bool, float, float]]
) -> None:
    named = {ModelId(f"m{i}"): row for i, row in enumerate(models)}
    residents = [resident(m, is_busy=busy, age_s=age, rate=rate) for m, (_, busy, age, rate) in named.items()]
    ledger = Ledger(capacity, foreign, {m: row[0] for m, row in named.items()})
    decision = decide(ledger, needed, residents, min_residency_s=10)
    match decision:
        case Load():
            assert needed <= ledger.free_bytes
        case Evict(victims):
            assert needed <= ledger.free_bytes + sum(named[victim][0] for victim in victims)
            assert not any(named[victim][1] or named[victim][2] < 10 for victim in victims)
            assert all(
                ledger.free_bytes + sum(named[v][0] for v in victims if v != spared) < needed for spared in victims
            )
        case Wait(missing):
            assert missing > 0
        case Refuse():
            assert needed > capacity
