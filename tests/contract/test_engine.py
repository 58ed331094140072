"""What every engine does, as node/engine.py promises it."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from closeness import is_close

from node.engine import Done, Engine, Failed, Prepared, Step, StepEvent
from protos.errors import FabricError, InputInvalid
from protos.types import (
    ImageRequest,
    Modality,
    ModelId,
    Progress,
    Task,
    TaskId,
    TaskResult,
    TextRequest,
)

Case = Any  # EngineCase of conftest.py, which cannot be imported


def prepare(engine: Engine, case: Case, number: int, name: str | None = None) -> Prepared:
    return engine.prepare(Task(id=TaskId(name or f"task-{number}"), request=case.request(number)))


def run(engine: Engine) -> list[tuple[TaskId, StepEvent]]:
    events: list[tuple[TaskId, StepEvent]] = []
    while engine.seated:
        events.extend(engine.step(None).events)
    return events


def results(engine: Engine, events: Sequence[tuple[TaskId, StepEvent]]) -> dict[TaskId, TaskResult]:
    return {task_id: engine.finish(event.raw) for task_id, event in events if isinstance(event, Done)}


def alone(engine: Engine, case: Case, number: int) -> TaskResult:
    prepared = prepare(engine, case, number)
    assert engine.admit(prepared)
    return results(engine, run(engine))[prepared.task.id]


def test_it_says_what_it_is(engine: Engine, engine_case: Case) -> None:
    assert engine.model == ModelId("contracted")
    assert engine.modality == engine_case.modality
    assert engine.seats == 3
    assert engine.seated == 0
    assert engine.context_tokens >= 0
    assert (engine.beside_threads > 0) == (engine_case.name in {"whisper", "fake-beside"})
    assert engine.held_bytes() > 0


def test_a_task_ends_once_with_a_result(engine: Engine, engine_case: Case) -> None:
    prepared = prepare(engine, engine_case, 1)
    assert engine.admit(prepared)
    assert engine.seated == 1
    events = run(engine)
    assert {task_id for task_id, _ in events} == {prepared.task.id}
    assert [type(event) for _, event in events if isinstance(event, Done | Failed)] == [Done]
    assert isinstance(events[-1][1], Done)
    assert results(engine, events)


def test_a_result_does_not_depend_on_batch_mates(engine: Engine, engine_case: Case) -> None:
    expected = {TaskId(f"task-{n}"): alone(engine, engine_case, n) for n in range(3)}
    for number in range(3):
        assert engine.admit(prepare(engine, engine_case, number))
    found = results(engine, run(engine))
    for task_id, result in expected.items():
        assert is_close(found[task_id], result)


def test_a_full_engine_has_no_room_and_an_empty_one_always_has(engine: Engine, engine_case: Case) -> None:
    admitted = [engine.admit(prepare(engine, engine_case, n)) for n in range(5)]
    assert admitted == [True, True, True, False, False]
    assert engine.seated == 3
    run(engine)
    assert engine.admit(prepare(engine, engine_case, 3))
    run(engine)


def test_steps_report_only_who_is_seated_and_always_move(engine: Engine, engine_case: Case) -> None:
    for number in range(2):
        engine.admit(prepare(engine, engine_case, number))
    seated = {TaskId("task-0"), TaskId("task-1")}
    while engine.seated:
        step: Step = engine.step(1e-9)
        assert sum(step.work.values()) > 0
        assert set(step.work) <= seated
        assert {task_id for task_id, _ in step.events} <= seated
        seated -= {task_id for task_id, event in step.events if isinstance(event, Done | Failed)}
        assert engine.seated == len(seated)


def test_a_cancelled_task_is_in_no_later_step_and_others_go_on(engine: Engine, engine_case: Case) -> None:
    expected = alone(engine, engine_case, 2)
    for number in (1, 2):
        engine.admit(prepare(engine, engine_case, number))
    engine.cancel(TaskId("task-1"))
    assert engine.seated == 1
    events = run(engine)
    assert {task_id for task_id, _ in events} == {TaskId("task-2")}
    assert is_close(results(engine, events)[TaskId("task-2")], expected)


def test_cancelling_a_task_without_a_seat_does_nothing(engine: Engine, engine_case: Case) -> None:
    engine.cancel(TaskId("never-seen"))
    engine.admit(prepare(engine, engine_case, 0))
    engine.cancel(TaskId("never-seen"))
    assert engine.seated == 1
    run(engine)
    engine.cancel(TaskId("task-0"))
    assert engine.seated == 0


def test_progress_grows_and_ends_before_or_at_1(engine: Engine, engine_case: Case) -> None:
    engine.admit(prepare(engine, engine_case, 1))
    fractions = [event.fraction for _, event in run(engine) if isinstance(event, Progress)]
    assert fractions == sorted(fractions)
    assert all(0 < fraction <= 1 for fraction in fractions)


def test_the_assumed_usage_is_an_upper_bound_of_the_real_one(engine: Engine, engine_case: Case) -> None:
    prepared = prepare(engine, engine_case, 1)
    engine.admit(prepared)
    (used,) = [event.usage for _, event in run(engine) if isinstance(event, Done)]
    assert used.input_tokens == prepared.usage.input_tokens
    assert used.output_tokens <= prepared.usage.output_tokens
    assert used.device_seconds == 0
    assert prepared.expected_s >= 0


def test_an_invalid_request_is_refused_with_its_field(engine: Engine, engine_case: Case) -> None:
    with pytest.raises(InputInvalid) as caught:
        engine.prepare(Task(id=TaskId("bad"), request=engine_case.bad))
    assert all(error["path"] for error in caught.value.details["errors"])
    assert engine.seated == 0


def test_prepare_runs_on_many_threads_at_a_time(engine: Engine, engine_case: Case) -> None:
    expected = prepare(engine, engine_case, 2).payload
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.extend(prepare(engine, engine_case, 2).payload for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [expected] * 80


def test_a_step_may_run_on_any_thread(engine: Engine, engine_case: Case) -> None:
    """The loader's thread warms up, the loop's steps, and beside it a thread of the engine's own."""
    expected = alone(engine, engine_case, 1)
    prepared = prepare(engine, engine_case, 1)
    assert engine.admit(prepared)
    events: list[tuple[TaskId, StepEvent]] = []
    while engine.seated:
        thread = threading.Thread(target=lambda: events.extend(engine.step(None).events))
        thread.start()
        thread.join(30)
    assert is_close(results(engine, events)[prepared.task.id], expected)


def test_a_request_of_another_modality_is_a_named_error(engine: Engine, engine_case: Case) -> None:
    is_image = engine.modality is Modality.IMAGE
    other = TextRequest(prompt="a cat") if is_image else ImageRequest(prompt="a cat")
    task = Task(id=TaskId("other"), request=other)
    if engine_case.name.startswith("fake"):  # it serves every modality
        assert engine.prepare(task).task is task
        return
    with pytest.raises(FabricError):
        engine.prepare(task)


def test_warming_up_seats_nobody_and_changes_no_result(engine: Engine, engine_case: Case) -> None:
    expected = alone(engine, engine_case, 0)
    engine.warm_up()
    assert engine.seated == 0
    assert is_close(alone(engine, engine_case, 0), expected)


def test_it_closes(load_engine: Callable[[], Engine]) -> None:
    engine = load_engine()
    engine.warm_up()
    engine.close()
