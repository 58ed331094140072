"""A trace of a real node, replayed: the waits agree; and what one more model, less memory or another weight would change."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.engine import ModelSpec
from node.engines.fake import FakeEngine, Faults
from node.replay.cli import replay
from node.replay.compare import compared
from node.replay.plan import Added, Changes, planned
from node.replay.reading import Trace, read_trace
from node.replay.run import played
from node.trace import SUCCEEDED, CostsLine, ModelLine, NodeLine, TaskLine, written
from protos.errors import DoesNotFit, FabricError, InputInvalid, NotFound
from protos.types import Modality, ModelId, OrganizationId, Queued, Started, Task, TaskId, TextRequest

StartNode = Callable[..., AbstractAsyncContextManager[Any]]  # tests/node/conftest.py: a Client
GIB = 1 << 30
SECRET = "confidential"


# ---- recorded and replayed ----


async def test_the_waits_of_a_replay_are_those_that_a_real_node_had(start_node: StartNode, tmp_path: Path) -> None:
    """Within 40 %, though the machine is busy: what lies between two steps is not in the trace, nor are pauses of the loop."""
    path = tmp_path / "trace.jsonl"
    models = (
        '[[model]]\nid = "talk"\nengine = "fake"\nmodality = "text"\nseats = 2\npreload = true\nwaiting_limit = 40\n'
    )

    def slow(spec: ModelSpec) -> FakeEngine:
        return FakeEngine(spec, step_s=0.05, work=_rest)

    async with (
        asyncio.timeout(60),
        start_node(models, load=slow, trace=str(path)) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in range(24):
            request = TextRequest(prompt=f"{SECRET} " + "word " * (number % 7))
            task = Task(id=TaskId(f"t{number}"), request=request, organization_id=OrganizationId(f"firm-{number % 3}"))
            group.create_task(client.run(replace(task, model=ModelId("talk"))))
    text = path.read_text()
    assert not any(word in text for word in (SECRET, "word", "firm", "t23"))
    report = await asyncio.to_thread(compared, read_trace(path), Changes())  # it has an event loop of its own
    (talk,) = report.models
    assert (talk.requests, talk.refusals) == (24, {})
    assert talk.recorded is not None
    assert talk.replayed is not None
    for name in ("p50_s", "p95_s", "max_s"):
        assert getattr(talk.replayed, name) == pytest.approx(getattr(talk.recorded, name), rel=0.4)


def _rest(seconds: float) -> None:
    threading.Event().wait(seconds)


async def test_what_is_refused_cancelled_or_wrong_is_recorded_as_such(start_node: StartNode, tmp_path: Path) -> None:
    path, gate = tmp_path / "trace.jsonl", threading.Event()
    models = (
        '[[model]]\nid = "talk"\nengine = "fake"\nmodality = "text"\nseats = 1\nwaiting_limit = 1\ndefault = true\n'
    )

    def beside(spec: ModelSpec) -> FakeEngine:  # or the loop would not take the next one in while the gate is closed
        return FakeEngine(spec, faults=Faults(gate=gate), beside_threads=1)

    async with asyncio.timeout(60), start_node(models, load=beside, trace=str(path)) as client:
        await client.error_of(Task(id=TaskId("bad"), request=TextRequest(prompt=""), timeout_s=9.0))
        seated = client.events(Task(id=TaskId("a"), request=TextRequest(prompt="a b"), priority=70))
        while not isinstance(await anext(seated), Started):
            pass
        waits = client.events(Task(id=TaskId("b"), request=TextRequest(prompt="a b")))
        assert isinstance(await anext(waits), Queued)
        await client.error_of(Task(id=TaskId("c"), request=TextRequest(prompt="a b")))
        await client.daemon.service.cancel(TaskId("b"))
        gate.set()
        async for _ in seated:
            pass
    tasks = read_trace(path).tasks
    ends = {task.ended: task for task in tasks}
    assert sorted(ends) == ["cancelled", "input_validation_failed", "overloaded", "succeeded"]
    assert (ends["succeeded"].input, ends["succeeded"].output, ends["succeeded"].steps) == (2, 2, 2)
    assert (ends["succeeded"].priority, ends["input_validation_failed"].timeout_s) == (70, 9.0)
    assert ends["cancelled"].waited_s is None


async def test_a_trace_never_grows_beyond_its_bound(start_node: StartNode, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "trace.jsonl"
    models = '[[model]]\nid = "talk"\nengine = "fake"\nmodality = "text"\ndefault = true\n'
    async with asyncio.timeout(60), start_node(models, trace=str(path), trace_bytes=8000) as client:
        for number in range(60):
            await client.run(Task(id=TaskId(f"t{number}"), request=TextRequest(prompt="a")))
    older = path.with_name("trace.jsonl.1")
    assert path.stat().st_size + older.stat().st_size <= 8000
    assert read_trace(path).tasks  # it says all that a replay needs, though its beginning is in the other
    assert read_trace(older).tasks


async def test_a_trace_that_cannot_be_written_stops_the_start_with_its_name(
    start_node: StartNode, tmp_path: Path
) -> None:
    with pytest.raises(InputInvalid, match=r"trace.*cannot be written"):
        async with start_node(trace=str(tmp_path)):
            pass


# ---- a trace made here ----


def model_line(name: str, **changes: Any) -> ModelLine:  # Any: its fields
    line = ModelLine(
        at_s=0.0,
        model=name,
        modality=Modality.EMBEDDING,
        seats=4,
        waiting_limit=256,
        weight=1.0,
        keep_alive_s=None,
        pin=False,
        preload=False,
        beside_threads=0,
        bytes=4 * GIB,
        load_s=2.0,
    )
    return replace(line, **changes)


def task_line(name: str, at_s: float, **changes: Any) -> TaskLine:  # Any: its fields
    line = TaskLine(
        at_s=at_s,
        model=name,
        modality=Modality.EMBEDDING,
        organization=1,
        priority=50,
        timeout_s=None,
        input=100.0,
        output=0,
        steps=10,
        units=100,
        device_s=0.2,
        waited_s=0.0,
        took_s=0.2,
        ended=SUCCEEDED,
    )
    return replace(line, **changes)


def trace(*tasks: TaskLine, capacity_bytes: int = 10 * GIB, models: tuple[ModelLine, ...] = ()) -> Trace:
    """Steps of 20 ms and more by their units."""
    node = NodeLine(
        at_s=0.0,
        version=1,
        capacity_bytes=capacity_bytes,
        threads=1,
        quantum_s=0.05,
        load_wait_s=300.0,
        load_retry_s=10.0,
        min_residency_s=10.0,
    )
    lines = models or tuple(model_line(name) for name in sorted({task.model for task in tasks}))
    costs = {
        line.model: CostsLine(at_s=0.0, model=line.model, per_unit_s=0.001, fixed_s=0.01, most_units=64)
        for line in lines
    }
    return Trace(node, {line.model: line for line in lines}, costs, tasks)


def steady(name: str, *, per_s: float, seconds: float, **changes: Any) -> list[TaskLine]:  # Any: fields of a line
    return [task_line(name, number / per_s, **changes) for number in range(int(seconds * per_s))]


def test_one_more_model_that_fits_makes_the_others_wait_a_little() -> None:
    report = compared(trace(*steady("chat", per_s=2.0, seconds=60.0)), Changes(added=(Added(model="new", per_s=1.0),)))
    chat, new = report.models
    assert report.verdict.startswith("All models fit at once: 8.00 GiB of 10.00 GiB.")
    assert (chat.loads, new.loads, new.evictions) == (1, 1, 0)
    assert new.requests == 60
    assert new.recorded is None
    assert chat.before is not None
    assert chat.replayed is not None
    assert chat.replayed.p95_s >= chat.before.p95_s
    assert chat.device_share > new.device_share > 0


def test_one_more_model_that_does_not_fit_takes_turns() -> None:
    added = Added(model="new", peak_bytes=8 * GIB, per_s=0.5)
    report = compared(trace(*steady("chat", per_s=1.0, seconds=120.0)), Changes(added=(added,)))
    chat, new = report.models
    assert "do not fit at once (12.00 GiB of 10.00 GiB) and take turns" in report.verdict
    assert new.loads > 1
    assert chat.evictions > 0
    assert chat.before is not None
    assert chat.replayed is not None
    assert chat.replayed.max_s > 4.0 > chat.before.max_s  # a load of the new one takes 4 s, having twice the bytes


def test_a_model_that_can_never_fit_is_said_so() -> None:
    added = Added(model="new", peak_bytes=11 * GIB)
    with pytest.raises(DoesNotFit, match=r"model 'new' needs 11\.00 GiB .* may use 10\.00 GiB"):
        compared(trace(*steady("chat", per_s=1.0, seconds=5.0)), Changes(added=(added,)))


def test_a_weight_gives_a_model_more_of_a_device_that_is_wanted_by_two() -> None:
    both = [*steady("a", per_s=8.0, seconds=20.0), *steady("b", per_s=8.0, seconds=20.0)]
    tasks = sorted(both, key=lambda task: task.at_s)
    equal = played(planned(trace(*tasks), Changes()))
    heavier = played(planned(trace(*tasks), Changes(weights={"a": 4.0})))

    def mean_s(of: Any) -> float:  # Any: Played
        took = [met.took_s for met in of.met if met.model == "a"]
        return sum(took) / len(took)

    assert mean_s(heavier) < 0.8 * mean_s(equal)


def test_the_same_trace_gives_the_same_report_and_an_hour_takes_seconds() -> None:
    recorded = trace(*steady("chat", per_s=0.1, seconds=3600.0))
    changes = Changes(added=(Added(model="new", per_s=0.05),), seed=3)
    began_s = time.process_time()
    first = compared(recorded, changes)
    assert 2 * first.lasted_s > 20 * (time.process_time() - began_s)  # it was played twice
    assert first == compared(recorded, changes)
    assert first.lasted_s > 3590


def test_a_caller_who_left_leaves_again_and_what_was_wrong_is_wrong_again() -> None:
    lines = [
        task_line("m", 0.0),
        task_line("m", 0.0, ended="input_validation_failed", steps=0, waited_s=None),
        task_line("m", 0.1, ended="cancelled", steps=0, took_s=0.05, waited_s=None),
        task_line("m", 0.2, ended="overloaded", steps=0, took_s=0.0, waited_s=None),
    ]
    met = played(planned(trace(*lines), Changes())).met
    assert [each.ended for each in met] == ["succeeded", "input_validation_failed", "cancelled", "succeeded"]


# ---- the command ----


def write(path: Path, recorded: Trace) -> Path:
    lines = [recorded.node, *recorded.models.values(), *recorded.costs.values(), *recorded.tasks]
    path.write_text("".join(written(line) + "\n" for line in lines))
    return path


def test_the_command_prints_a_line_for_each_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "t.jsonl", trace(*steady("chat", per_s=2.0, seconds=10.0)))
    replay(
        path, with_model=["new,like=chat,bytes=2GiB,rate=1"], memory="24GiB", weight=["chat=2"], seed=0, as_json=False
    )
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[:3]] == ["model", "chat", "new"]
    assert "All models fit at once: 6.00 GiB of 24.00 GiB." in shown
    replay(path, with_model=None, memory=None, weight=None, seed=0, as_json=True)
    assert json.loads(capsys.readouterr().out)["models"][0]["requests"] == 20


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"with_model": ["chat"]}, "adds 'chat', which is there already"),
        ({"with_model": ["new,like=nobody"]}, "is like 'nobody'"),
        ({"with_model": ["new,size=3"]}, "has 'size=3'"),
        ({"with_model": ["new,rate=0"]}, "has 'rate=0'"),
        ({"with_model": ["bytes=3GiB"]}, "begin with the name"),
        ({"memory": "lots"}, "has 'lots' for bytes"),
        ({"weight": ["chat"]}, "give MODEL=WEIGHT"),
        ({"weight": ["other=2"]}, "names 'other'"),
    ],
)
def test_options_that_make_no_sense_say_what_would(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    path = write(tmp_path / "t.jsonl", trace(*steady("chat", per_s=2.0, seconds=5.0)))
    given: dict[str, Any] = {"with_model": None, "memory": None, "weight": None, "seed": 0, "as_json": False}
    with pytest.raises(InputInvalid, match=says):
        replay(path, **{**given, **options})


GOOD = written(model_line("m"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("not json\n", "line 1: is no JSON"),
        (f"{GOOD}\n[1]\n", "line 2: is of no kind"),
        (f'{GOOD}\n\n{{"kind":"dream"}}\n', "line 3: is of no kind that a trace has \\('dream'\\)"),
        (GOOD.replace('"seats":4', '"seats":"four"') + "\n", "line 1: has seats = 'four': give int"),
        (GOOD.replace('"seats":4,', "") + "\n", "line 1: has no 'seats'"),
        (GOOD.replace('"weight":1.0', '"weight":-1') + "\n", "line 1: has weight = -1: give float, not below 0"),
        (written(task_line("ghost", 0.0)) + "\n", "line 1: is a task of model 'ghost'"),
        (f"{GOOD}\n", "has no line of a node"),
        ("", "has no line of a node"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_with_the_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(text)
    with pytest.raises(InputInvalid, match=says):
        read_trace(path)


def test_a_trace_of_a_node_without_tasks_or_of_another_version_or_nowhere_says_so(tmp_path: Path) -> None:
    recorded = trace(*steady("m", per_s=1.0, seconds=3.0))
    path = write(tmp_path / "t.jsonl", recorded)
    text = path.read_text()
    says: list[tuple[str, type[FabricError], str]] = [
        (text.replace('"version":1', '"version":2'), InputInvalid, "line 1: is of version 2"),
        (text[: text.index('{"kind":"task"')], InputInvalid, "has no tasks"),
    ]
    for changed, kind, message in says:
        path.write_text(changed)
        with pytest.raises(kind, match=message):
            read_trace(path)
    with pytest.raises(NotFound, match="cannot be read"):
        read_trace(tmp_path / "nowhere")


def test_a_line_that_a_dying_node_did_not_end_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", trace(*steady("m", per_s=1.0, seconds=3.0)))
    with path.open("a") as file:
        file.write('{"kind":"ta')
    assert len(read_trace(path).tasks) == 3
