"""What a request gets does not depend on who else is there: random arrivals, leaves and cancels, for all modalities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pytest
import small_whisper
from closeness import is_close
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.engine import Done, Engine
from protos.types import (
    AudioRequest,
    EmbeddingRequest,
    ImageRequest,
    Modality,
    SegmentDelta,
    Task,
    TaskId,
    TaskRequest,
    TaskResult,
    TextDelta,
    TextRequest,
)

Case = Any  # EngineCase of conftest.py, which cannot be imported
REQUESTS: Final = 6  # of each modality


def text(number: int) -> TaskRequest:
    """Greedy and sampled, short and longer than a step."""
    prompt = "A circle is round. " * number + f"What is {number} plus 4?"
    return TextRequest(prompt=prompt, temperature=0.9 * (number % 2), seed=number, max_tokens=4 + 3 * number)


def embedding(number: int) -> TaskRequest:
    """Some fit a step together, some lists take several."""
    return EmbeddingRequest(texts=["round " * (1 + (number + i) % 5) for i in range(1 + 2 * number)])


def image(number: int) -> TaskRequest:
    return ImageRequest(
        prompt=("a red circle", "a blue square")[number % 2],
        steps=2 + number,
        guidance_scale=(1.0, 3.0, 5.0)[number % 3],
        n=1 + (number == 3),
        seed=10 * number,
    )


def noise(number: int) -> TaskRequest:
    """Of several lengths and languages; long ones have several windows."""
    seconds = (1.0, 3.0, 9.0, 40.0, 20.0, 2.0)[number]
    language = ("", "en", "de", "en", "fr", "")[number]
    return AudioRequest(
        audio=small_whisper.flac(small_whisper.noise(seconds, seed=number)), vad=False, language=language
    )


def speech(number: int) -> TaskRequest:
    """For a trained model: what is no speech it would try again at temperatures that nobody can seed."""
    said, pause = small_whisper.samples_of_file(), np.zeros(small_whisper.RATE_HZ // 2, np.float32)
    return AudioRequest(
        audio=small_whisper.flac(np.concatenate([said, pause] * (1, 2, 3, 13, 4, 5)[number])),  # one of two windows
        language="en",
        vad=number % 2 == 0,
    )


@pytest.fixture(scope="session")
def requests(company_case: Case, shipped_models: Mapping[str, str]) -> Sequence[TaskRequest]:
    audio = speech if "whisper" in shipped_models else noise
    make = {Modality.TEXT: text, Modality.EMBEDDING: embedding, Modality.IMAGE: image, Modality.AUDIO: audio}
    return [make[company_case.modality](number) for number in range(REQUESTS)]


@dataclass
class Ward:
    """An engine driven by hand, and what each of its tasks got."""

    engine: Engine
    requests: Sequence[TaskRequest]
    done: dict[int, TaskResult] = field(default_factory=dict)
    streamed: dict[int, list[object]] = field(default_factory=dict)

    def arrives(self, number: int) -> bool:
        """False when there was no room."""
        task = Task(id=TaskId(str(number)), request=self.requests[number])
        return self.engine.admit(self.engine.prepare(task))

    def step(self, quantum_s: float | None = None) -> None:
        for task_id, event in self.engine.step(quantum_s).events:
            if isinstance(event, Done):
                self.done[int(task_id)] = self.engine.finish(event.raw)
            elif isinstance(event, TextDelta | SegmentDelta):
                self.streamed.setdefault(int(task_id), []).append(event)

    def alone(self, number: int) -> TaskResult:
        assert self.arrives(number)
        while self.engine.seated:
            self.step()
        return self.done[number]


@pytest.fixture(scope="session")
def alone(_company_engine: Engine, requests: Sequence[TaskRequest]) -> Sequence[TaskResult]:
    return [Ward(_company_engine, requests).alone(number) for number in range(REQUESTS)]


orders = st.permutations(range(REQUESTS))
moves = st.lists(
    st.one_of(
        st.sampled_from(["arrive", "arrive", "step", "busy step"]).map(lambda move: (move, 0)),
        st.tuples(st.just("cancel"), st.integers(0, REQUESTS - 1)),
    ),
    max_size=20,
)


@pytest.mark.timeout(600)  # seconds, for every word of six recordings six times, on a machine that does more than that
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(order=orders, plan=moves)
def test_company_changes_no_result(
    company_engine: Engine,
    requests: Sequence[TaskRequest],
    alone: Sequence[TaskResult],
    order: list[int],
    plan: list[tuple[str, int]],
) -> None:
    ward, waiting, cancelled = Ward(company_engine, requests), list(order), set[int]()
    for move, number in plan:
        if move == "arrive" and waiting and ward.arrives(waiting[0]):
            waiting.pop(0)
        elif move == "cancel" and number not in waiting and number not in ward.done:
            company_engine.cancel(TaskId(str(number)))
            cancelled.add(number)
        elif move.endswith("step") and company_engine.seated:
            ward.step(1e-9 if move == "busy step" else None)
    while waiting or company_engine.seated:
        if waiting and ward.arrives(waiting[0]):
            waiting.pop(0)
        ward.step()
    assert set(ward.done) == set(order) - cancelled
    for number, result in ward.done.items():
        assert is_close(result, alone[number])
        assert told(ward.streamed.get(number, [])) == said(result)


def told(events: Sequence[object]) -> object:
    """What the events of a task amount to."""
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    return "".join(texts) or [event.segment for event in events if isinstance(event, SegmentDelta)]


def said(result: TaskResult) -> object:
    """What the events of that result must amount to."""
    segments = getattr(result, "segments", None)
    return list(segments) if segments is not None else getattr(result, "text", None) or []


def test_requests_differ_in_what_they_get(alone: Sequence[TaskResult]) -> None:
    """Or company could change nothing."""
    assert len({repr(result) + str(getattr(result, "vectors", "")) for result in alone}) == REQUESTS
