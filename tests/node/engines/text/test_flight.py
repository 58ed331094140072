"""The next step is launched before the last one's tokens are read, and nobody can tell by the answers."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from company import check_answers, requests
from host_recorder import HostRecorder
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from reference_varlen import reference_varlen
from tiny import Desk, build, greedy, llama_config, spec_of

from node.engine import Engine
from node.engines.text.flight import chosen
from node.engines.text.load import around
from node.engines.text.model import prove
from node.engines.text.sampler import Draw, Sampling
from protos.errors import Internal
from protos.types import TaskId, TextRequest

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recorder() -> HostRecorder:
    return HostRecorder()


@pytest.fixture(scope="module")
def flying_engine(llama_path: str, recorder: HostRecorder) -> Engine:
    """As on a GPU, but that each launch is over when it returns."""
    model = prove("tiny", build(llama_config()), CPU, reference_varlen)
    engine = around(model, spec_of(llama_path, step_tokens=16), recorder, is_ahead=True)
    engine.warm_up()
    return engine


@pytest.fixture(scope="module")
def plain_flying_engine(llama_path: str) -> Engine:
    """Neither the kernel nor the graphs are needed to be ahead."""
    return around(prove("tiny", build(llama_config()), CPU), spec_of(llama_path, step_tokens=16), is_ahead=True)


@pytest.fixture(scope="module", params=["by the kernel", "by the attention of a CPU"])
def ahead(request: pytest.FixtureRequest, flying_engine: Engine, plain_flying_engine: Engine) -> Engine:
    return flying_engine if request.param == "by the kernel" else plain_flying_engine


@pytest.fixture
def flying(flying_engine: Engine) -> Any:
    desk = Desk(flying_engine)
    yield desk
    assert desk.engine.seated == 0, "the test left a task seated"


company = given(st.lists(requests, min_size=2, max_size=7), st.integers(0, 1 << 32))
plain_company = given(
    st.lists(
        requests.map(lambda asked: replace(asked, n=1, logprobs=None, response_format=None, repetition_penalty=1.0,
                                           frequency_penalty=0.0, presence_penalty=0.0)),
        min_size=2, max_size=7,
    ),
    st.integers(0, 1 << 32),
)  # fmt: skip
phases = (Phase.reuse, Phase.generate)


@settings(max_examples=6, phases=phases)
@company
def test_no_company_changes_an_answer_while_steps_are_ahead(
    flying_engine: Engine, llama_engine: Engine, asked: list[TextRequest], chances: int
) -> None:
    check_answers(flying_engine, asked, chances, llama_engine)


@settings(max_examples=6, phases=phases)
@plain_company
def test_nor_where_every_step_is_ahead(
    ahead: Engine, llama_engine: Engine, asked: list[TextRequest], chances: int
) -> None:
    check_answers(ahead, asked, chances, llama_engine)


@pytest.mark.long
@settings(max_examples=200, phases=phases)
@company
def test_no_company_of_many_changes_an_answer_while_steps_are_ahead(
    flying_engine: Engine, llama_engine: Engine, asked: list[TextRequest], chances: int
) -> None:
    check_answers(flying_engine, asked, chances, llama_engine)


@pytest.mark.long
@settings(max_examples=200, phases=phases)
@plain_company
def test_nor_any_of_many_where_every_step_is_ahead(
    flying_engine: Engine, llama_engine: Engine, asked: list[TextRequest], chances: int
) -> None:
    check_answers(flying_engine, asked, chances, llama_engine)


def test_each_step_after_the_first_was_launched_before_the_last_was_read(flying: Desk, recorder: HostRecorder) -> None:
    flying.admit("one", greedy("hi", 6))
    begun = recorder.replays
    told = []
    while flying.engine.seated:
        flying.step()
        told.append((recorder.replays - begun, len("".join(flying.deltas.get("one", [])))))
    assert told == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (5, 6)]  # the prompt's step is not recorded


def test_nothing_is_ahead_while_others_want_the_device(flying: Desk, recorder: HostRecorder) -> None:
    flying.admit("one", greedy("hi", 4))
    flying.step()
    flying.step(1e-9)
    before = recorder.replays
    for _ in range(2):
        flying.step(1e-9)
    assert recorder.replays - before == 2
    assert flying.engine._air is None
    assert len(flying.done["one"].text) == 4


def test_an_answer_that_ends_while_a_step_is_ahead_has_no_token_of_it(flying: Desk, desk: Desk) -> None:
    full = desk.alone("full", greedy("stop test", 30)).text
    asked = greedy("stop test", 30, stop=(full[9:13],), seed=1)
    assert flying.alone("cut", asked) == desk.alone("cut", asked)
    assert flying.usage["cut"] == desk.usage["cut"]
    assert sum(flying.sizes) - sum(desk.sizes[-len(flying.sizes) :]) <= 1


def test_a_task_that_comes_again_under_its_name_gets_no_token_of_the_first(flying: Desk, desk: Desk) -> None:
    flying.admit("mate", greedy("mate", 12))
    flying.admit("twice", greedy("first", 12))
    for _ in range(4):
        flying.step()
    flying.engine.cancel(TaskId("twice"))
    flying.deltas.pop("twice")
    assert flying.admit("twice", greedy("second time", 12))
    flying.run()
    for name, said in (("twice", "second time"), ("mate", "mate")):
        assert flying.done[name] == desk.alone(f"again-{name}", greedy(said, 12))
        assert "".join(flying.deltas[name]) == flying.done[name].text


def test_all_can_be_cancelled_with_a_step_in_the_air(flying: Desk, desk: Desk) -> None:
    flying.admit("gone", greedy("gone", 12))
    for _ in range(3):
        flying.step()
    flying.engine.cancel(TaskId("gone"))
    assert flying.engine.seated == 0
    flying.admit("next", greedy("next", 8))
    assert set(flying.step()) == {"next"}  # not a step that served nobody
    flying.run()
    assert flying.done["next"] == desk.alone("next", greedy("next", 8))


def test_a_seeded_answer_draws_the_numbers_that_it_draws_alone(flying: Desk, desk: Desk) -> None:
    for seed in range(3):
        asked = TextRequest(prompt="tell", max_tokens=16, seed=seed)
        assert flying.alone(f"s{seed}", asked) == desk.alone(f"s{seed}", asked)


def test_a_poisoned_request_fails_alone_and_its_mates_go_on(flying: Desk, desk: Desk) -> None:
    for name in ("mate0", "bad", "mate1"):
        flying.admit(name, greedy(name, 12))
    while flying.engine._seats[1].pending > 1:
        flying.step()
    pool = flying.engine._pool
    pool._values[0].view(5, 96, 2, 8)[1, 0] = float("nan")
    flying.run()
    assert isinstance(flying.failed["bad"], Internal)
    assert flying.done == {name: desk.alone(name, greedy(name, 12)) for name in ("mate0", "mate1")}
    assert all(tensor[: pool.scratch * 96].isfinite().all() for tensor in pool._values)


def test_what_is_chosen_from_numbers_that_are_not_finite_is_a_token() -> None:
    """The next step reads it before anybody knows."""
    logits = torch.full((3, 97), float("nan"))
    logits[1] = 0.0
    draws = [Draw(Sampling(), 0.5), Draw(Sampling(), 0.999), Draw(Sampling(temperature=0.0), 0.0)]
    tokens, is_sound = chosen(logits, draws)
    assert is_sound.tolist() == [False, True, False]
    assert 0 <= min(tokens.tolist()) <= max(tokens.tolist()) < 97


def test_a_launch_that_fails_loses_nothing_of_the_step_in_the_air(
    flying: Desk, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = TextRequest(prompt="once more", max_tokens=12, seed=3)
    flying.admit("again", asked)
    flying.step()
    with monkeypatch.context() as patch:
        patch.setattr(flying.engine._compute, "run", _raise)
        for _ in range(2):
            with pytest.raises(torch.OutOfMemoryError):
                flying.step()
    assert flying.engine.seated == 1
    flying.run()
    assert flying.done["again"] == desk.alone("expected", asked)
    assert "".join(flying.deltas["again"]) == flying.done["again"].text


def test_a_step_that_the_device_fails_after_its_launch_is_made_again(flying: Desk, desk: Desk) -> None:
    asked = [TextRequest(prompt=f"once more {i}", max_tokens=12, seed=i) for i in range(2)]
    for i in range(2):
        flying.admit(f"t{i}", asked[i])
    for _ in range(5):
        flying.step()
    flying.engine._air = replace(flying.engine._air, landing=_raise)
    with pytest.raises(torch.OutOfMemoryError):
        flying.step()
    assert flying.engine.seated == 2
    flying.run()
    assert [flying.done[f"t{i}"] for i in range(2)] == [desk.alone(f"t{i}", asked[i]) for i in range(2)]


def _raise(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("no memory left")
