"""Turns: organizations alternate, whatever each has waiting."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from router.store.group import Turns

ORGANIZATIONS = st.lists(st.sampled_from("abc"), max_size=30)


def arrive(organizations: list[str], turns: Turns) -> list[tuple[int, int, str]]:
    """(turn, arrival, organization) of each, as the queue sorts them."""
    taken = [(turns.take("lane", 50, name), arrival, name) for arrival, name in enumerate(organizations)]
    return sorted(taken)


@given(ORGANIZATIONS)
def test_of_those_that_wait_nobody_is_served_twice_before_another_once(organizations: list[str]) -> None:
    queue = [name for _, _, name in arrive(organizations, Turns({}, {}))]
    waiting, served = Counter(organizations), Counter()
    for name in queue:
        served[name] += 1
        for other, count in waiting.items():
            assert served[name] <= served[other] + 1 or served[other] == count


@given(ORGANIZATIONS)
def test_an_organizations_own_jobs_keep_their_order(organizations: list[str]) -> None:
    for name in set(organizations):
        arrivals = [arrival for _, arrival, owner in arrive(organizations, Turns({}, {})) if owner == name]
        assert arrivals == sorted(arrivals)


def test_a_newcomer_does_not_get_the_turns_that_have_passed() -> None:
    turns = Turns({("lane", 50): 500}, {("lane", 50, "old"): 900})
    assert turns.take("lane", 50, "new") == 500
    assert turns.take("lane", 50, "new") == 501
    assert turns.take("lane", 50, "old") == 901


def test_priorities_and_lanes_have_turns_of_their_own() -> None:
    turns = Turns({("lane", 50): 500}, {})
    assert (turns.take("lane", 51, "a"), turns.take("other", 50, "a")) == (1, 1)
