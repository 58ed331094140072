"""How much each lane may claim."""

from hypothesis import given
from hypothesis import strategies as st

from protos.types import Modality, ModelId, ProviderId, Tier
from providers.base import Health, Offer, Snapshot
from router.capacity import UNSERVED_ROOM, Place, rooms

M = ModelId("m")


def node(name: str = "node", status: str = "healthy", max_batch: int = 4, model: ModelId = M) -> Snapshot:
    offer = Offer(model=model, modality=Modality.TEXT, is_default=True, max_batch=max_batch)
    return Snapshot(
        id=ProviderId(name),
        kind="node",
        tier=Tier.BASIC,
        offers=(offer,),
        health=Health(status=status),  # type: ignore[arg-type]  # one of the three
    )


UNSEEN = Snapshot(id=ProviderId("late"), kind="node", tier=Tier.BASIC, offers=(), health=Health(status="unavailable"))
HERE = Place(ProviderId("node"), M)


def test_a_lane_gets_twice_the_batch_less_what_runs() -> None:
    assert rooms(["m"], [node()], {}) == {"m": 8}
    assert rooms(["m"], [node()], {HERE: 5}) == {"m": 3}
    assert rooms(["m"], [node()], {HERE: 9}) == {}


def test_two_places_add_up() -> None:
    assert rooms(["m"], [node(), node("node-2", max_batch=1)], {HERE: 7}) == {"m": 3}


def test_lanes_of_one_model_share_its_room() -> None:
    assert rooms(["m", "default:text"], [node()], {}) == {"m": 4, "default:text": 4}


def test_a_place_that_is_down_gives_no_room_and_its_jobs_wait() -> None:
    assert rooms(["m"], [node(status="unavailable")], {}) == {}


def test_a_lane_that_nobody_serves_is_taken_to_be_failed() -> None:
    assert rooms(["nope", "default:image"], [node()], {}) == {"nope": UNSERVED_ROOM, "default:image": UNSERVED_ROOM}


def test_but_not_while_a_place_has_never_been_seen() -> None:
    assert rooms(["nope", "m"], [node(), UNSEEN], {}) == {"m": 8}


def test_a_model_with_the_name_of_a_default_lane_is_looked_up_as_that() -> None:
    assert rooms(["default:smells"], [node()], {}) == {"default:smells": UNSERVED_ROOM}


@given(
    st.lists(st.sampled_from(["m", "n", "default:text", "nope"]), unique=True),
    st.integers(1, 8),
    st.integers(0, 20),
)
def test_lanes_together_never_get_more_than_a_share_over_what_is_free(lanes: list[str], batch: int, runs: int) -> None:
    room = rooms(lanes, [node(max_batch=batch)], {HERE: runs})
    served = [count for lane, count in room.items() if lane in {"m", "default:text"}]
    assert sum(served) <= max(2 * batch - runs, 0) + max(len(served) - 1, 0)
