"""Order, bound and bookkeeping of the waiting rooms."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from node.scheduler.rooms import Room
from protos.types import DEFAULT_ORGANIZATION, OrganizationId, TaskId


@dataclass(frozen=True)
class Guest:
    task_id: TaskId
    organization_id: OrganizationId = DEFAULT_ORGANIZATION
    priority: int = 50


GUESTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=25).map(
    lambda rows: [Guest(TaskId(f"t{i}"), OrganizationId(org), priority) for i, (org, priority) in enumerate(rows)]
)


def room_of(guests: list[Guest]) -> Room[Guest]:
    room: Room[Guest] = Room()
    for guest in guests:
        room.put(guest)
    return room


def emptied(room: Room[Guest]) -> list[Guest]:
    return [room.take() for _ in range(len(room))]


@given(GUESTS)
def test_position_is_how_many_leave_before(guests: list[Guest]) -> None:
    for count in range(1, len(guests) + 1):
        room = room_of(guests[: count - 1])
        position = room.put(guests[count - 1])
        assert emptied(room).index(guests[count - 1]) == position


@given(GUESTS)
def test_higher_priorities_leave_first_and_each_organization_keeps_its_order(guests: list[Guest]) -> None:
    left = emptied(room_of(guests))
    assert [g.priority for g in left] == sorted((g.priority for g in guests), reverse=True)
    for organization in "abc":
        for priority in range(3):
            mine = [g for g in left if (g.organization_id, g.priority) == (organization, priority)]
            assert mine == [g for g in guests if g in mine]


@given(GUESTS)
def test_organizations_that_wait_together_are_never_two_turns_apart(guests: list[Guest]) -> None:
    room = room_of(guests)
    taken: dict[tuple[str, int], int] = {}
    waiting = {
        (g.organization_id, g.priority): sum(
            g.organization_id == o.organization_id and g.priority == o.priority for o in guests
        )
        for g in guests
    }
    for guest in emptied(room):
        key = (guest.organization_id, guest.priority)
        taken[key] = taken.get(key, 0) + 1
        for other, total in waiting.items():
            if other[1] == guest.priority and taken.get(other, 0) < total:
                assert taken[key] - taken.get(other, 0) <= 1


@given(GUESTS, st.data())
def test_cancelled_guests_leave_and_the_others_stay(guests: list[Guest], data: st.DataObject) -> None:
    gone = data.draw(st.lists(st.sampled_from(guests), unique=True)) if guests else []
    room = room_of(guests)
    for guest in gone:
        assert room.cancel(guest.task_id) is guest
        assert room.cancel(guest.task_id) is None
    assert set(emptied(room)) == set(guests) - set(gone)
    assert room.first() is None


def test_a_flood_from_one_organization_delays_another_by_one_task() -> None:
    flood = [Guest(TaskId(f"f{i}"), OrganizationId("flood")) for i in range(100)]
    late = Guest(TaskId("late"), OrganizationId("late"))
    assert room_of(flood).put(late) == 1


def test_first_does_not_take() -> None:
    guest = Guest(TaskId("t"))
    room = room_of([guest])
    assert room.first() is guest
    assert len(room) == 1
