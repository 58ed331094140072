"""Who may be asked after a failure: never a second answer to one caller, never a second payment for one task."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import (
    ERROR_OF,
    Code,
    Draining,
    FabricError,
    InputInvalid,
    ModelNotFound,
    NodeUnavailable,
    Overloaded,
    QuotaExceeded,
    VendorRefused,
    error_from,
)
from protos.types import ModelId, ProviderId
from router.candidates import Candidate
from router.fallback import after_failure
from router.spending import Quote

_PRICES: Final = {"free": Quote(), "paid": Quote(estimated_micro=1, bound_micro=2), "unknown": None}


def place(kind: str, number: int = 0) -> Candidate:
    return Candidate(ProviderId(f"{kind}-{number}"), ModelId("m"), "as told", _PRICES[kind])


FREE, PAID, UNKNOWN = place("free"), place("paid"), place("unknown")
REST: Final = (PAID, FREE, UNKNOWN)

ERRORS = st.builds(error_from, st.sampled_from(Code), st.just("why"), may_have_run=st.booleans())
PLACES = st.builds(place, st.sampled_from(sorted(_PRICES)), st.integers(0, 9))


@given(ERRORS, PLACES, st.lists(PLACES), st.booleans())
def test_what_may_come_next_is_always_some_of_the_rest_in_its_order_and_never_too_much(
    error: FabricError, by: Candidate, rest: list[Candidate], has_output: bool
) -> None:
    following = after_failure(error, by, rest, has_output=has_output)
    remaining = iter(rest)
    assert all(candidate in remaining for candidate in following)  # a subsequence
    if has_output:
        assert not following
    if by.is_paid and error.may_have_run:
        assert not any(candidate.is_paid for candidate in following)
    if isinstance(error, InputInvalid) and (by.is_paid or error.may_have_run):
        assert not following


@pytest.mark.parametrize("error", [NodeUnavailable("gone"), VendorRefused("no"), ModelNotFound("not there")])
@pytest.mark.parametrize("by", [FREE, PAID, UNKNOWN])
def test_a_failure_that_cost_nothing_moves_on_to_everybody(error: FabricError, by: Candidate) -> None:
    assert after_failure(error, by, REST, has_output=False) == REST


def test_a_budget_that_one_call_does_not_fit_into_may_fit_another() -> None:
    assert after_failure(QuotaExceeded("spent"), PAID, REST, has_output=False) == REST


@pytest.mark.parametrize("by", [PAID, UNKNOWN])
def test_what_may_have_been_paid_is_done_again_only_where_it_is_free(by: Candidate) -> None:
    lost = NodeUnavailable("cut", may_have_run=True)
    assert after_failure(lost, by, REST, has_output=False) == (FREE,)
    assert after_failure(lost, by, (PAID,), has_output=False) == ()


@pytest.mark.parametrize("error", [Overloaded("full"), Draining("ending")])
def test_nobody_is_paid_because_a_free_place_is_full_for_a_while(error: FabricError) -> None:
    assert after_failure(error, FREE, REST, has_output=False) == (FREE,)
    assert after_failure(error, PAID, REST, has_output=False) == REST


def test_what_a_model_of_this_box_cannot_take_another_may() -> None:
    too_long = InputInvalid("is 9000 tokens long and the model's context is 2048")
    assert after_failure(too_long, FREE, REST, has_output=False) == REST
    assert after_failure(too_long, PAID, REST, has_output=False) == ()


def test_every_error_has_a_decision() -> None:
    for kind in ERROR_OF.values():
        after_failure(kind("why"), FREE, REST, has_output=False)
