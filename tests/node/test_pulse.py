"""Whether a model's work moves, and what that makes of the node."""

import pytest

from node.pulse import Pulse, unready_reason
from node.scheduler.loop import UnderWay
from protos.types import Modality, Model, ModelId, ModelState, ModelStatus

M = ModelId("m")


def pulse(
    state: ModelState = ModelState.READY, *, is_awaited: bool = False, idle_s: float = 0.0, error: str = ""
) -> Pulse:
    model = Model(id=M, modality=Modality.TEXT, state=state, is_default=True, memory_bytes=1, error=error)
    return Pulse(ModelStatus(model=model, waiting=2, running=1), is_awaited, idle_s)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (pulse(), ""),
        (pulse(ModelState.UNLOADED), ""),
        (pulse(ModelState.LOADING, is_awaited=True), "'m' is loading"),
        (pulse(ModelState.FAILED, is_awaited=True, error="no disk"), "could not be loaded: no disk"),
        (pulse(idle_s=29.0), ""),
        (pulse(idle_s=31.0), "3 tasks and made no step for 31 s"),
    ],
)
def test_a_node_is_ready_when_its_models_are_and_its_work_moves(given: Pulse, says: str) -> None:
    reason = unready_reason([given], 30.0, is_draining=False, call=None)
    assert (reason == "") == (says == "")
    assert says in reason


def test_a_draining_node_is_not_ready() -> None:
    assert unready_reason([pulse()], 30.0, is_draining=True, call=None) == "the node is draining"


def test_a_step_that_does_not_come_back_is_named() -> None:
    calls = [UnderWay(M, 29.0), UnderWay(M, 31.0)]
    assert [unready_reason([pulse()], 30.0, is_draining=False, call=call) for call in calls] == [
        "",
        "a step of model 'm' has not come back for 31 s",
    ]
